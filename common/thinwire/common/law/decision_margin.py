"""
How far the float decisions behind a draft block are from another outcome.

A *margin* is a number in [0, 1]: as long as no probability of q changes by a larger relative amount, the
decision stays as it is.
It is told from below: a margin is never larger than what holds.

Relative, because rounding is: a logit that is off by δ makes q(x) off by the factor exp(δ / T).
In float32 the same draft model gives logits that differ by some 1e-6, and q by some 1e-6 of itself and at
most 1e-4 (measured on the bundled draft at temperatures 1 and 0.3), when a prefix is fed in other pieces.
"""

from __future__ import annotations

import math

CLOSE_DRAFT_MARGIN = 1e-4
"""Below this, rounding in float32 may turn one of the decisions a block hangs on."""


def between(larger: float, smaller: float) -> float:
    """Margin of larger > smaller >= 0, both entries of q: (a - b) / (a + b)."""
    return (larger - smaller) / (larger + smaller)


def of_factor(factor: float) -> float:
    """Margin of an entry of q that is `factor` >= 1 times a fixed bound, or a bound that is so for it."""
    return 1.0 - 1.0 / factor


def of_logits(gap: float) -> float:
    """Margin between two entries of q whose logits, divided by the temperature, lie `gap` >= 0 apart."""
    return math.tanh(gap / 2)


def of_shares(share: float, bound: float) -> float:
    """Margin of a set of entries that holds `share` of q's mass, against a `bound` on it."""
    return abs(share - bound) / (share + bound) if share + bound > 0 else 1.0


def of_product(product: float, bound: float, factors: float) -> float:
    """Margin of a product of `factors` entries of q or fewer (a root counts a half), against a `bound`."""
    if product <= 0 or bound <= 0:
        return 1.0
    distance = abs(math.log(product / bound))
    return distance / (factors + distance)
