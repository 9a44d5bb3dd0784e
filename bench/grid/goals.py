"""
What a cloud that writes by itself must reach, as data, and how far a run's texts reach it.

A figure is a ratio of the same text (prompt and seed) by two methods in one cell, or a figure of one method;
ratios are averaged as logarithms, first over a cell's texts, then over cells. Its bound is the worse end of
the 95 % interval by bootstrap: prompts are drawn with replacement, the same in every cell and for either
method. Of few prompts such an interval is rather too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from polars import col

from bench.grid.cells import FREE
from bench.markdown import NONE, number

CELL = ("pass_ms", "rtt_s", "rate_up_bps", "temperature")
OURS, CLOUD, STREAM = "coupled", "coupled:objective=cloud", "cloud-stream"
KSQS, ASSISTED = "k-sqs:K=8", "cloud-assisted"
DRAWS, TAIL = 2000, 0.025
Floats = npt.NDArray[np.float64]

SPEED, FIRST = col("tokens_per_s"), col("first_token_s")
BYTES = col("wire_up_bytes") / col("output_tokens")
PASSES = col("target_passes") / col("output_tokens")
PACED, NEAR = col("pass_ms") > 0, col("rtt_s") <= 0.04


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure that must be reached."""

    words: str
    must: float
    hoped: float
    cells: pl.Expr
    over: str = ""
    """How the other method's name begins; empty for a figure of one method."""
    value: pl.Expr = SPEED
    method: str = OURS
    at_most: bool = False
    in_each: bool = False
    """Whether the worst cell counts, and not the mean."""
    least_bound: float | None = None
    """What the worst cell's bound must reach beside it."""

    def holds(self, value: float, than: float) -> bool:
        """Whether a figure is as good as another."""
        return value <= than if self.at_most else value >= than


def _by_temperature(words: str, cells: pl.Expr, wanted: Sequence[tuple[float, float, float]]) -> list[Goal]:
    return [
        Goal(f"{words}, T = {t:g}", must, hoped, cells & (col("temperature") == t), STREAM)
        for t, must, hoped in wanted
    ]


EVERYWHERE = pl.lit(value=True)
NEAR_WANTED = ((0.3, 2.5, 3.3), (0.6, 2.0, 2.8), (1.0, 1.5, 1.9))
FAR_WANTED = ((0.3, 2.0, 2.8), (0.6, 1.6, 2.4), (1.0, 1.2, 1.5))
FAR = col("rtt_s") == 0.15
WIDE = PACED & NEAR & (col("rate_up_bps") >= 128_000)
GOALS: tuple[Goal, ...] = (
    Goal(
        "over `cloud-stream`, every cell (lower 95 % bound ≥ 0.95)",
        *(0.97, 1.0, EVERYWHERE, STREAM),
        in_each=True,
        least_bound=0.95,
    ),
    *_by_temperature(
        "over `cloud-stream`, mean of the paced cells with RTT ≤ 40 ms", PACED & NEAR, NEAR_WANTED
    ),
    *_by_temperature(
        "over `cloud-stream`, RTT 150 ms, paced 120 ms", FAR & (col("pass_ms") == 120), FAR_WANTED
    ),
    Goal("over k-sqs K = 8, RTT 150 ms unpaced, mean", 4.0, 6.0, FAR & ~PACED, KSQS),
    Goal("over k-sqs K = 8, whole grid, mean", 1.7, 2.3, EVERYWHERE, KSQS),
    Goal(
        "over `cloud-assisted`, each paced cell with RTT ≤ 40 ms from 128 kbit/s up",
        *(0.95, 1.1, WIDE, ASSISTED),
        in_each=True,
    ),
    Goal("the same, mean", 1.0, 1.1, WIDE, ASSISTED),
    Goal(
        "time to first token over `cloud-stream`'s, mean",
        *(1.05, 1.0, EVERYWHERE, STREAM, FIRST),
        at_most=True,
    ),
    Goal(
        "bytes up a token over k-sqs K = 8's, every cell",
        *(1.0, 0.5, EVERYWHERE, KSQS, BYTES),
        at_most=True,
        in_each=True,
    ),
    Goal(
        "target passes a token under `--objective cloud` at T = 0.3, mean",
        *(0.35, 0.25, col("temperature") == 0.3, "", PASSES, CLOUD),
        at_most=True,
    ),
)
CAPACITY: tuple[tuple[str, float, float], ...] = (("lock-step", 1.0, 1.5), ("plain streams", 1.3, 2.0))
"""Output tokens/s of many edges over these ways' of `bench.capacity`: must, hoped."""
CAPACITY_EDGES = (16, 64)
VERDICTS = {
    (True, True): "**met**",
    (True, False): "met so far",
    (False, True): "missed",
    (False, False): "missed so far",
}
"""By whether it holds, and whether every cell of the grid was run."""
HEAD = (
    *("figure", "must", "hoped", "measured", "95 % bound", "cells that miss it", "cells run", "texts a cell"),
    *("passes a token", "verdict"),
)


class Compared:
    """
    Figures of one goal by cell and prompt.

    Args:
        texts: as of `Run.texts`, with `pass_ms`.
        goal: what is compared.
    """

    def __init__(self, texts: pl.DataFrame, goal: Goal) -> None:
        self._goal = goal
        key = (*CELL, "prompt", "seed")
        here = texts.filter(goal.cells).with_columns(value=goal.value)
        found = here.filter(col("method") == goal.method)
        if goal.over:
            other = here.filter(col("method").str.starts_with(goal.over)).select(*key, base="value")
            ratio = (col("value") / col("base")).log()
            found = found.join(other, on=key).with_columns(value=ratio)
        found = found.sort(CELL)
        self.passes = float(found["target_passes"].sum()) / max(1.0, float(found["output_tokens"].sum()))
        """Target passes an output token, of all these texts of ours."""
        self.cells: list[tuple[float, ...]] = found.select(CELL).unique(maintain_order=True).rows()
        self.texts = len(found) / max(1, len(self.cells))
        """Texts a cell, on average."""
        prompts = sorted(set(found["prompt"]))
        self._values: Floats = np.full((len(self.cells), len(prompts)), np.nan)
        for *cell, prompt, value in found.select(*CELL, "prompt", "value").iter_rows():
            self._values[self.cells.index(tuple(cell)), prompts.index(prompt)] = value

    @cached_property
    def by_cell(self) -> Floats:
        """A mean a cell."""
        return self._read(np.nanmean(self._values, axis=1))

    @cached_property
    def figure(self) -> float:
        """The mean over cells, or the worst cell's."""
        return self._over_cells(self.by_cell)

    @cached_property
    def bound(self) -> float:
        """The worse end of the figure's interval; where each cell counts, the worst of the cells' ends."""
        known = ~np.isnan(self._values)
        count = self._values.shape[1]
        drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), DRAWS).astype(float)
        sums, weights = drawn @ np.where(known, self._values, 0.0).T, drawn @ known.T.astype(float)
        means = np.divide(sums, weights, out=np.full_like(sums, np.nan), where=weights > 0)
        share = 1 - TAIL if self._goal.at_most else TAIL
        if self._goal.in_each:
            return self._over_cells(self._read(np.nanquantile(means, share, axis=0)))
        return float(np.quantile(self._read(np.nanmean(means, axis=1)), share))

    def _read(self, values: Floats) -> Floats:
        return np.exp(values) if self._goal.over else values

    def _over_cells(self, values: Floats) -> float:
        if self._goal.in_each:
            return float(values.max() if self._goal.at_most else values.min())
        return float(np.exp(np.log(values).mean()) if self._goal.over else values.mean())


def rows_of(texts: pl.DataFrame, capacity: Sequence[Mapping[str, Any]] = ()) -> list[list[str]]:
    """
    A row of `HEAD` for each goal; what was not measured says so.

    Args:
        texts: as of `Compared`.
        capacity: lines of `bench.capacity --free`.
    """
    cells = [
        (p.base_s * 1000, c.rtt_s, c.rate_up_bps, c.temperature) for p in FREE.pacings for c in FREE.cells
    ]
    grid = pl.DataFrame(cells, schema=CELL, orient="row")
    rows = []
    for goal in GOALS:
        one, whole = Compared(texts, goal), len(grid.filter(goal.cells))
        sign = "≤" if goal.at_most else "≥"
        row = [goal.words, f"{sign} {goal.must:g}", f"{sign} {goal.hoped:g}"]
        if not one.cells:
            rows.append([*row, *[NONE] * 3, f"0 of {whole}", *[NONE] * 2, "not measured"])
            continue
        missing = sum(not goal.holds(value, goal.must) for value in one.by_cell)
        is_met = goal.holds(one.figure, goal.must) and one.bound >= (goal.least_bound or -math.inf)
        row += [number(one.figure, 2), number(one.bound, 2), f"{missing}", f"{len(one.cells)} of {whole}"]
        rows.append(
            [*row, f"{one.texts:.3g}", number(one.passes, 2), VERDICTS[is_met, len(one.cells) == whole]]
        )
    found = {(line["way"], line["edges"]): line for line in capacity}
    for way, must, hoped in CAPACITY:
        for edges in CAPACITY_EDGES:
            row = [
                f"{edges} edges on one cloud, passes of 50 ms: tokens/s over {way}",
                f"≥ {must:g}",
                f"≥ {hoped:g}",
            ]
            ours, theirs = found.get((OURS, edges)), found.get((way, edges))
            if not ours or not theirs:
                rows.append([*row, *[NONE] * 3, "0 of 1", *[NONE] * 2, "not measured"])
                continue
            ratio, passes = ours["tokens_per_s"] / theirs["tokens_per_s"], ours["rounds"] / ours["tokens"]
            row += [number(ratio, 2), NONE, f"{int(ratio < must)}", "1 of 1", NONE, number(passes, 2)]
            rows.append([*row, VERDICTS[ratio >= must, True]])
    return rows
