"""Figures from canned lines."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.charts import Panel
from bench.grid.figures import FIGURES, looks_of, main, write, write_worth
from bench.grid.methods import DEFAULT_METHODS
from tests.bench.bench_data import beside_a_stream, keep, make_record

Drawn = list[Sequence[Panel]]


def words(path: Path) -> str:
    """Every text."""
    root = ElementTree.fromstring(path.read_text())
    return " ".join(text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text"))


def test_a_figure_has_a_panel_for_each_round_trip_and_temperature(
    tmp_path: Path, drawn: Drawn, capsys: pytest.CaptureFixture[str]
) -> None:
    """And in each a line through every rate; a paced run says so in the title."""
    records = [
        make_record(method=f"k-sqs:K={k}", rate_up_bps=rate, temperature=temperature, pacing_base_s=0.1)
        for rate in (32_000, 512_000)
        for temperature in (0.3, 1.0)
        for k in (2, 3, 8, 32)
    ]

    assert main([str(keep(tmp_path, *records))]) == 0

    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in paths] == list(FIGURES)
    assert all("(paced)" in path.read_text() for path in paths)
    for panels in drawn:
        assert [len(panel.series) for panel in panels] == [4, 4]
        assert all(len(series.marks) == 2 for panel in panels for series in panel.series)


def test_no_two_methods_look_alike_even_without_colour() -> None:
    """Line and shape of the dots together; k-sqs alone has four of them."""
    looks = looks_of([*DEFAULT_METHODS, "c-sqs:beta=0.2"])

    assert len({(line, shape) for _, line, shape in looks.values()}) == len(looks) == 12


def test_a_point_has_a_bar_from_its_least_text_to_its_greatest(tmp_path: Path, drawn: Drawn) -> None:
    """With one text, or equal ones, there is none; the caption says what the bars are."""
    records = [make_record(prompt=f"p{number}", last_token_s=3.0 + number) for number in range(3)]

    path, _ = write(keep(tmp_path, *records, started_at="2026-11-26T12:00:00+00:00", machine="2 cores"))

    (mark,) = drawn[0][0].series[0].marks
    assert mark.ends == pytest.approx((9 / 5, 9 / 3))
    assert drawn[1][0].series[0].marks[0].ends is None
    assert "median of 3 texts of 9 tokens" in words(path)
    assert "from the least text to the greatest" in words(path)
    assert "2 cores; 2026-11-26" in words(path)


def test_the_figure_of_worth_shows_every_cell_and_marks_those_we_lose(tmp_path: Path, drawn: Drawn) -> None:
    """
    A tile a cell and baseline; what is won is bold, and the caption counts what is lost.

    A run that we lose by half on one link and win twofold on another; the same paced, won everywhere. The one
    scheme that is shown is the default one, even where another of ours is faster.
    """
    folders = []
    for name, lost_s, changes in (("plain", 2.0, {}), ("paced", 8.0, {"pacing_base_s": 0.1})):
        faster = make_record(method="c-sqs", way="c-sqs", last_token_s=0.1, **changes)
        texts = beside_a_stream({32_000: 8.0, 512_000: lost_s}, **changes)
        folders.append(keep(tmp_path / name, faster, *texts))

    assert write_worth(folders, tmp_path / "worth.svg")

    tiles = [tile for panel in drawn[0] for tile in panel.tiles]
    assert sorted((tile.text, tile.bold) for tile in tiles) == [("0.50", False), *[("2.00", True)] * 3]
    assert "a cell we lose (1 of 4)" in words(tmp_path / "worth.svg")
    assert "k-sqs:K=8: tokens/s over those of each baseline" in words(tmp_path / "worth.svg")
    assert [panel.title for panel in drawn[0]] == [
        "over cloud-stream, as it is",
        "over cloud-stream, paced 100 + 0 ms",
    ]


def test_without_a_baseline_there_is_no_figure_of_worth(tmp_path: Path) -> None:
    """Nothing is written."""
    assert not write_worth([keep(tmp_path, make_record())], tmp_path / "worth.svg")
    assert not (tmp_path / "worth.svg").exists()
