"""Figures of an extrapolation: time a token over the edges on one cloud, a panel an uplink."""

from __future__ import annotations

from collections.abc import Sequence

from bench import charts
from bench.grid.cells import rate_text
from bench.simulation.extrapolate import Point

COLOURS = (charts.GREY, charts.BROWN, charts.BLUE, charts.GREEN, charts.RED, charts.VIOLET)


def draw(points: Sequence[Point], title: str, target_s: float, caption: str = "") -> str:
    """
    One figure as an SVG document; the mean solid, the 95th percentile dashed, the target dotted.

    Args:
        points: of one batching, headers counted.
        title: over all panels.
        target_s: a token may take.
        caption: what was assumed.
    """
    names = list(dict.fromkeys(point.method for point in points))
    edges = charts.logarithmic("edges", [point.edges for point in points])
    seconds = [value for point in points for value in (point.mean_s, point.p95_s)]
    upwards = charts.logarithmic("ms a token", [1000 * value for value in (*seconds, target_s)])
    panels = []
    for rate in sorted({point.rate_up_bps for point in points}):
        chosen = sorted((p for p in points if p.rate_up_bps == rate), key=lambda point: point.edges)
        series = [one for number, name in enumerate(names) for one in _series(chosen, name, number)]
        across = tuple(charts.Mark(end, 1000 * target_s) for end in (edges.low, edges.high))
        series.append(charts.Series("target", charts.INK, across, line="dotted", dots=False))
        panels.append(charts.Panel(f"{rate_text(rate)} up", edges, upwards, tuple(series)))
    below = f"Solid: mean. Dashed: 95th percentile over tokens. Simulated, not measured. {caption}".rstrip()
    return charts.draw(title, panels, columns=len(panels), caption=below)


def _series(points: Sequence[Point], name: str, number: int) -> list[charts.Series]:
    """Mean and 95th percentile of one method; the legend names it once."""
    colour = COLOURS[number % len(COLOURS)]
    own = [point for point in points if point.method == name]
    mean = tuple(charts.Mark(point.edges, 1000 * point.mean_s) for point in own)
    tail = tuple(charts.Mark(point.edges, 1000 * point.p95_s) for point in own)
    return [
        charts.Series(name, colour, mean),
        charts.Series("", colour, tail, line="dashed", dots=False),
    ]
