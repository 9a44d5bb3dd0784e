"""
Charts as SVG: panels with axes, lines, error bars and stacked bars, a legend and a caption.

A figure is plain text of rectangles, lines, circles and words; its colours follow the reader's light or dark
scheme, the background too, so that it reads on either.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

PANEL_W, PANEL_H = 320, 230
LEFT, TOP, GAP_X, GAP_Y, RIGHT = 66, 62, 74, 84, 24
FONT = 12
CHARACTER_W = 6.4
"""Width of a character of the font, on average, generously."""
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


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a panel."""

    title: str
    """With its unit."""
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    """(value, label)."""
    is_log: bool = False

    def share(self, value: float) -> float:
        """Where a value is, from 0 at the low end to 1 at the high end."""
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def shows(self, value: float) -> bool:
        """Whether a value can be drawn."""
        return math.isfinite(value) and (value > 0 or not self.is_log)


@dataclass(frozen=True, slots=True)
class Mark:
    """One point of a series."""

    x: float
    y: float
    error: float = math.nan
    """Half the length of the error bar; NaN for none."""
    hollow: bool = False


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
class Panel:
    """One chart of a figure."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    bars: tuple[Bars, ...] = ()


def linear(title: str, values: Iterable[float], *, from_zero: bool = True) -> Axis:
    """An axis over the values with ticks at round numbers."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min([0.0, *finite] if from_zero else finite), max(finite)
    span = high - low or abs(high) or 1.0
    step = _round_step(span / 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = tuple((number * step, f"{number * step:.10g}") for number in range(first, last + 1))
    return Axis(title, first * step, last * step, ticks)


def logarithmic(title: str, values: Iterable[float]) -> Axis:
    """An axis over whole decades; over few of them, with ticks at 2 and 5 too."""
    positive = [value for value in values if math.isfinite(value) and value > 0] or [1.0, 10.0]
    low = math.floor(math.log10(min(positive)) + 1e-9)
    high = max(low + 1, math.ceil(math.log10(max(positive)) - 1e-9))
    steps = (1, 2, 5) if high - low <= 2 else (1,)
    values_of_ticks = [step * 10.0**decade for decade in range(low, high + 1) for step in steps]
    ticks = tuple((value, f"{value:g}") for value in values_of_ticks if value <= 10.0**high)
    return Axis(title, 10.0**low, 10.0**high, ticks, is_log=True)


def at_values(title: str, values: Iterable[float], *, is_log: bool = False) -> Axis:
    """An axis whose ticks are the values themselves, with room at both ends."""
    ordered = sorted(set(values)) or [1.0]
    ticks = tuple((value, f"{value:g}") for value in ordered)
    if is_log:
        return Axis(title, ordered[0] / 1.4, ordered[-1] * 1.4, ticks, is_log=True)
    room = (ordered[-1] - ordered[0]) / 12 or 0.5
    return Axis(title, ordered[0] - room, ordered[-1] + room, ticks)


def categories(title: str, labels: Sequence[str]) -> Axis:
    """Equally spaced labels; the n-th is at x = n, from 0."""
    return Axis(
        title, -0.5, max(1, len(labels)) - 0.5, tuple((float(n), text) for n, text in enumerate(labels))
    )


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
    entries = {entry.name: entry for entry in drawn if entry.name}
    colours = list(dict.fromkeys(entry.colour for entry in drawn))
    legend, bottom = _legend(list(entries.values()), colours, width, TOP + rows * (PANEL_H + GAP_Y) - 18)
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
        _style(colours),
        f'<rect class="paper" width="{width}" height="{height}"/>',
        f'<text class="ink" x="{LEFT}" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    for number, panel in enumerate(panels):
        x = LEFT + number % columns * (PANEL_W + GAP_X)
        y = TOP + number // columns * (PANEL_H + GAP_Y)
        parts.append(f'<g transform="translate({x},{y})">{_panel(panel, colours)}</g>')
    parts += legend
    parts += [
        f'<text class="ink" x="{LEFT}" y="{bottom + LINE_H * n}">{escape(line)}</text>'
        for n, line in enumerate(wrapped)
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _style(colours: Sequence[Colour]) -> str:
    light = "".join(f".c{n}{{color:{colour.light}}}" for n, colour in enumerate(colours))
    dark = "".join(f".c{n}{{color:{colour.dark}}}" for n, colour in enumerate(colours))
    return f"<style>{_STYLE}{light}\n@media (prefers-color-scheme: dark){{{_DARK_STYLE}{dark}}}</style>"


def _legend(
    entries: Sequence[Series | Bars], colours: Sequence[Colour], width: int, top: int
) -> tuple[list[str], int]:
    """Its parts, and the y of what comes below it; entries flow from left to right."""
    parts: list[str] = []
    x, y = float(LEFT), top
    for entry in entries:
        needed = 40 + len(entry.name) * CHARACTER_W
        if x > LEFT and x + needed > width - RIGHT:
            x, y = float(LEFT), y + LINE_H
        parts += _sample(entry, f"c{colours.index(entry.colour)}", x, y)
        parts.append(f'<text class="ink" x="{x + 28:.0f}" y="{y + 4}">{escape(entry.name)}</text>')
        x += needed
    return parts, y + 26


def _sample(entry: Series | Bars, colour: str, x: float, y: int) -> list[str]:
    """What stands before a name in the legend."""
    if isinstance(entry, Bars):
        return [
            f'<rect class="{colour}" x="{x:.0f}" y="{y - 6}" width="22" height="12" fill="currentColor"/>'
        ]
    parts = []
    if entry.line != "none":
        parts.append(
            f'<line class="{colour}" x1="{x:.0f}" x2="{x + 22:.0f}" y1="{y}" y2="{y}" '
            f'stroke="currentColor" stroke-width="1.6"{_DASHES.get(entry.line, "")}/>'
        )
    if entry.dots:
        hollow = all(mark.hollow for mark in entry.marks)
        parts.append(_dot(colour, x + 11, float(y), hollow))
    return parts


def _panel(panel: Panel, colours: Sequence[Colour]) -> str:
    parts = [f'<text class="ink" x="0" y="-9" font-weight="bold">{escape(panel.title)}</text>']
    for value, label in panel.y.ticks:
        y = PANEL_H * (1 - panel.y.share(value))
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
        f'<text class="ink" transform="translate(-46,{PANEL_H / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(panel.y.title)}</text>"
    )
    for bars in panel.bars:
        parts += _bars(bars, panel, f"c{colours.index(bars.colour)}")
    parts.append(f'<rect class="frame" width="{PANEL_W}" height="{PANEL_H}" fill="none"/>')
    for series in panel.series:
        parts += _series(series, panel, f"c{colours.index(series.colour)}")
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


def _series(series: Series, panel: Panel, colour: str) -> list[str]:
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
        if mark.error > 0:
            low = panel.y.low if panel.y.is_log and mark.y <= mark.error else mark.y - mark.error
            ends = [PANEL_H * (1 - panel.y.share(value)) for value in (low, mark.y + mark.error)]
            parts.append(_error_bar(colour, x, *ends))
        if series.dots:
            parts.append(_dot(colour, x, y, mark.hollow))
    return parts


def _error_bar(colour: str, x: float, low_y: float, high_y: float) -> str:
    left, right = x - _CAP_W, x + _CAP_W
    return (
        f'<path class="{colour} error" d="M{x:.1f} {low_y:.1f}V{high_y:.1f}'
        f"M{left:.1f} {low_y:.1f}H{right:.1f}M{left:.1f} {high_y:.1f}H{right:.1f}"
        f'" fill="none" stroke="currentColor"/>'
    )


def _dot(colour: str, x: float, y: float, hollow: bool) -> str:
    fill = 'class="{0} paper" stroke="currentColor"' if hollow else 'class="{0}" fill="currentColor"'
    return f'<circle {fill.format(colour)} cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'


def _round_step(value: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is at least `value`."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))
