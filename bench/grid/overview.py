"""
A run at a glance: each method's median over the links of a round trip, and one scheme over each baseline.

The base of the first table is the target's own plain stream, `cloud-stream`; a run without it, or of a single
cell, has no overview.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from bench.grid.summaries import (
    BASELINES,
    CellSummary,
    Summary,
    is_lost,
    method_names,
    percentile,
    ratio,
)
from bench.markdown import NONE, number, table

BASE = "cloud-stream"
NAIVE = "cloud-ar"
Column = tuple[float, float]
"""Round trip in seconds, temperature."""


def section(cells: Sequence[CellSummary], paced: str) -> str:
    """
    The tables as Markdown.

    Args:
        cells: of the run.
        paced: " (paced)" or nothing, behind the title.

    Returns:
        nothing for a run that is too small.
    """
    if len(cells) < 2 or not any(cell.named(BASE) for cell in cells):
        return ""
    columns = sorted({(cell.cell.rtt_s, cell.cell.temperature) for cell in cells})
    parts = [
        f"## At a glance{paced}",
        f"Tokens/s over those of `{BASE}` in the same cell, median over the uplinks; wire bytes and target "
        "passes an output token, median over the cells of a temperature:",
        _by_method(cells, columns),
        _one_scheme(cells, columns),
        _over_naive(cells),
        _fastest(cells),
    ]
    return "\n\n".join(part for part in parts if part)


def _by_method(cells: Sequence[CellSummary], columns: Sequence[Column]) -> str:
    temperatures = _temperatures(cells)
    head = [
        "method",
        *(_column_text(column) for column in columns),
        *(f"{what}, T {t:g}" for what in ("bytes up", "down", "passes") for t in temperatures),
    ]
    rows = []
    for name in method_names(cells):
        speeds = [
            number(_median(ratio(cell.named(name), cell.named(BASE)) for cell in _of(cells, column)), 2)
            for column in columns
        ]
        counts = [
            number(_median(_pooled(cells, name, temperature, field)), digits)
            for field, digits in (("wire_up_bytes", 0), ("wire_down_bytes", 0), ("target_passes", 2))
            for temperature in temperatures
        ]
        rows.append([name, *speeds, *counts])
    return table(head, rows, left=1)


def _one_scheme(cells: Sequence[CellSummary], columns: Sequence[Column]) -> str:
    shown = {ours.method for cell in cells if (ours := cell.shown) is not None}
    there = [name for name in BASELINES if any(not math.isnan(cell.over(name)) for cell in cells)]
    if not shown or not there:
        return ""
    words = [(_column_text(column), _of(cells, column)) for column in columns]
    rows = [
        [text, *(_spread([cell.over(name) for cell in some]) for name in there)]
        for text, some in [*words, ("all", cells)]
    ]
    lead = (
        f"Tokens/s of {', '.join(sorted(shown))} over those of each baseline: median over the cells, least "
        "to most, and in how many cells it is as fast or faster:"
    )
    return f"{lead}\n\n{table(['cells', *(f'over {name}' for name in there)], rows, left=1)}"


def _over_naive(cells: Sequence[CellSummary]) -> str:
    names = [name for name in method_names(cells) if any(_drafts(cell.named(name)) for cell in cells)]
    if len(names) < 2 or not any(cell.named(NAIVE) for cell in cells):
        return ""  # of one alone the table above says it
    groups = [(f"T {t:g}", [c for c in cells if c.cell.temperature == t]) for t in _temperatures(cells)]
    rows = [
        [
            name,
            *(
                _spread([ratio(cell.named(name), cell.named(NAIVE)) for cell in some])
                for _, some in [*groups, ("all", cells)]
            ),
        ]
        for name in names
    ]
    head = ["method", *(text for text, _ in groups), "all"]
    return f"The same of every method that drafts at the edge, over `{NAIVE}`:\n\n{table(head, rows, left=1)}"


def _fastest(cells: Sequence[CellSummary]) -> str:
    if len({method.method for cell in cells for method in cell.methods if method.is_ours}) < 2:
        return ""
    lines = []
    for temperature in _temperatures(cells):
        best = Counter(
            ours.method
            for cell in cells
            if cell.cell.temperature == temperature and (ours := cell.best_of_ours) is not None
        )
        if best:
            counted = ", ".join(f"{name} in {count}" for name, count in best.most_common())
            lines.append(f"- temperature {temperature:g}: {counted} of {best.total()} cells")
    return "\n".join(["Our fastest scheme:", "", *lines]) if lines else ""


def _temperatures(cells: Sequence[CellSummary]) -> list[float]:
    return sorted({cell.cell.temperature for cell in cells})


def _of(cells: Sequence[CellSummary], column: Column) -> list[CellSummary]:
    return [cell for cell in cells if (cell.cell.rtt_s, cell.cell.temperature) == column]


def _column_text(column: Column) -> str:
    return f"{column[0] * 1000:g} ms, T {column[1]:g}"


def _drafts(method: Summary | None) -> bool:
    """At the edge."""
    return method is not None and not method.first.is_peer and method.first.way != NAIVE


def _pooled(cells: Sequence[CellSummary], name: str, temperature: float, field: str) -> list[float]:
    found = [cell.named(name) for cell in cells if cell.cell.temperature == temperature]
    return [method.pooled(field, "output_tokens") for method in found if method is not None]


def _median(values: Iterable[float]) -> float:
    return percentile(values, 0.5)


def _spread(values: Iterable[float]) -> str:
    """Median, least to most, and cells that are won."""
    there = [value for value in values if not math.isnan(value)]
    if not there:
        return NONE
    won = sum(not is_lost(value) for value in there)
    return f"{_median(there):.2f} ({min(there):.2f} to {max(there):.2f}), {won} of {len(there)}"
