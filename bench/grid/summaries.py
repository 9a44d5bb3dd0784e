"""Measured texts by cell and method: what tables and figures of a run are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from bench.grid.cells import Cell
from bench.grid.records import MEASURED, GenerationRecord

BASELINE_SCHEMES = ("cloud-ar", "dense-f16")
"""Schemes that are here to be compared with; everything else that is no peer is ours."""
BASELINES = ("cloud-ar", "cloud-stream", "cloud-assisted")
"""Methods that one scheme of ours is shown beside."""
SHOWN = ("k-sqs:K=8", "k-sqs")
"""Thinwire's default scheme; where a run lacks it, the first of ours."""


def percentile(values: Iterable[float], share: float = 0.5) -> float:
    """Linear interpolation between order statistics, NaN left out; `share` is 0 to 1; NaN without values."""
    kept = [value for value in values if not math.isnan(value)]
    return float(np.quantile(kept, share)) if kept else math.nan


@dataclass(frozen=True, slots=True)
class Summary:
    """One method in one cell."""

    cell: Cell
    method: str
    texts: tuple[GenerationRecord, ...]
    """At least one, none failed."""

    @property
    def first(self) -> GenerationRecord:
        """For what all texts share."""
        return self.texts[0]

    @property
    def is_ours(self) -> bool:
        """Neither a streamed nor a naive baseline."""
        return not self.first.is_peer and self.first.way not in BASELINE_SCHEMES

    @property
    def tokens_per_s(self) -> float:
        """Median over texts."""
        return self.over(lambda text: text.tokens_per_s)

    def over(self, value: Callable[[GenerationRecord], float], share: float = 0.5) -> float:
        """A percentile over texts."""
        return percentile((value(text) for text in self.texts), share)

    def total(self, name: str) -> float:
        """Σ of a field over texts."""
        return float(sum(getattr(text, name) for text in self.texts))

    def pooled(self, above: str, below: str = "output_tokens") -> float:
        """Σ of one field / Σ of another; NaN for nothing."""
        return self.total(above) / self.total(below) if self.total(below) else math.nan

    def ratio_to(self, other: Summary) -> float:
        """Median over the texts both have of tokens/s over tokens/s; NaN without any."""
        theirs = {(text.prompt, text.seed): text.tokens_per_s for text in other.texts}
        return self.over(lambda text: text.tokens_per_s / theirs.get((text.prompt, text.seed), math.nan))


@dataclass(frozen=True, slots=True)
class CellSummary:
    """All methods in one cell, in the order in which they ran first."""

    cell: Cell
    methods: tuple[Summary, ...]

    def named(self, name: str) -> Summary | None:
        """A method by its name; None where it did not run."""
        return next((method for method in self.methods if method.method == name), None)

    @property
    def shown(self) -> Summary | None:
        """
        The one scheme of ours that stands for all; None where there is none.

        Not the fastest of several: a choice made on the texts that are shown would flatter.
        """
        ours = [method for method in self.methods if method.is_ours]
        default = [method for name in SHOWN for method in ours if method.method.startswith(name)]
        return next(iter([*default, *ours]), None)

    @property
    def best_streamed(self) -> Summary | None:
        """The fastest of what streams from the cloud."""
        return max((m for m in self.methods if m.first.is_peer), key=lambda m: m.tokens_per_s, default=None)

    @property
    def best_of_ours(self) -> Summary | None:
        """Our fastest scheme."""
        return max((m for m in self.methods if m.is_ours), key=lambda m: m.tokens_per_s, default=None)

    def over(self, baseline: str) -> float:
        """The shown scheme over a baseline; NaN where one is missing."""
        return ratio(self.shown, self.named(baseline))


def ratio(ours: Summary | None, theirs: Summary | None) -> float:
    """`Summary.ratio_to`; NaN where one is missing."""
    return ours.ratio_to(theirs) if ours is not None and theirs is not None else math.nan


def is_lost(value: float) -> bool:
    """Whether a ratio is below 1 as it is printed: 0.995 and more is 1.00."""
    return round(value, 2) < 1


def method_names(cells: Iterable[CellSummary]) -> list[str]:
    """In the order in which they ran first."""
    return list(dict.fromkeys(method.method for cell in cells for method in cell.methods))


def summarise(records: Iterable[GenerationRecord]) -> list[CellSummary]:
    """Measured texts that did not fail, by cell and method."""
    by_cell: dict[Cell, dict[str, list[GenerationRecord]]] = {}
    for record in records:
        if record.purpose == MEASURED and not record.failure:
            by_cell.setdefault(record.cell, {}).setdefault(record.method, []).append(record)
    return [
        CellSummary(cell, tuple(Summary(cell, name, tuple(texts)) for name, texts in methods.items()))
        for cell, methods in sorted(by_cell.items())
    ]
