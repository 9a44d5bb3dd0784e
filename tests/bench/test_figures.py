"""Figures from canned lines."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from bench.grid.figures import FIGURES, main, write
from bench.grid.store import Store
from tests.bench.bench_data import make_record

SVG = "{http://www.w3.org/2000/svg}"


def test_a_figure_has_a_panel_for_each_round_trip_and_temperature(tmp_path: Path) -> None:
    """And in each a line through every rate; a paced run says so in the title."""
    store = Store(tmp_path, {})
    for rate in (32_000, 512_000):
        for temperature in (0.3, 1.0):
            for support_size in (2, 3, 8, 32):
                store.add(
                    make_record(
                        method=f"k-sqs:K={support_size}",
                        rate_up_bps=rate,
                        temperature=temperature,
                        pacing_base_s=0.1,
                    )
                )

    paths = write(tmp_path)

    assert [path.name for path in paths] == list(FIGURES)
    for path in paths:
        root = ElementTree.fromstring(path.read_text())
        lines = root.findall(f".//{SVG}polyline")
        assert len(lines) == 2 * 4
        assert all(len(line.attrib["points"].split()) == 2 for line in lines)
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        for mark in root.findall(f"./{SVG}circle"):  # the legend stays inside
            assert 0 < float(mark.attrib["cx"]) < width - 100
            assert 0 < float(mark.attrib["cy"]) < height
        assert any("(paced)" in (text.text or "") for text in root.iter(f"{SVG}text"))


def test_the_command_refuses_a_folder_without_a_run(tmp_path: Path) -> None:
    """Exit code 2."""
    assert main([str(tmp_path)]) == 2
