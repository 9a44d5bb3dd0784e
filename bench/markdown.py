"""What the written results share: tables, and numbers that may be missing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

NONE = "–"
"""Stands where there is nothing."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int) -> str:
    """
    A table.

    Args:
        head: names of the columns.
        rows: a text a column.
        left: so many columns, the first ones, are words; the others are numbers and stand at the right.
    """
    rule = "|" + "".join("---|" if column < left else "---:|" for column in range(len(head)))
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)])


def number(value: float, digits: int) -> str:
    """With so many digits behind the point; `NONE` for NaN."""
    return NONE if math.isnan(value) else f"{value:.{digits}f}"


def bold(ratio: float) -> str:
    """A ratio, bold from 1 up; `NONE` for NaN."""
    return NONE if math.isnan(ratio) else f"**{ratio:.2f}**" if ratio >= 1 else f"{ratio:.2f}"
