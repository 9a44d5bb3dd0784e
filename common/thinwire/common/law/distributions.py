"""
Logits → the distribution a model samples from, and distances between distributions.

One function owns "the law": draft and target pass through the same `warp`, in transformers' order
(temperature, then top-k, then top-p).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from thinwire.common.config import SamplingParameters
from thinwire.common.errors import NonFiniteLogitsError
from thinwire.common.law.decision_margin import between, of_logits, of_shares
from thinwire.common.law.selection import kth_and_next, reaching


def check_logits(logits: npt.NDArray[Any]) -> None:
    """Refuse (V,) logits with NaN or +inf (the first bad id is named), or none finite; -inf is legal."""
    highest = logits.max()
    if np.isfinite(highest):
        return  # max propagates NaN, so a finite one rules out NaN and +inf together
    bad = np.flatnonzero(np.isnan(logits) | (logits == np.inf))
    if bad.size:
        raise NonFiniteLogitsError(f"the logit of id {bad[0]} is {logits[bad[0]]}; expected a finite number.")
    raise NonFiniteLogitsError(f"all {logits.size} logits are -inf; expected at least one finite number.")


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """exp(z) / Σ exp(z) over the last axis of (V,), in the array's own precision; -inf gives 0."""
    exponentials: npt.NDArray[Any] = logits - logits.max()
    np.exp(exponentials, out=exponentials)
    exponentials /= exponentials.sum()
    return exponentials


def warp(
    logits: npt.NDArray[Any],
    sampling: SamplingParameters,
    *,
    dtype: Any = np.float64,
    margins: list[float] | None = None,
) -> npt.NDArray[Any]:
    """
    The distribution after temperature, top-k and top-p.

    Args:
        logits: (V,) float32 or float64, finite or -inf.
        sampling: temperature 0 is greedy, ties to the smaller id.
        dtype: precision of the arithmetic and the result; float64 for the target's law.
        margins: given a list, how clearly tokens were kept is told there (`common.law.decision_margin`).

    Returns:
        (V,) `dtype`, sums to 1.

    Raises:
        NonFiniteLogitsError: see `check_logits`.

    As in transformers: top-k keeps every token that ties with the k-th; top-p drops, from the least likely up
    and of equals the smaller id first, while the dropped mass stays <= 1 - top_p, never the likeliest token.
    """
    check_logits(logits)
    if sampling.temperature == 0:
        probs = np.zeros(logits.shape, dtype=dtype)
        best = int(np.argmax(logits))
        probs[best] = 1.0
        if margins is not None:
            others = max(part.max(initial=-np.inf) for part in (logits[:best], logits[best + 1 :]))
            margins.append(of_logits(float(logits[best] - others)))
        return probs
    scores = logits.astype(dtype)
    if sampling.temperature != 1.0:
        scores /= sampling.temperature
    if 0 < sampling.top_k < scores.size:
        last, behind = kth_and_next(scores, sampling.top_k)
        if margins is not None and np.isfinite(last):  # two that tie are kept, and rounding may part them
            margins.append(of_logits(float(last - behind)))
        scores[scores < last] = -np.inf
    probs = softmax(scores)
    if sampling.top_p < 1.0:
        kept = _nucleus(probs, sampling.top_p, margins)
        nucleus = probs[kept]
        probs = np.zeros_like(probs)
        probs[kept] = nucleus / nucleus.sum()
    return probs


def warp_with_margin(
    logits: npt.NDArray[Any], sampling: SamplingParameters, *, dtype: Any = np.float64
) -> tuple[npt.NDArray[Any], float]:
    """`warp`, and the smallest of its margins."""
    margins = [1.0]
    return warp(logits, sampling, dtype=dtype, margins=margins), min(margins)


def _nucleus(probs: npt.NDArray[Any], top_p: float, margins: list[float] | None) -> npt.NDArray[np.int64]:
    """
    Ids that top-p keeps.

    Most laws have a small nucleus, so ever larger sets of likely tokens are sorted until one holds it.
    """
    for count in (64, 2048, probs.size):
        ids = reaching(probs, count, above=0.0)
        order = ids[np.argsort(probs[ids], kind="stable")]
        mass = np.cumsum(probs[order], dtype=np.float64)
        if ids.size < probs.size:
            mass += max(0.0, float(probs.sum(dtype=np.float64)) - float(mass[-1]))
        dropped = mass <= 1.0 - top_p
        dropped[-1] = False
        if dropped[0] or count >= probs.size:
            if margins is not None:
                first = int(np.count_nonzero(dropped))
                margins.append(of_shares(float(mass[first]), 1.0 - top_p))
                if first:
                    margins.append(of_shares(float(mass[first - 1]), 1.0 - top_p))
                    margins.append(between(float(probs[order[first]]), float(probs[order[first - 1]])))
            return order[~dropped]
    raise AssertionError("the last set holds every token")


def total_variation(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> Any:
    """½ Σ |first - second| of two (V,) distributions, in [0, 1]; works on exact numbers too."""
    return abs(first - second).sum() / 2
