"""
A run at a glance: each method's median over the links of a round trip, and one scheme over each baseline.

The base of the first table is the target's own plain stream, `cloud-stream`; a run without it, or of a single
cell, has no overview.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from bench.grid.summaries import BASELINES, CellSummary, is_lost, method_names, percentile, ratio
from bench.markdown import NONE, number, table

BASE = "cloud-stream"
NAIVE = "cloud-ar"
Groups = dict[str, list[CellSummary]]
"""Cells by what they have in common, in words."""


def section(cells: Sequence[CellSummary], paced: str) -> str:
    """
    The tables as Markdown; nothing for a run that is too small.

    Args:
        cells: of the run.
        paced: " (paced)" or nothing, after the title.
    """
    if len(cells) < 2 or not any(cell.named(BASE) for cell in cells):
        return ""
    columns: Groups = {}
    for cell in sorted(cells, key=lambda cell: (cell.cell.rtt_s, cell.cell.temperature)):
        columns.setdefault(f"{cell.cell.rtt_s * 1000:g} ms, T {cell.cell.temperature:g}", []).append(cell)
    temperatures: Groups = {}
    for cell in sorted(cells, key=lambda cell: cell.cell.temperature):
        temperatures.setdefault(f"{cell.cell.temperature:g}", []).append(cell)
    parts = [
        f"## At a glance{paced}",
        f"Tokens/s over those of `{BASE}` in the same cell, median over the uplinks; wire bytes and target "
        "passes an output token, median over the cells of a temperature:",
        _by_method(cells, columns, temperatures),
        _one_scheme(cells, {**columns, "all": list(cells)}),
        _over_naive(cells, {**{f"T {t}": some for t, some in temperatures.items()}, "all": list(cells)}),
        _fastest(cells, temperatures),
    ]
    return "\n\n".join(part for part in parts if part)


def _by_method(cells: Sequence[CellSummary], columns: Groups, temperatures: Groups) -> str:
    counted = (
        ("bytes up", "wire_up_bytes", 0),
        ("down", "wire_down_bytes", 0),
        ("passes", "target_passes", 2),
    )
    head = ["method", *columns, *(f"{what}, T {t}" for what, _, _ in counted for t in temperatures)]
    rows = []
    for name in method_names(cells):
        speeds = [
            number(percentile(ratio(cell.named(name), cell.named(BASE)) for cell in some), 2)
            for some in columns.values()
        ]
        counts = [
            number(percentile(m.pooled(field) for c in some if (m := c.named(name)) is not None), digits)
            for _, field, digits in counted
            for some in temperatures.values()
        ]
        rows.append([name, *speeds, *counts])
    return table(head, rows, left=1)


def _one_scheme(cells: Sequence[CellSummary], groups: Groups) -> str:
    shown = {ours.method for cell in cells if (ours := cell.shown) is not None}
    there = [name for name in BASELINES if any(not math.isnan(cell.over(name)) for cell in cells)]
    if not shown or not there:
        return ""
    rows = [
        [words, *(_spread(cell.over(name) for cell in some) for name in there)]
        for words, some in groups.items()
    ]
    lead = (
        f"Tokens/s of {', '.join(sorted(shown))} over those of each baseline: median over the cells, least "
        "to most, and in how many cells it is as fast or faster:"
    )
    return f"{lead}\n\n{table(['cells', *(f'over {name}' for name in there)], rows, left=1)}"


def _over_naive(cells: Sequence[CellSummary], groups: Groups) -> str:
    methods = [method for cell in cells for method in cell.methods]
    drafting = {m.method for m in methods if not m.first.is_peer and m.first.way != NAIVE}
    if len(drafting) < 2 or not any(cell.named(NAIVE) for cell in cells):
        return ""  # of one alone the table above says it
    rows = [
        [name, *(_spread(ratio(c.named(name), c.named(NAIVE)) for c in some) for some in groups.values())]
        for name in method_names(cells)
        if name in drafting
    ]
    lead = f"The same of every method that drafts at the edge, over `{NAIVE}`:"
    return f"{lead}\n\n{table(['method', *groups], rows, left=1)}"


def _fastest(cells: Sequence[CellSummary], temperatures: Groups) -> str:
    if len({method.method for cell in cells for method in cell.methods if method.is_ours}) < 2:
        return ""
    lines = []
    for temperature, some in temperatures.items():
        best = Counter(ours.method for cell in some if (ours := cell.best_of_ours) is not None)
        if best:
            counted = ", ".join(f"{name} in {count}" for name, count in best.most_common())
            lines.append(f"- temperature {temperature}: {counted} of {best.total()} cells")
    return "\n".join(["Our fastest scheme:", "", *lines]) if lines else ""


def _spread(values: Iterable[float]) -> str:
    """Median, least to most, and cells that are won."""
    there = [value for value in values if not math.isnan(value)]
    if not there:
        return NONE
    won = sum(not is_lost(value) for value in there)
    return f"{percentile(there):.2f} ({min(there):.2f} to {max(there):.2f}), {won} of {len(there)}"
