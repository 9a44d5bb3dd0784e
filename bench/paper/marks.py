"""Estimates as points of a figure."""

from __future__ import annotations

from collections.abc import Iterable

from bench.charts import Mark, Series
from bench.paper.claims import Estimate


def mark(x: float, point: Estimate, *, hollow: bool = False) -> Mark:
    """A mean with its error bar."""
    return Mark(x, point.mean, point.error, hollow)


def reach(series: Iterable[Series]) -> list[float]:
    """Values that an axis must show, error bars included."""
    marks = [mark for entry in series for mark in entry.marks]
    ends = [end for mark in marks for end in mark.ends or ()]
    return [mark.y for mark in marks] + ends
