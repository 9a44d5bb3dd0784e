"""
Charts as SVG, drawn by matplotlib: panels of series with error bars, bars or tiles, a legend and a caption.

The colours follow the reader's light or dark scheme, the background too; words stay words.
Series differ in marker and line, not in colour alone. The same values give the same file.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

PANEL_IN, GAP_IN, MARGIN_IN = (3.3, 2.4), 0.95, 0.85
"""Width and height of a panel, between two, and at the left and right of all, in inches."""
LINE_IN, CHARACTER_IN = 0.19, 0.07
"""Height of a line of words, and width of a character on average, in inches."""


@dataclass(frozen=True, slots=True)
class Colour:
    """One colour on a light background and on a dark one, as #rrggbb; no two have the same light one."""

    light: str
    dark: str


BLUE, ORANGE = Colour("#1f6fb4", "#5aa9e6"), Colour("#d1571b", "#f08a4b")
GREEN, RED = Colour("#2a8a3e", "#5fc27a"), Colour("#b3312c", "#ef6f6a")
VIOLET, BROWN = Colour("#7a4fb5", "#b08ae0"), Colour("#8a5a3b", "#c79a78")
TEAL, GREY = Colour("#138a96", "#4fc6d2"), Colour("#5c636b", "#a3abb4")
LIGHT_BLUE, AMBER = Colour("#5fa3d9", "#2f7fc0"), Colour("#e09b3d", "#c27a1a")
INK, PAPER = Colour("#1f2328", "#e6edf3"), Colour("#ffffff", "#0d1117")
FRAME, GRID = Colour("#8c959f", "#6e7681"), Colour("#e1e4e8", "#30363d")

Line = Literal["solid", "dashed", "dotted", "none"]
Shape = Literal["o", "s", "^", "D", "v", "x", "+"]
SHAPES: tuple[Shape, ...] = ("o", "s", "^", "D", "v", "x", "+")
"""Matplotlib's markers; series that name none get them in this order."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "thinwire",
    "font.family": "sans-serif",
    "font.size": 9,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK.light),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor"), PAPER.light),
    "axes.edgecolor": FRAME.light,
    "grid.color": GRID.light,
    "axes.axisbelow": True,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
}


@dataclass(frozen=True, slots=True)
class Mark:
    """One point of a series."""

    x: float
    y: float
    error: float | tuple[float, float] = math.nan
    """Half the length of the error bar, or its two ends; NaN for none."""
    hollow: bool = False

    @property
    def ends(self) -> tuple[float, float] | None:
        """Ends of the error bar; None without one."""
        error = self.error
        low, high = error if isinstance(error, tuple) else (self.y - error, self.y + error)
        return (low, high) if high > low else None


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one name, in the order in which a line joins them."""

    name: str
    colour: Colour
    marks: tuple[Mark, ...]
    line: Line = "solid"
    dots: bool = True
    shift: float = 0.0
    """Points to the right, so that error bars at one x do not cover each other."""
    shape: Shape | None = None
    """Marker; None for the next in order, the same for the same name."""


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of one name, each from `low` to `high` at an x."""

    name: str
    colour: Colour
    spans: tuple[tuple[float, float, float], ...]
    """(x, low, high)."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of one category by one category, with a word in it."""

    x: float
    y: float
    text: str
    colour: Colour
    opacity: float
    """The colour's behind the word, 0 to 1."""
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a panel; a title with its unit, a range, and ticks where they are not matplotlib's."""

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...] = ()
    """(value, label)."""
    is_log: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart of a figure."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...] = ()
    bars: tuple[Bars, ...] = ()
    tiles: tuple[Tile, ...] = ()


def linear(title: str, values: Iterable[float], *, from_zero: bool = True) -> Axis:
    """An axis over the values, from and to round numbers."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min([0.0, *finite] if from_zero else finite), max(finite)
    marks = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high if high > low else low + 1)
    return Axis(title, float(marks[0]), float(marks[-1]))


def logarithmic(title: str, values: Iterable[float]) -> Axis:
    """An axis from and to 1, 2 or 5 times powers of ten."""
    positive = [value for value in values if math.isfinite(value) and value > 0] or [1.0, 10.0]
    low, high = _round(min(positive), up=False), _round(max(positive), up=True)
    return Axis(title, low, high if high > low else _round(high * 1.5, up=True), is_log=True)


def at_values(title: str, values: Iterable[float], *, is_log: bool = False) -> Axis:
    """An axis whose ticks are the values themselves, with room at both ends."""
    ordered = sorted(set(values)) or [1.0]
    ticks = tuple((value, f"{value:g}") for value in ordered)
    if is_log:
        return Axis(title, ordered[0] / 1.4, ordered[-1] * 1.4, ticks, is_log=True)
    room = (ordered[-1] - ordered[0]) / 12 or 0.5
    return Axis(title, ordered[0] - room, ordered[-1] + room, ticks)


def categories(title: str, labels: Sequence[str]) -> Axis:
    """Equally spaced labels; the n-th is at n, from 0."""
    ticks = tuple((float(n), text) for n, text in enumerate(labels))
    return Axis(title, -0.5, max(1, len(labels)) - 0.5, ticks)


def tick_text(value: float) -> str:
    """A number with its thousands as k: 500, 20k."""
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:g}"


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
    width = 2 * MARGIN_IN + columns * PANEL_IN[0] + (columns - 1) * GAP_IN
    characters = int((width - 2 * MARGIN_IN) / CHARACTER_IN)
    head = textwrap.wrap(title, int(characters / 1.4))
    words = [line for part in caption.splitlines() for line in textwrap.wrap(part, characters) or [""]]
    with mpl.rc_context(_STYLE):
        legend = _legend(panels)
        longest = max((len(name) for name in legend), default=1)
        across = max(1, min(len(legend), int((width - MARGIN_IN) / (0.75 + CHARACTER_IN * longest))))
        above = 0.45 + 0.24 * len(head)
        below = 0.62 + LINE_IN * (math.ceil(len(legend) / across) + len(words) + 1)
        height = above + rows * PANEL_IN[1] + (rows - 1) * GAP_IN + below
        figure = Figure(figsize=(width, height))
        left = MARGIN_IN / width
        figure.text(left, 1 - 0.12 / height, "\n".join(head), weight="bold", size=11, va="top")
        for number, panel in enumerate(panels):
            x = MARGIN_IN + number % columns * (PANEL_IN[0] + GAP_IN)
            y = above + number // columns * (PANEL_IN[1] + GAP_IN) + PANEL_IN[1]
            place = (x / width, 1 - y / height, PANEL_IN[0] / width, PANEL_IN[1] / height)
            _panel(figure, figure.add_axes(place), panel, legend)
        if legend:
            figure.legend(
                *(list(legend.values()), list(legend)),
                loc="upper left",
                bbox_to_anchor=((MARGIN_IN - 0.1) / width, (below - 0.5) / height),
                ncols=across,
                handlelength=3,
                borderpad=0,
            )
        figure.text(left, 0.1 / height, "\n".join(words), va="bottom", linespacing=1.45)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return _following_the_scheme(out.getvalue(), title, panels)


def _legend(panels: Sequence[Panel]) -> dict[str, Any]:
    """A handle a name, in the order of their coming; a series' marker is taken from here too."""
    handles: dict[str, Any] = {}
    shapes = cycle(SHAPES)
    drawn: list[Series | Bars] = []
    for panel in panels:
        drawn += [*panel.bars]
        drawn += [*panel.series]
    for entry in drawn:
        if not entry.name or entry.name in handles:
            continue
        colour = entry.colour.light
        if isinstance(entry, Bars):
            handles[entry.name] = Patch(color=colour)
            continue
        following = next(shapes) if entry.dots else ""
        hollow = bool(entry.marks) and all(mark.hollow for mark in entry.marks)
        handles[entry.name] = Line2D(
            *([], []),
            color=colour,
            linestyle=entry.line,
            marker=entry.shape or following if entry.dots else "",
            markerfacecolor=PAPER.light if hollow else colour,
        )
    return handles


def _panel(figure: Figure, axes: Axes, panel: Panel, legend: dict[str, Any]) -> None:
    axes.set_title(panel.title)
    for which, axis in (("x", panel.x), ("y", panel.y)):
        _axis(axes, which, axis)
    if not panel.tiles:
        axes.grid(axis="y")
    for bars in panel.bars:
        for x, low, high in bars.spans:
            axes.bar(x, high - low, bottom=low, width=0.7, color=bars.colour.light)
    for tile in panel.tiles:
        box = Rectangle((tile.x - 0.49, tile.y - 0.48), 0.98, 0.96, lw=0, alpha=tile.opacity)
        box.set_facecolor(tile.colour.light)
        axes.add_patch(box)
        weight = "bold" if tile.bold else "normal"
        axes.text(tile.x, tile.y, tile.text, ha="center", va="center", size=8, weight=weight)
    for series in panel.series:
        marks = [m for m in series.marks if _fits(m.x, panel.x) and _fits(m.y, panel.y)]
        moved = axes.transData + ScaledTranslation(series.shift / 72, 0, figure.dpi_scale_trans)
        style: Any = {"color": series.colour.light, "transform": moved}
        axes.plot([m.x for m in marks], [m.y for m in marks], ls=series.line, **style)
        marker = legend[series.name].get_marker() if series.name else series.shape or ""
        for hollow in (False, True):
            alike = [mark for mark in marks if mark.hollow is hollow]
            if not series.dots or not alike:
                continue
            ends = [mark.ends or (mark.y, mark.y) for mark in alike]
            errors = [(m.y - low, high - m.y) for m, (low, high) in zip(alike, ends, strict=True)]
            axes.errorbar(
                [mark.x for mark in alike],
                [mark.y for mark in alike],
                yerr=np.transpose(errors) if np.any(errors) else None,
                fmt=marker,
                markerfacecolor=PAPER.light if hollow else series.colour.light,
                elinewidth=0.9,
                capsize=2,
                clip_on=False,
                **style,
            )


def _fits(value: float, axis: Axis) -> bool:
    return math.isfinite(value) and (value > 0 or not axis.is_log)


def _axis(axes: Axes, which: str, axis: Axis) -> None:
    side = getattr(axes, f"{which}axis")
    if axis.is_log:
        getattr(axes, f"set_{which}scale")("log", nonpositive="clip")
        few = math.log10(axis.high / axis.low) <= 2.1
        side.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        side.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))
    if axis.ticks:
        side.set_ticks([value for value, _ in axis.ticks], [label for _, label in axis.ticks])
    side.set_minor_locator(NullLocator())
    axes.set(**{f"{which}lim": (axis.low, axis.high), f"{which}label": axis.title})


def _round(value: float, *, up: bool) -> float:
    """The nearest of 1, 2 and 5 times a power of ten, not below or not above."""
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    steps = [step * power for step in (1.0, 2.0, 5.0, 10.0)]
    if up:
        return next(step for step in steps if step >= value * (1 - 1e-9))
    return max(step for step in steps if step <= value * (1 + 1e-9))


def _following_the_scheme(svg: str, title: str, panels: Sequence[Panel]) -> str:
    """The drawing with each colour as a variable that has a value for a light and for a dark scheme."""
    colours = dict.fromkeys([INK, PAPER, FRAME, GRID])
    for panel in panels:
        for entries in (panel.series, panel.bars, panel.tiles):
            colours |= dict.fromkeys(entry.colour for entry in entries)
    light, dark = "", ""
    for number, colour in enumerate(colours):
        svg = svg.replace(f": {colour.light}", f": var(--c{number})")
        light, dark = f"{light}--c{number}:{colour.light};", f"{dark}--c{number}:{colour.dark};"
    style = f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    svg = svg.replace(
        " <metadata>", f"<title>{escape(title)}</title>\n<style>{style}</style>\n <metadata>", 1
    )
    return re.sub(r"[ \t]+$", "", svg, flags=re.M)
