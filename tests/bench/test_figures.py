"""Figures from canned lines."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.charts import Panel
from bench.grid import worth
from bench.grid.figures import FIGURES, looks_of, main, write
from bench.grid.methods import DEFAULT_METHODS
from bench.grid.store import Store
from tests.bench.bench_data import make_record, stream

SVG = "{http://www.w3.org/2000/svg}"


def words(root: ElementTree.Element) -> list[str]:
    """Every text."""
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def test_a_figure_has_a_panel_for_each_round_trip_and_temperature(
    tmp_path: Path, drawn: list[Sequence[Panel]]
) -> None:
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
    assert all("(paced)" in path.read_text() for path in paths)
    for panels in drawn:
        assert [len(panel.series) for panel in panels] == [4, 4]
        assert all(len(series.marks) == 2 for panel in panels for series in panel.series)


def test_no_two_methods_look_alike_even_without_colour() -> None:
    """Line and shape of the dots together; k-sqs alone has four of them."""
    looks = looks_of([*DEFAULT_METHODS, "c-sqs:beta=0.2"])

    without_colour = [(line, shape) for _, line, shape in looks.values()]
    assert len(set(without_colour)) == len(without_colour) == 12


def test_a_point_has_a_bar_from_its_least_text_to_its_greatest(
    tmp_path: Path, drawn: list[Sequence[Panel]]
) -> None:
    """With one text, or equal ones, there is none; the caption says what the bars are."""
    store = Store(tmp_path, {"started_at": "2026-11-26T12:00:00+00:00", "machine": "2 cores"})
    for number in range(3):
        store.add(make_record(prompt=f"p{number}", last_token_s=3.0 + number))

    speeds = write(tmp_path)[0].read_text()

    (mark,) = drawn[0][0].series[0].marks
    assert mark.ends == pytest.approx((9 / 5, 9 / 3))
    assert drawn[1][0].series[0].marks[0].ends is None
    caption = " ".join(words(ElementTree.fromstring(speeds)))
    assert "median of 3 texts of 9 tokens" in caption
    assert "from the least text to the greatest" in caption
    assert "2 cores; 2026-11-26" in caption


def test_the_command_refuses_a_folder_without_a_run(tmp_path: Path) -> None:
    """Exit code 2."""
    assert main([str(tmp_path)]) == 2


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """A run that we lose by half on one link and win twofold on another; the same paced, won everywhere."""
    for name, changes in (("plain", {}), ("paced", {"pacing_base_s": 0.1})):
        store = Store(tmp_path / name, {})
        store.add(make_record(**changes))
        store.add(make_record(rate_up_bps=512_000, **changes))
        store.add(stream("p000", 8.0, **changes))
        store.add(stream("p000", 8.0 if changes else 2.0, rate_up_bps=512_000, **changes))
    return [tmp_path / "plain", tmp_path / "paced"]


def test_the_figure_of_worth_shows_every_cell_and_marks_those_we_lose(
    runs: list[Path], drawn: list[Sequence[Panel]]
) -> None:
    """A tile a cell and baseline; what is won is bold, and the caption counts what is lost."""
    read = [worth.Run.read(folder) for folder in runs]

    root = ElementTree.fromstring(worth.draw(read))

    tiles = [tile for panel in drawn[0] for tile in panel.tiles]
    assert sorted((tile.text, tile.bold) for tile in tiles) == [("0.50", False), *[("2.00", True)] * 3]
    assert "a cell we lose (1 of 4)" in " ".join(words(root))
    assert [panel.title for panel in drawn[0]] == [
        "over cloud-stream, as it is",
        "over cloud-stream, paced 100 + 0 ms",
    ]
    assert worth.count_lost(read) == (1, 4)


def test_one_scheme_is_shown_and_not_the_fastest(tmp_path: Path) -> None:
    """The default one, even where another of ours is faster."""
    store = Store(tmp_path, {})
    store.add(make_record(method="c-sqs", way="c-sqs", last_token_s=0.1))
    store.add(make_record())
    store.add(stream("p000", 8.0))

    (ratio,) = worth.ratios(worth.Run.read(tmp_path), "cloud-stream").values()
    assert ratio == pytest.approx(2.0)


def test_without_a_baseline_there_is_no_figure_of_worth(tmp_path: Path) -> None:
    """Nothing is written."""
    Store(tmp_path, {}).add(make_record())

    assert not worth.write([tmp_path], tmp_path / "worth.svg")
    assert not (tmp_path / "worth.svg").exists()
