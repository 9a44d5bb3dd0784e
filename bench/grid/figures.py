"""
`python -m bench.grid.figures DIR`: figures of a run as SVG, from its lines alone.

A panel for each round trip and temperature, a line for each method over the uplink's rate, both axes
logarithmic: output tokens per second, and bytes up the link per output token.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import svg
from bench.grid.cells import rate_text
from bench.grid.report import CellSummary, Summary, summarise
from bench.grid.store import StoreError, read_generations

COLOURS = (
    *(svg.INK, svg.GREY, svg.Colour("#b0b7be", "#6e7681"), svg.BROWN, svg.RED, svg.ORANGE),
    *(svg.Colour("#9ecae1", "#355f7a"), svg.Colour("#6baed6", "#3d84b0"), svg.Colour("#3182bd", "#58a6dc")),
    *(svg.Colour("#08519c", "#a5d3f2"), svg.GREEN, svg.VIOLET),
)
"""In the methods' order: greys for the streams, blues for K."""

Value = Callable[[Summary], float]
FIGURES: dict[str, tuple[str, str, Value]] = {
    "tokens-per-s.svg": ("output tokens/s (median)", "tokens/s", lambda m: m.tokens_per_s),
    "wire-up.svg": (
        "bytes up the link a token",
        "bytes a token",
        lambda m: m.pooled("wire_up_bytes", "output_tokens"),
    ),
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
    for name, (title, unit, value) in FIGURES.items():
        paths.append(folder / name)
        paths[-1].write_text(draw(cells, title + paced, unit, value), encoding="utf-8")
    return paths


def draw(cells: Sequence[CellSummary], title: str, unit: str, value: Value) -> str:
    """One figure as an SVG document."""
    names = list(dict.fromkeys(m.method for cell in cells for m in cell.methods))
    rates = sorted({cell.cell.rate_up_bps for cell in cells})
    rtts = sorted({cell.cell.rtt_s for cell in cells})
    temperatures = sorted({cell.cell.temperature for cell in cells})
    x = svg.categories("uplink, bit/s", [rate_text(rate).replace("bit/s", "") for rate in rates])
    y = svg.logarithmic(unit, [value(m) for cell in cells for m in cell.methods])
    panels = []
    for temperature in temperatures:
        for rtt_s in rtts:
            chosen = [c for c in cells if (c.cell.temperature, c.cell.rtt_s) == (temperature, rtt_s)]
            head = f"RTT {rtt_s * 1000:g} ms, temperature {temperature:g}"
            lines = [_line(chosen, name, number, rates, value) for number, name in enumerate(names)]
            panels.append(svg.Panel(head, x, y, tuple(lines)))
    return svg.draw(title, panels, columns=len(rtts))


def _line(
    cells: Sequence[CellSummary], name: str, number: int, rates: Sequence[int], value: Value
) -> svg.Series:
    """One method over the rates."""
    found = sorted((c.cell.rate_up_bps, value(m)) for c in cells for m in c.methods if m.method == name)
    marks = tuple(svg.Mark(float(rates.index(rate)), figure) for rate, figure in found)
    return svg.Series(name, COLOURS[number % len(COLOURS)], marks)


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
