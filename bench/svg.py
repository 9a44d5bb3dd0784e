"""
Charts as SVG: panels with axes, lines, error bars, stacked bars and tables of tiles, a legend and a caption.

A figure is plain text of rectangles, lines, dots and words; its colours follow the reader's light or dark
scheme, the background too, so that it reads on either. Series differ in the shape of their dots, not in
their colour alone.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from bench.axes import Axis, at_values, categories, linear, logarithmic

__all__ = [
    "Axis",
    "Bars",
    "Colour",
    "Mark",
    "Panel",
    "Series",
    "Tile",
    "at_values",
    "categories",
    "draw",
    "linear",
    "logarithmic",
]

PANEL_W, PANEL_H = 320, 230
LEFT, TOP, GAP_X, GAP_Y, RIGHT = 66, 62, 74, 84, 24
FONT = 12
CHARACTER_W = 6.4
"""Width of a character of running text, on average."""
_WIDTHS = {**dict.fromkeys("iljtfrI.,:;|!'()[] ", 4.6), **dict.fromkeys("mwMW%@−=", 10.2)}
"""Of the widest common sans-serif at this size; other capitals and digits as below."""
_SAMPLE_W = 34
"""Of a legend entry's line."""
LINE_H = 17
_CAP_W = 3


@dataclass(frozen=True, slots=True)
class Colour:
    """One colour on a light background and on a dark one, as #rrggbb."""

    light: str
    dark: str


BLUE, ORANGE = Colour("#1f6fb4", "#5aa9e6"), Colour("#d1571b", "#f08a4b")
GREEN, RED = Colour("#2a8a3e", "#5fc27a"), Colour("#b3312c", "#ef6f6a")
VIOLET, BROWN = Colour("#7a4fb5", "#b08ae0"), Colour("#8a5a3b", "#c79a78")
TEAL, GREY = Colour("#138a96", "#4fc6d2"), Colour("#5c636b", "#a3abb4")
LIGHT_BLUE, AMBER = Colour("#5fa3d9", "#2f7fc0"), Colour("#e09b3d", "#c27a1a")
INK = Colour("#1f2328", "#e6edf3")

_STYLE = """\
.paper{fill:#ffffff}.ink{fill:#1f2328}.frame{stroke:#8c959f}.grid{stroke:#e1e4e8}"""
_DARK_STYLE = """\
.paper{fill:#0d1117}.ink{fill:#e6edf3}.frame{stroke:#6e7681}.grid{stroke:#30363d}"""

Line = Literal["solid", "dashed", "dotted", "none"]
_DASHES: dict[Line, str] = {"dashed": ' stroke-dasharray="7 4"', "dotted": ' stroke-dasharray="2 3"'}
Shape = Literal["circle", "square", "triangle", "diamond", "down", "cross", "plus"]
SHAPES: tuple[Shape, ...] = ("circle", "square", "triangle", "diamond", "down", "cross", "plus")
"""Of dots; series that name none get them in this order."""
_OUTLINES: dict[Shape, str] = {
    "square": "M-3.4 -3.4H3.4V3.4H-3.4Z",
    "triangle": "M0 -4.6L4.3 3.3H-4.3Z",
    "diamond": "M0 -4.9L4.4 0L0 4.9L-4.4 0Z",
    "down": "M0 4.6L4.3 -3.3H-4.3Z",
    "cross": "M-3.5 -3.5L3.5 3.5M-3.5 3.5L3.5 -3.5",
    "plus": "M-4.4 0H4.4M0 -4.4V4.4",
}
_OPEN: tuple[Shape, ...] = ("cross", "plus")
"""Shapes without an inside."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One point of a series."""

    x: float
    y: float
    error: float = math.nan
    """Half the length of the error bar; NaN for none."""
    hollow: bool = False
    span: tuple[float, float] | None = None
    """Ends of an error bar that is not as long on both sides; None for `error`."""

    @property
    def ends(self) -> tuple[float, float] | None:
        """Of the error bar; None without one."""
        if self.span is not None:
            return self.span if self.span[1] > self.span[0] else None
        return (self.y - self.error, self.y + self.error) if self.error > 0 else None


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one name, in the order in which a line joins them."""

    name: str
    colour: Colour
    marks: tuple[Mark, ...]
    line: Line = "solid"
    dots: bool = True
    shift: float = 0.0
    """Pixels to the right, so that error bars at one x do not cover each other."""
    shape: Shape | None = None
    """Of its dots; None for the next in order, the same for the same name."""


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of one name, each from `low` to `high` at an x."""

    name: str
    colour: Colour
    spans: tuple[tuple[float, float, float], ...]
    """(x, low, high)."""
    width: float = 0.7
    """In units of a linear x axis."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of one category by one category, with a word in it."""

    x: float
    y: float
    text: str
    colour: Colour
    opacity: float
    """Of the colour behind the word, 0 to 1."""
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart of a figure."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...] = ()
    bars: tuple[Bars, ...] = ()
    tiles: tuple[Tile, ...] = ()


def draw(title: str, panels: Sequence[Panel], *, columns: int, caption: str = "") -> str:
    """
    One figure as an SVG document.

    Args:
        title: over all panels.
        panels: row by row.
        columns: panels a row.
        caption: under the legend; its lines are wrapped to the figure's width.
    """
    columns = min(columns, max(1, len(panels)))
    rows = math.ceil(len(panels) / columns)
    width = LEFT + columns * PANEL_W + (columns - 1) * GAP_X + RIGHT
    drawn: list[Series | Bars] = []
    for panel in panels:
        drawn += [*panel.bars, *panel.series]
    entries = {entry.name: entry for entry in reversed(drawn) if entry.name}
    ordered = [entries[name] for name in dict.fromkeys(entry.name for entry in drawn if entry.name)]
    dotted = [entry.name for entry in ordered if isinstance(entry, Series) and entry.dots]
    look = _Look(
        list(dict.fromkeys([*(e.colour for e in drawn), *(t.colour for p in panels for t in p.tiles)])),
        {name: SHAPES[number % len(SHAPES)] for number, name in enumerate(dotted)},
    )
    head = textwrap.wrap(title, int((width - LEFT - RIGHT) / (1.35 * CHARACTER_W)))
    top = TOP + 20 * (len(head) - 1)
    legend, bottom = _legend(ordered, look, width, top + rows * (PANEL_H + GAP_Y) - 18)
    wrapped = [
        line
        for paragraph in caption.splitlines()
        for line in textwrap.wrap(paragraph, int((width - LEFT - RIGHT) / CHARACTER_W)) or [""]
    ]
    height = bottom + LINE_H * len(wrapped) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="{FONT}">',
        f"<title>{escape(title)}</title>",
        _style(look.colours),
        f'<rect class="paper" width="{width}" height="{height}"/>',
    ]
    parts += [
        f'<text class="ink" x="{LEFT}" y="{24 + 20 * n}" font-size="15" font-weight="bold">'
        f"{escape(line)}</text>"
        for n, line in enumerate(head)
    ]
    for number, panel in enumerate(panels):
        x = LEFT + number % columns * (PANEL_W + GAP_X)
        y = top + number // columns * (PANEL_H + GAP_Y)
        parts.append(f'<g transform="translate({x},{y})">{_panel(panel, look)}</g>')
    parts += legend
    parts += [
        f'<text class="ink" x="{LEFT}" y="{bottom + LINE_H * n}">{escape(line)}</text>'
        for n, line in enumerate(wrapped)
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


@dataclass(frozen=True, slots=True)
class _Look:
    """What all panels of a figure share."""

    colours: Sequence[Colour]
    shapes: Mapping[str, Shape]
    """By name of a series, where it names none itself."""

    def css(self, colour: Colour) -> str:
        """Class of a colour."""
        return f"c{self.colours.index(colour)}"

    def shape(self, series: Series) -> Shape:
        """Of a series' dots."""
        return series.shape or self.shapes.get(series.name, SHAPES[0])


def text_width(text: str) -> float:
    """Pixels of a text at the figure's size, in the widest of the common fonts."""
    return sum(_WIDTHS.get(character, 7.9) for character in text)


def _style(colours: Sequence[Colour]) -> str:
    light = "".join(f".c{n}{{color:{colour.light}}}" for n, colour in enumerate(colours))
    dark = "".join(f".c{n}{{color:{colour.dark}}}" for n, colour in enumerate(colours))
    return f"<style>{_STYLE}{light}\n@media (prefers-color-scheme: dark){{{_DARK_STYLE}{dark}}}</style>"


def _legend(entries: Sequence[Series | Bars], look: _Look, width: int, top: int) -> tuple[list[str], int]:
    """Its parts, and the y of what comes below it; entries flow from left to right."""
    parts: list[str] = []
    x, y = float(LEFT), top
    for entry in entries:
        needed = _SAMPLE_W + 22 + text_width(entry.name)
        if x > LEFT and x + needed > width - RIGHT:
            x, y = float(LEFT), y + LINE_H
        parts += _sample(entry, look, x, y)
        parts.append(f'<text class="ink" x="{x + _SAMPLE_W + 6:.0f}" y="{y + 4}">{escape(entry.name)}</text>')
        x += needed
    return parts, y + (26 if entries else 0)


def _sample(entry: Series | Bars, look: _Look, x: float, y: int) -> list[str]:
    """What stands before a name in the legend."""
    colour = look.css(entry.colour)
    if isinstance(entry, Bars):
        return [
            f'<rect class="{colour}" x="{x + 6:.0f}" y="{y - 6}" width="22" height="12" fill="currentColor"/>'
        ]
    parts = []
    if entry.line != "none":
        parts.append(
            f'<line class="{colour}" x1="{x:.0f}" x2="{x + _SAMPLE_W:.0f}" y1="{y}" y2="{y}" '
            f'stroke="currentColor" stroke-width="1.6"{_DASHES.get(entry.line, "")}/>'
        )
    if entry.dots:
        hollow = bool(entry.marks) and all(mark.hollow for mark in entry.marks)
        parts.append(_dot(colour, look.shape(entry), x + _SAMPLE_W / 2, float(y), hollow))
    return parts


def _panel(panel: Panel, look: _Look) -> str:
    parts = [f'<text class="ink" x="0" y="-9" font-weight="bold">{escape(panel.title)}</text>']
    for value, label in panel.y.ticks:
        y = PANEL_H * (1 - panel.y.share(value))
        if not panel.tiles:
            parts.append(f'<line class="grid" x1="0" x2="{PANEL_W}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="ink" x="-7" y="{y + 4:.1f}" text-anchor="end" font-size="11">'
            f"{escape(label)}</text>"
        )
    for value, label in panel.x.ticks:
        x = PANEL_W * panel.x.share(value)
        parts.append(f'<line class="frame" x1="{x:.1f}" x2="{x:.1f}" y1="{PANEL_H}" y2="{PANEL_H + 4}"/>')
        parts.append(
            f'<text class="ink" x="{x:.1f}" y="{PANEL_H + 17}" text-anchor="middle" font-size="11">'
            f"{escape(label)}</text>"
        )
    parts.append(
        f'<text class="ink" x="{PANEL_W / 2:.0f}" y="{PANEL_H + 36}" text-anchor="middle">'
        f"{escape(panel.x.title)}</text>"
    )
    parts.append(
        f'<text class="ink" transform="translate(-48,{PANEL_H / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(panel.y.title)}</text>"
    )
    for bars in panel.bars:
        parts += _bars(bars, panel, look.css(bars.colour))
    for tile in panel.tiles:
        parts += _tile(tile, panel, look.css(tile.colour))
    parts.append(f'<rect class="frame" width="{PANEL_W}" height="{PANEL_H}" fill="none"/>')
    for series in panel.series:
        parts += _series(series, panel, look)
    return "".join(parts)


def _bars(bars: Bars, panel: Panel, colour: str) -> list[str]:
    parts = []
    for x, low, high in bars.spans:
        left, right = (PANEL_W * panel.x.share(x + side * bars.width / 2) for side in (-1, 1))
        top, bottom = (PANEL_H * (1 - panel.y.share(value)) for value in (high, low))
        parts.append(
            f'<rect class="{colour}" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
            f'height="{max(0.0, bottom - top):.1f}" fill="currentColor"/>'
        )
    return parts


def _tile(tile: Tile, panel: Panel, colour: str) -> list[str]:
    left, right = (PANEL_W * panel.x.share(tile.x + side / 2) for side in (-1, 1))
    top, bottom = (PANEL_H * (1 - panel.y.share(tile.y + side / 2)) for side in (1, -1))
    weight = ' font-weight="bold"' if tile.bold else ""
    return [
        f'<rect class="{colour}" x="{left + 1:.1f}" y="{top + 1:.1f}" width="{right - left - 2:.1f}" '
        f'height="{bottom - top - 2:.1f}" fill="currentColor" fill-opacity="{tile.opacity:.2f}"/>',
        f'<text class="ink" x="{(left + right) / 2:.1f}" y="{(top + bottom) / 2 + 4:.1f}" '
        f'text-anchor="middle" font-size="11"{weight}>{escape(tile.text)}</text>',
    ]


def _series(series: Series, panel: Panel, look: _Look) -> list[str]:
    colour, shape = look.css(series.colour), look.shape(series)
    shown = [mark for mark in series.marks if panel.x.shows(mark.x) and panel.y.shows(mark.y)]
    at = [(PANEL_W * panel.x.share(m.x) + series.shift, PANEL_H * (1 - panel.y.share(m.y))) for m in shown]
    parts = []
    if series.line != "none" and at:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(
            f'<polyline class="{colour}" points="{points}" fill="none" stroke="currentColor" '
            f'stroke-width="1.6"{_DASHES.get(series.line, "")}/>'
        )
    for mark, (x, y) in zip(shown, at, strict=True):
        if mark.ends is not None:
            low = panel.y.low if panel.y.is_log and mark.ends[0] <= 0 else mark.ends[0]
            ends = [PANEL_H * (1 - panel.y.share(value)) for value in (low, mark.ends[1])]
            parts.append(_error_bar(colour, x, *ends))
        if series.dots:
            parts.append(_dot(colour, shape, x, y, mark.hollow))
    return parts


def _error_bar(colour: str, x: float, low_y: float, high_y: float) -> str:
    left, right = x - _CAP_W, x + _CAP_W
    return (
        f'<path class="{colour} error" d="M{x:.1f} {low_y:.1f}V{high_y:.1f}'
        f"M{left:.1f} {low_y:.1f}H{right:.1f}M{left:.1f} {high_y:.1f}H{right:.1f}"
        f'" fill="none" stroke="currentColor"/>'
    )


def _dot(colour: str, shape: Shape, x: float, y: float, hollow: bool) -> str:
    if shape in _OPEN:
        paint = f'class="{colour} dot" fill="none" stroke="currentColor" stroke-width="1.8"'
    elif hollow:
        paint = f'class="{colour} dot paper" stroke="currentColor" stroke-width="1.4"'
    else:
        paint = f'class="{colour} dot" fill="currentColor"'
    if shape == "circle":
        return f'<circle {paint} cx="{x:.1f}" cy="{y:.1f}" r="3.7"/>'
    return f'<path {paint} transform="translate({x:.1f},{y:.1f})" d="{_OUTLINES[shape]}"/>'
