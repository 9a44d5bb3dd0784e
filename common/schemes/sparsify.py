"""
Which tokens a sparse scheme keeps: the K most likely, or those above a threshold.

A full partition of the vocabulary costs about seven softmaxes.
Here the maxima of strided columns are taken in one vectorised pass; the K-th largest of them is a lower bound of the
K-th largest entry, so only the few columns that reach it need a closer look.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

_COLUMNS = 512
"""Columns of the one-pass maximum at full size: long enough to vectorise, short enough to partition for nothing."""


def largest(probs: npt.NDArray[Any], count: int) -> IntArray:
    """
    Ids of the `count` largest entries, ties to the smaller id; entries that are 0 are left out.

    Args:
        probs: (V,) >= 0, at least one positive.
        count: K >= 1.

    Returns:
        (min(K, positive entries),) int64, most likely first.
    """
    size = probs.shape[0]
    if count == 1:
        return np.array([int(np.argmax(probs))], dtype=np.int64)
    columns = min(_COLUMNS, size // 16)
    if columns < 2 * count:
        candidates = np.flatnonzero(probs)
    else:
        rows = size // columns
        grid = probs[: rows * columns].reshape(rows, columns)
        maxima = grid.max(axis=0)
        floor = np.partition(maxima, columns - count)[columns - count]
        at = np.flatnonzero(maxima >= floor)
        ids = (np.arange(rows, dtype=np.int64)[:, None] * columns + at).ravel()
        values = grid[:, at].ravel()
        tail = np.arange(rows * columns, size, dtype=np.int64)
        ids = np.concatenate([ids, tail])
        values = np.concatenate([values, probs[rows * columns :]])
        candidates = np.sort(ids[(values >= floor) & (values > 0)])
    if candidates.size == 0:
        candidates = np.flatnonzero(probs)
    order = np.argsort(-probs[candidates], kind="stable")[:count]
    return candidates[order]


def above(probs: npt.NDArray[Any], threshold: float, cap: int) -> tuple[IntArray, bool]:
    """
    Ids with probs >= threshold (and > 0); the argmax where there are none; the `cap` largest where there are more.

    Args:
        probs: (V,) >= 0, at least one positive.
        threshold: β; at or below 0 it keeps every positive entry.
        cap: K_max >= 1.

    Returns:
        (ids, cap_binds): ids in no particular order, ties to the smaller id.
    """
    if threshold > 0:
        ids = np.flatnonzero(probs >= threshold)
        if ids.size == 0:
            return largest(probs, 1), False
        if ids.size <= cap:
            return ids, False
        return ids[np.argsort(-probs[ids], kind="stable")[:cap]], True
    kept = largest(probs, cap)
    return kept, kept.size == cap and int(np.count_nonzero(probs)) > cap
