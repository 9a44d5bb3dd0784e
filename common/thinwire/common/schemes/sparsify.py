"""Which tokens a sparse scheme keeps: the K most likely, or those above a threshold."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from thinwire.common.law.decision_margin import between, of_factor
from thinwire.common.law.selection import IntArray, reaching

_NEAR = 0.01
"""A threshold's margin is told up to this share, so that entries far below it need no look."""


class Support(NamedTuple):
    """The tokens kept, and how clearly."""

    ids: IntArray
    """Ascending."""
    margin: float
    """See `common.law.decision_margin`."""
    cap_binds: bool = False
    """Whether K_max cut what the threshold asked for."""


def largest(probs: npt.NDArray[Any], count: int) -> Support:
    """
    Ids of the `count` largest entries, ties to the smaller id; entries that are 0 are left out.

    Args:
        probs: (V,) >= 0, at least one positive.
        count: K >= 1.

    Returns:
        min(K, positive entries) ids.
    """
    candidates = reaching(probs, count + 1, above=0.0)
    if candidates.size <= count:
        return Support(candidates, 1.0)
    order = (-probs[candidates]).argsort(kind="stable")
    best = candidates[order[:count]]
    margin = between(float(probs[best[-1]]), float(probs[candidates[order[count]]]))
    best.sort()
    return Support(best, margin)


def above(probs: npt.NDArray[Any], threshold: float, cap: int) -> Support:
    """
    Ids with probs >= threshold (and > 0); the argmax if there are none; the `cap` largest if there are more.

    Args:
        probs: (V,) >= 0, at least one positive.
        threshold: β; at or below 0 it keeps every positive entry.
        cap: K_max >= 1; ties at it go to the smaller id.
    """
    if threshold <= 0:
        kept = largest(probs, cap)
        return kept._replace(cap_binds=kept.ids.size == cap and int(np.count_nonzero(probs)) > cap)
    near = (probs >= threshold * (1 - _NEAR)).nonzero()[0]
    values = probs[near]
    reach = values >= threshold
    ids = near[reach]
    if ids.size > cap:
        kept = largest(probs, cap)
        last = float(probs[kept.ids].min())
        return Support(kept.ids, min(kept.margin, of_factor(last / threshold)), True)
    margin = _NEAR
    if ids.size < near.size:
        margin = of_factor(threshold / float(values[~reach].max()))
    if ids.size == 0:
        kept = largest(probs, 1)
        return Support(kept.ids, min(kept.margin, margin))
    return Support(ids, min(margin, of_factor(float(values[reach].min()) / threshold)))
