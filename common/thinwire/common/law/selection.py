"""
The largest entries of a long array without partitioning all of it.

Two vectorised passes are cheaper.
One takes the maxima of strided columns; the K-th largest of them is a lower bound of the K-th largest entry.
The other finds the entries that reach it, few more than K.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

_COLUMNS = 512
"""Columns of the one-pass maximum: long enough to vectorise, short enough to partition for nothing."""
_LEAST_ROWS = 8
"""With fewer, the pass saves nothing over a partition of all."""


def reaching(values: npt.NDArray[Any], count: int, *, above: float = -np.inf) -> IntArray:
    """
    Indices of a few entries that hold the `count` largest of those > `above`, ties with the last included.

    Args:
        values: (n,) floating point, n >= 1, no NaN.
        count: K >= 1.
        above: entries at or below it are left out.

    Returns:
        ascending int64: all entries that reach some lower bound of the K-th largest.
    """
    size, floor = values.shape[0], -np.inf
    if count < size:
        columns = max(_COLUMNS, 2 * count)
        rows = size // columns
        few = values if rows < _LEAST_ROWS else values[: rows * columns].reshape(rows, columns).max(axis=0)
        floor = np.partition(few, -count)[-count]
    return (values >= floor if floor > above else values > above).nonzero()[0]


def kth_and_next(values: npt.NDArray[Any], count: int) -> tuple[Any, Any]:
    """
    The `count`-th largest entry of (n,) `values`, 1 <= count <= n, and the next one, in the array's own
    precision; equal where they tie, -inf where there is no next one.
    """
    few = values[reaching(values, count + 1)]
    if few.size > count:
        few.partition((few.size - count - 1, few.size - count))
        return few[-count], few[-count - 1]
    # -inf entries are left out above
    return few.min() if few.size == count else values.min(), -np.inf
