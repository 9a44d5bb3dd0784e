"""
When it is worth having: Thinwire's default scheme over each baseline in every cell, as a figure.

A row of panels for each baseline, in it one for each run (as the pair is, and paced), in that a tile for each
cell with the ratio of output tokens per second. One scheme is shown (`CellSummary.shown`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import charts
from bench.charts import tick_text
from bench.grid.cells import Cell
from bench.grid.conditions import in_a_line
from bench.grid.figures import short_rate
from bench.grid.store import read_generations, read_settings
from bench.grid.summaries import BASELINES, CellSummary, is_lost, summarise

STRONGEST = 8.0
"""Ratio either way at which a tile's colour is full."""


@dataclass(frozen=True, slots=True)
class Run:
    """A benchmark's folder, read."""

    name: str
    """ "as it is" or "paced ..."."""
    cells: tuple[CellSummary, ...]
    below: str
    """Conditions, for the caption."""

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Raises StoreError where a run's folder has no lines."""
        records = read_generations(folder)
        first = records[0]
        base_ms, token_ms = first.pacing_base_s * 1000, first.pacing_per_token_s * 1000
        name = f"paced {base_ms:g} + {token_ms:g} ms" if first.is_paced else "as it is"
        return cls(name, tuple(summarise(records)), in_a_line(read_settings(folder)))


def write(folders: Sequence[Path], path: Path) -> bool:
    """
    Draw the figure of one run or of several.

    Returns:
        whether there was anything of ours beside a baseline to draw.

    Raises:
        StoreError: no lines there.
    """
    runs = [Run.read(folder) for folder in folders]
    _, judged = count_lost(runs)
    if judged:
        path.write_text(draw(runs), encoding="utf-8")
    return judged > 0


def draw(runs: Sequence[Run]) -> str:
    """The figure as an SVG document."""
    there = [name for name in BASELINES if any(ratios(run, name) for run in runs)]
    panels = [_panel(run, name) for name in there for run in runs]
    shown = {ours.method for run in runs for cell in run.cells if (ours := cell.shown) is not None}
    lost, judged = count_lost(runs)
    below = (
        "Numbers: our output tokens/s over theirs, text by text, median. Blue and bold: as fast or faster. "
        f"Orange: slower, a cell we lose ({lost} of {judged}). Rows: round trip in ms and temperature. "
        "Paced: a target pass lasts at least so long, to stand for a large model.\n"
    )
    below += "\n".join(dict.fromkeys(run.below for run in runs))
    return charts.draw(
        f"{', '.join(sorted(shown))}: tokens/s over those of each baseline, cell by cell",
        panels,
        columns=max(2, len(runs)),
        caption=below,
    )


def ratios(run: Run, baseline: str) -> dict[Cell, float]:
    """The shown scheme over a baseline, for cells that have both."""
    found = {cell.cell: cell.over(baseline) for cell in run.cells}
    return {cell: ratio for cell, ratio in found.items() if not math.isnan(ratio)}


def count_lost(runs: Sequence[Run]) -> tuple[int, int]:
    """(tiles below 1, tiles)."""
    values = [ratio for run in runs for name in BASELINES for ratio in ratios(run, name).values()]
    return sum(is_lost(value) for value in values), len(values)


def _panel(run: Run, baseline: str) -> charts.Panel:
    found = ratios(run, baseline)
    words = f"over {baseline}, {run.name}{'' if found else ': not run'}"
    rates = sorted({cell.rate_up_bps for cell in found})
    rows = sorted({(cell.rtt_s, cell.temperature) for cell in found}, reverse=True)
    tiles = []
    for cell, ratio in found.items():
        lost = is_lost(ratio)
        strength = min(1.0, abs(math.log(ratio)) / math.log(STRONGEST))
        tiles.append(
            charts.Tile(
                float(rates.index(cell.rate_up_bps)),
                float(rows.index((cell.rtt_s, cell.temperature))),
                f"{ratio:.2f}" if ratio < 10 else tick_text(round(ratio)),
                charts.ORANGE if lost else charts.BLUE,
                0.12 + 0.5 * strength,
                bold=not lost,
            )
        )
    return charts.Panel(
        words,
        charts.categories("uplink, bit/s", [short_rate(rate) for rate in rates]),
        charts.categories("", [f"{rtt_s * 1000:g}, {temperature:g}" for rtt_s, temperature in rows]),
        tiles=tuple(tiles),
    )
