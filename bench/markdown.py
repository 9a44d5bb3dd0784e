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


def number(value: float | None, digits: int) -> str:
    """With so many digits behind the point; `NONE` for None and NaN."""
    return NONE if value is None or math.isnan(value) else f"{value:.{digits}f}"


def bold(ratio: float | None) -> str:
    """A ratio, bold from 1 up; `NONE` for None and NaN."""
    text = number(ratio, 2)
    return f"**{text}**" if ratio is not None and ratio >= 1 else text
