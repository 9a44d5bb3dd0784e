"""Charts: what is drawn where, and that it can be read on light and on dark."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from bench import svg
from bench.svg import Bars, Mark, Panel, Series
from tests.bench.bench_data import dots_of, place_of

SVG = "{http://www.w3.org/2000/svg}"
MARKS = (Mark(1.0, 10.0, 2.0), Mark(10.0, 40.0, 4.0), Mark(100.0, 20.0))


def chart(**changes: object) -> ElementTree.Element:
    """One panel with one line over a logarithmic x."""
    x = svg.logarithmic("bits", [1.0, 100.0])
    y = svg.linear("latency, ms", [0.0, 44.0])
    panel = Panel("left", x, y, (Series("K = 2", svg.BLUE, MARKS),))
    options = {"columns": 2, "caption": "γ = 4. " * 40, **changes}
    return ElementTree.fromstring(svg.draw("a figure", [panel, panel, panel], **options))  # type: ignore[arg-type]


def words(root: ElementTree.Element) -> list[str]:
    """Every text."""
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def test_a_figure_has_titles_units_a_legend_and_its_caption() -> None:
    """Axis titles once a panel, a name once in the legend."""
    found = words(chart())

    assert found.count("latency, ms") == found.count("bits") == found.count("left") == 3
    assert found.count("K = 2") == 1
    assert "a figure" in found
    assert sum("γ = 4." in text for text in found) > 1


def test_error_bars_are_drawn_where_there_is_an_error() -> None:
    """Two of the three points have one, in each of three panels."""
    root = chart()

    bars = [path for path in root.iter(f"{SVG}path") if "error" in path.attrib["class"]]
    assert len(bars) == 2 * 3
    assert len(root.findall(f".//{SVG}polyline")) == 3


def test_a_point_is_where_its_axes_say() -> None:
    """10 is half way from 1 to 100 on a logarithmic axis; 40 of 50 is four fifths up."""
    (points,) = {line.attrib["points"] for line in chart().iter(f"{SVG}polyline")}
    x, y = (float(number) for number in points.split()[1].split(","))

    assert x == pytest.approx(svg.PANEL_W / 2)
    assert y == pytest.approx(svg.PANEL_H * (1 - 40 / 50))


def test_everything_stays_inside_the_figure() -> None:
    """Panels, legend and caption; a word's width by the module's own measure."""
    root = chart()
    width, height = float(root.attrib["width"]), float(root.attrib["height"])

    for group in root.findall(f"./{SVG}g"):
        x, y = map(float, re.findall(r"[\d.]+", group.attrib["transform"]))
        assert x + svg.PANEL_W < width
        assert y + svg.PANEL_H < height
    for text in root.findall(f"./{SVG}text"):
        assert float(text.attrib["y"]) < height
        assert float(text.attrib["x"]) + len(text.text or "") * svg.CHARACTER_W < width


def test_the_colours_follow_the_readers_scheme() -> None:
    """Background, words and series each have a light and a dark colour, and differ from the background."""
    text = svg.draw("t", [Panel("p", svg.linear("x", [1]), svg.linear("y", [1]), ())], columns=1)
    style = ElementTree.fromstring(text).findtext(f"{SVG}style") or ""
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")

    for name in (".paper", ".ink", ".grid", ".frame"):
        assert name in light
        assert name in dark
    assert "#ffffff" in light
    assert "#ffffff" not in dark


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.0, 44.0], ["0", "10", "20", "30", "40", "50"]),
        ([0.0, 1.0], ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ([math.nan, 0.003], ["0", "0.001", "0.002", "0.003"]),
        ([], ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
    ],
)
def test_ticks_are_round_numbers(values: list[float], labels: list[str]) -> None:
    """And reach past the largest value."""
    assert [label for _, label in svg.linear("y", values).ticks] == labels


def test_ticks_of_few_decades_stand_at_2_and_5_too() -> None:
    """Of many they do not."""
    few, many = svg.logarithmic("x", [13.0, 700.0]), svg.logarithmic("x", [1.0, 1e5])

    assert [label for _, label in few.ticks] == ["10", "20", "50", "100", "200", "500", "1000"]
    assert len(many.ticks) == 6


def test_bars_stand_on_each_other() -> None:
    """A bar reaches from low to high."""
    x, y = svg.categories("setting", ["a", "b"]), svg.linear("share", [0.0, 1.0])
    bars = (Bars("one", svg.GREY, ((0.0, 0.0, 0.5),)), Bars("two", svg.RED, ((0.0, 0.5, 0.75),)))
    root = ElementTree.fromstring(svg.draw("t", [Panel("p", x, y, (), bars)], columns=1))
    panel = root.find(f"./{SVG}g")
    assert panel is not None

    first, second = (r for r in panel.findall(f"./{SVG}rect") if r.attrib["class"].startswith("c"))
    assert float(second.attrib["y"]) + float(second.attrib["height"]) == pytest.approx(
        float(first.attrib["y"])
    )
    assert float(first.attrib["height"]) == pytest.approx(svg.PANEL_H / 2)


def test_series_differ_in_the_shape_of_their_dots() -> None:
    """In the panel and in the legend alike; one name has one shape in every panel."""
    x, y = svg.linear("x", [1.0, 100.0]), svg.linear("y", [44.0])
    first, second = Series("a", svg.BLUE, MARKS), Series("b", svg.BLUE, MARKS)
    root = ElementTree.fromstring(
        svg.draw("t", [Panel("p", x, y, (first, second)), Panel("q", x, y, (second,))], columns=2)
    )

    panels = root.findall(f"./{SVG}g")
    kinds = [{(dot.tag, dot.attrib.get("d")) for dot in dots_of(panel)} for panel in panels]
    assert len(kinds[0]) == 2
    assert len(kinds[1]) == 1
    assert kinds[1] < kinds[0]
    legend = [dot for dot in root if dot in dots_of(root)]
    assert {(dot.tag, dot.attrib.get("d")) for dot in legend} == kinds[0]


def test_an_error_bar_may_be_longer_on_one_side() -> None:
    """From one end to the other; equal ends are no bar."""
    marks = (Mark(1.0, 10.0, span=(8.0, 20.0)), Mark(2.0, 10.0, span=(10.0, 10.0)))
    x, y = svg.linear("x", [2.0]), svg.linear("y", [20.0])
    root = ElementTree.fromstring(
        svg.draw("t", [Panel("p", x, y, (Series("a", svg.RED, marks),))], columns=1)
    )

    (bar,) = [path for path in root.iter(f"{SVG}path") if "error" in path.attrib["class"]]
    low, high = re.findall(r"[\d.]+", bar.attrib["d"])[1:3]
    assert float(low) == pytest.approx(svg.PANEL_H * (1 - 8 / 20))
    assert float(high) == pytest.approx(0.0)


def test_a_logarithmic_axis_wastes_no_decade() -> None:
    """It begins and ends at 1, 2 or 5 times a power of ten."""
    axis = svg.logarithmic("bytes", [83.0, 15_800.0])

    assert (axis.low, axis.high) == (50.0, 20_000.0)
    assert [label for _, label in axis.ticks] == ["100", "1000", "10k"]


def test_entries_of_the_legend_do_not_run_into_each_other() -> None:
    """By the widths of the widest common font."""
    names = ["c-sqs:gamma=4,eta=0.01", "dense-qs:gamma=4", "k-sqs:K=8,ell=100,gamma=4", "cloud-assisted"]
    x, y = svg.linear("x", [1.0]), svg.linear("y", [1.0])
    series = tuple(Series(name, svg.BLUE, (Mark(1.0, 1.0),)) for name in names)
    root = ElementTree.fromstring(svg.draw("t", [Panel("p", x, y, series)] * 2, columns=2))

    starts = [place_of(dot) for dot in root if dot in dots_of(root)]
    texts = [text for text in root.findall(f"./{SVG}text") if text.text in names]
    for text in texts:
        right, line = float(text.attrib["x"]) + svg.text_width(text.text or ""), float(text.attrib["y"]) - 4
        assert right < float(root.attrib["width"])
        assert all(at < float(text.attrib["x"]) or at - 17 >= right for at, y in starts if y == line)
