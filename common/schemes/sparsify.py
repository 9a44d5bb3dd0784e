"""Which tokens a sparse scheme keeps: the K most likely, or those above a threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from common.selection import IntArray, reaching


def largest(probs: npt.NDArray[Any], count: int) -> IntArray:
    """
    Ids of the `count` largest entries, ties to the smaller id; entries that are 0 are left out.

    Args:
        probs: (V,) >= 0, at least one positive.
        count: K >= 1.

    Returns:
        (min(K, positive entries),) int64, ascending.
    """
    if count == 1:
        return np.array([probs.argmax()], dtype=np.int64)
    candidates = reaching(probs, count, above=0.0)
    if candidates.size <= count:
        return candidates
    best = (-probs[candidates]).argsort(kind="stable")[:count]
    best.sort()
    return candidates[best]


def above(probs: npt.NDArray[Any], threshold: float, cap: int) -> tuple[IntArray, bool]:
    """
    Ids with probs >= threshold (and > 0); the argmax if there are none; the `cap` largest if there are more.

    Args:
        probs: (V,) >= 0, at least one positive.
        threshold: β; at or below 0 it keeps every positive entry.
        cap: K_max >= 1.

    Returns:
        (ids, cap_binds): ids ascending, ties to the smaller id.
    """
    if threshold > 0:
        ids = (probs >= threshold).nonzero()[0]
        if ids.size == 0:
            return largest(probs, 1), False
        if ids.size <= cap:
            return ids, False
        return largest(probs, cap), True
    kept = largest(probs, cap)
    return kept, kept.size == cap and int(np.count_nonzero(probs)) > cap
