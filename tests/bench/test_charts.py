"""Charts: what is in them, and that they can be read on light and on dark."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from bench import charts
from bench.charts import Axis, Bars, Mark, Panel, Series, Tile

MARKS = (Mark(1.0, 10.0, 2.0), Mark(10.0, 40.0, 4.0), Mark(100.0, 20.0), Mark(1000.0, math.nan))
X, Y = charts.logarithmic("bits", [1.0, 100.0]), charts.linear("latency, ms", [0.0, 44.0])


def drawn(*panels: Panel) -> str:
    """One figure."""
    return charts.draw("a figure", panels, columns=2, caption="γ = 4. " * 40)


def words(svg: str) -> list[str]:
    """Every text."""
    return [text.text or "" for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_a_figure_has_titles_units_a_legend_and_its_caption() -> None:
    """Axis titles once a panel, a name once in the legend; the same values give the same file."""
    panels = [Panel("left", X, Y, (Series("K = 2", charts.BLUE, MARKS),))] * 3
    svg = drawn(*panels)
    found = words(svg)

    assert found.count("latency, ms") == found.count("bits") == found.count("left") == 3
    assert found.count("K = 2") == found.count("a figure") == 1
    assert sum("γ = 4." in text for text in found) > 1
    assert svg == drawn(*panels)


def test_the_colours_follow_the_readers_scheme() -> None:
    """Background, words and series each have a light and a dark colour, and none is left as it was drawn."""
    svg = drawn(Panel("p", X, Y, (Series("a", charts.RED, MARKS),)))
    style, _, rest = svg.partition("</style>")
    light, _, dark = style.partition("@media (prefers-color-scheme:dark)")

    for colour in (charts.PAPER, charts.INK, charts.GRID, charts.FRAME, charts.RED):
        assert (colour.light in light, colour.dark in dark, colour.light in rest) == (True, True, False)


def test_error_bars_are_drawn_where_there_is_an_error() -> None:
    """A bar with two caps for each point that has one; an end of it may be the longer one."""
    plain = Series("a", charts.RED, (Mark(1.0, 10.0), Mark(2.0, 10.0, (10.0, 10.0))))
    barred = Series("a", charts.RED, (Mark(1.0, 10.0, (8.0, 20.0)), Mark(2.0, 10.0, 1.0)))
    without, with_bars = (drawn(Panel("p", X, Y, (one,))).count("LineCollection") for one in (plain, barred))

    assert (without, with_bars > 0) == (0, True)
    assert [mark.ends for mark in barred.marks] == [(8.0, 20.0), (9.0, 11.0)]


def test_series_differ_in_the_shape_of_their_dots() -> None:
    """One name has one marker in every panel and in the legend; another name has another."""
    first, second = Series("a", charts.BLUE, MARKS), Series("b", charts.BLUE, MARKS)
    legend = charts._legend([Panel("p", X, Y, (first, second)), Panel("q", X, Y, (second,))])

    assert {name: handle.get_marker() for name, handle in legend.items()} == {"a": "o", "b": "s"}


def test_bars_and_tiles_are_drawn() -> None:
    """Tiles with their words."""
    side = charts.categories("setting", ["a", "b"])
    bars = Panel("p", side, Y, bars=(Bars("one", charts.GREY, ((0.0, 0.0, 0.5), (1.0, 0.0, 0.7))),))
    tiles = Panel("q", side, side, tiles=(Tile(0, 1, "1.20", charts.BLUE, 0.4, bold=True),))
    found = words(drawn(bars, tiles))

    assert {"one", "1.20"} <= set(found)
    assert found.count("a") == 3


@pytest.mark.parametrize(
    ("axis", "ends"),
    [
        (charts.linear("y", [0.0, 44.0]), (0.0, 50.0)),
        (charts.linear("y", [0.0, 1.0]), (0.0, 1.0)),
        (charts.linear("y", [math.nan, 0.003]), (0.0, 0.003)),
        (charts.linear("y", []), (0.0, 1.0)),
        (charts.logarithmic("bytes", [83.0, 15_800.0]), (50.0, 20_000.0)),
    ],
)
def test_an_axis_ends_at_round_numbers(axis: Axis, ends: tuple[float, float]) -> None:
    """And reaches past the largest value; of a logarithmic one 1, 2 or 5 times a power of ten."""
    assert (axis.low, axis.high) == pytest.approx(ends)


def test_a_logarithmic_axis_of_few_decades_has_ticks_within_them() -> None:
    """At 1, 2 and 5 times the powers of ten."""
    few = words(drawn(Panel("p", charts.logarithmic("x", [13.0, 700.0]), Y)))

    assert [text for text in few if re.fullmatch(r"\d+0", text)][:7] == [
        *("10", "20", "50", "100", "200", "500", "1000")
    ]
