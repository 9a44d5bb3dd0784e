"""
The largest entries of a long array without partitioning all of it.

A full partition of the vocabulary costs about seven softmaxes.
Here the maxima of strided columns are taken in one vectorised pass; the K-th largest of them is a lower bound
of the K-th largest entry, so only the few columns that reach it need a closer look.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

_COLUMNS = 512
"""Columns of the one-pass maximum: long enough to vectorise, short enough to partition for nothing."""


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
    size = values.shape[0]
    if count >= size:
        return np.flatnonzero(values > above)
    columns = max(_COLUMNS, 2 * count)
    if columns * 8 > size:
        floor = np.partition(values, size - count)[size - count]
        return np.flatnonzero(values >= floor if floor > above else values > above)
    rows = size // columns
    cut = rows * columns
    grid = values[:cut].reshape(rows, columns)
    maxima = grid.max(axis=0)
    floor = np.partition(maxima, columns - count)[columns - count]
    at = np.flatnonzero(maxima >= floor if floor > above else maxima > above)
    tail = values[cut:]
    if at.size * 4 > columns:  # ties everywhere: the columns tell nothing apart
        return np.flatnonzero(values >= floor if floor > above else values > above)
    block = grid[:, at]
    row, column = np.nonzero(block >= floor if floor > above else block > above)
    ids = row * columns + at[column]  # ascending, because np.nonzero goes row by row
    if cut == size:
        return ids
    return np.concatenate([ids, cut + np.flatnonzero(tail >= floor if floor > above else tail > above)])


def kth_largest(values: npt.NDArray[Any], count: int) -> Any:
    """The `count`-th largest entry of (n,) `values`, 1 <= count <= n, in the array's own precision."""
    few = values[reaching(values, count)]
    if few.size < count:  # -inf entries are left out above
        return values.min()
    return np.partition(few, few.size - count)[few.size - count]
