"""
Rounding a distribution to integer counts with a fixed total.

Reference: Reznik, arXiv 1008.3597 (the algorithm of arXiv 2507.00605 and 2510.09942).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def quantize(probs: npt.NDArray[Any], resolution: int) -> npt.NDArray[np.int64]:
    """
    The lattice point b / ℓ nearest to `probs` in L1.

    Args:
        probs: (K,) float64 or exact numbers, >= 0, sums to 1; not checked. Points that cannot get a count may
            be left out: all but the ℓ largest and those with probs >= 1 / 2ℓ.
        resolution: ℓ >= 1.

    Returns:
        (K,) int64 counts b >= 0 with sum ℓ; ties go to the smaller position. TV(probs, b / ℓ) is at most
        ⌊K/2⌋⌈K/2⌉ / (Kℓ).
    """
    if len(probs) == 1:
        return np.array([resolution], dtype=np.int64)
    scaled = probs * resolution
    counts = (scaled + 0.5).astype(np.int64)  # ⌊ ⌋, for nothing is negative
    surplus = int(counts.sum()) - resolution
    if surplus == 0:
        return counts
    rounding = counts - scaled  # ζ, in (-½, ½]
    if surplus > 0:
        counts[(-rounding).argsort(kind="stable")[:surplus]] -= 1
    else:
        counts[rounding.argsort(kind="stable")[:-surplus]] += 1
    return counts


def rounding_margin(probs: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], resolution: int) -> float:
    """
    How clearly `quantize` gave these counts (`common.law.decision_margin`).

    A count is ⌈ℓ p - c⌉ with one cut c for all points: who is rounded up first and whom the missing or
    surplus counts go to is one choice, of the points whose ℓ p has the largest fraction.
    So what counts is each point's distance to the cut, relative to its ℓ p, and the cut is free to lie
    anywhere between the points on its two sides; it is taken in the middle.
    """
    if len(probs) == 1:
        return 1.0
    scaled = probs * resolution
    excess = counts - scaled  # in an interval of length 1
    excess -= (excess.max() + excess.min()) / 2  # in [-½, ½]
    relative = float(((0.5 - np.abs(excess)) / scaled).min())
    return max(0.0, relative / (2 + relative))  # the renormalisation may double an entry's change
