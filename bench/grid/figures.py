"""
`python -m bench.grid.figures DIR`: figures of a run as SVG, from its lines alone.

A panel for each round trip and temperature, a line for each method over the uplink's rate, both axes
logarithmic: output tokens per second, and bytes up the link per output token.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from bench.grid.cells import rate_text
from bench.grid.report import CellSummary, Summary, summarise
from bench.grid.store import StoreError, read_generations

PANEL_W, PANEL_H, LEFT, TOP, GAP = 300, 220, 60, 60, 50
LEGEND_W = 160
COLOURS = (
    *("#000000", "#777777", "#bbbbbb", "#8c564b", "#d62728", "#ff7f0e"),
    *("#9ecae1", "#6baed6", "#3182bd", "#08519c", "#2ca02c", "#9467bd"),
)
"""In the methods' order: greys for the streams, blues for K."""

Value = Callable[[Summary], float]
FIGURES: dict[str, tuple[str, Value]] = {
    "tokens-per-s.svg": ("output tokens/s (median)", lambda m: m.tokens_per_s),
    "wire-up.svg": ("bytes up the link a token", lambda m: m.pooled("wire_up_bytes", "output_tokens")),
}


def write(folder: Path) -> list[Path]:
    """
    Draw every figure into the folder.

    Returns:
        the files.

    Raises:
        StoreError: no lines there.
    """
    records = read_generations(folder)
    cells = summarise(records)
    paced = " (paced)" if any(record.is_paced for record in records) else ""
    paths = []
    for name, (title, value) in FIGURES.items():
        paths.append(folder / name)
        paths[-1].write_text(draw(cells, title + paced, value), encoding="utf-8")
    return paths


def draw(cells: Sequence[CellSummary], title: str, value: Value) -> str:
    """One figure as an SVG document."""
    names = list(dict.fromkeys(m.method for cell in cells for m in cell.methods))
    rates = sorted({cell.cell.rate_up_bps for cell in cells})
    rtts = sorted({cell.cell.rtt_s for cell in cells})
    temperatures = sorted({cell.cell.temperature for cell in cells})
    values = [value(m) for cell in cells for m in cell.methods]
    scale = _Scale(rates, [v for v in values if v > 0])
    width = LEFT + len(rtts) * (PANEL_W + GAP)
    legend_y = TOP + len(temperatures) * (PANEL_H + GAP) + 10
    columns = max(1, (width - LEFT) // LEGEND_W)
    height = legend_y + 18 * math.ceil(len(names) / columns) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15">{escape(title)}</text>',
    ]
    for row, temperature in enumerate(temperatures):
        for column, rtt_s in enumerate(rtts):
            chosen = [c for c in cells if (c.cell.temperature, c.cell.rtt_s) == (temperature, rtt_s)]
            head = f"RTT {rtt_s * 1000:g} ms, temperature {temperature:g}"
            x, y = LEFT + column * (PANEL_W + GAP), TOP + row * (PANEL_H + GAP)
            parts.append(f'<g transform="translate({x},{y})">{_panel(chosen, head, names, scale, value)}</g>')
    for number, name in enumerate(names):
        x, y = LEFT + number % columns * LEGEND_W, legend_y + number // columns * 18
        parts.append(
            f'<circle cx="{x}" cy="{y}" r="4" fill="{_colour(number)}"/>'
            f'<text x="{x + 9}" y="{y + 4}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Scale:
    """Where rates and values are inside a panel; logarithmic."""

    def __init__(self, rates: Sequence[int], values: Sequence[float]) -> None:
        self.rates = rates
        self._low = math.floor(math.log10(min(values, default=1.0)))
        self._high = max(self._low + 1, math.ceil(math.log10(max(values, default=10.0))))
        self.decades = range(self._low, self._high + 1)

    def x(self, rate: int) -> float:
        """Rates are equally far apart."""
        return (self.rates.index(rate) + 0.5) / len(self.rates) * PANEL_W

    def y(self, value: float) -> float:
        """Upwards."""
        return PANEL_H * (1 - (math.log10(value) - self._low) / (self._high - self._low))


def _panel(cells: Sequence[CellSummary], head: str, names: Sequence[str], scale: _Scale, value: Value) -> str:
    parts = [
        f'<text x="0" y="-8">{escape(head)}</text>',
        f'<rect width="{PANEL_W}" height="{PANEL_H}" fill="none" stroke="#888"/>',
    ]
    for decade in scale.decades:
        y = scale.y(10.0**decade)
        parts.append(f'<line x1="0" x2="{PANEL_W}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="-6" y="{y + 4:.1f}" text-anchor="end">{10.0**decade:g}</text>')
    for rate in scale.rates:
        label = escape(rate_text(rate).replace("bit/s", ""))
        parts.append(f'<text x="{scale.x(rate):.1f}" y="{PANEL_H + 14}" text-anchor="middle">{label}</text>')
    for number, name in enumerate(names):
        found = sorted((c.cell.rate_up_bps, value(m)) for c in cells for m in c.methods if m.method == name)
        points = [(scale.x(rate), scale.y(number_)) for rate, number_ in found if number_ > 0]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{_colour(number)}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_colour(number)}"/>' for x, y in points]
    return "".join(parts)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figures of a folder; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.grid.figures", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    try:
        print("\n".join(str(path) for path in write(parser.parse_args(argv).folder)))
    except StoreError as error:
        print(f"bench.grid.figures: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
