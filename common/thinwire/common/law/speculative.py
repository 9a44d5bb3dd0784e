"""
The acceptance test and what follows it: the step that makes the text exactly the target's.

A draft token x drawn from q̂ is kept with probability min(1, p(x) / q̂(x)); at the first rejection the
replacement comes from (p - q̂)₊, and after a block kept whole the bonus token comes from p.
With the counts b = ℓ q̂ everything is scaled by ℓ, so that no division is needed: keep x iff
u b(x) < ℓ p(x), replace in proportion to (ℓ p - b)₊.

The same lines run on float64 rows in service and on rows of exact fractions in the proofs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinwire.common.errors import DegenerateResidualError
from thinwire.common.law.draft_token import DraftToken, QuantizedDistribution
from thinwire.common.law.random_streams import Draws, Stream


@dataclass(frozen=True, slots=True)
class BlockOutcome:
    """What verification decided about one block."""

    accepted: int
    """A, draft tokens kept, 0 to γ."""
    next_token_id: int
    resampled: bool
    """Whether the next token replaces a rejected one (else it is the bonus token)."""
    decision_margin: float
    """Smallest margin of the block's draws, in [0, 1]: how far the closest decision was from another."""


def residual_weights(target_probs: npt.NDArray[Any], quantized: QuantizedDistribution) -> npt.NDArray[Any]:
    """
    Law of the replacement token after a rejection, up to its scale.

    Args:
        target_probs: p, (V,) float64 or exact, sums to 1.
        quantized: q̂, the law the token was *drawn from*.

    Returns:
        (ℓ p - b)₊, (V,), same number type; its sum is ℓ TV(p, q̂).

    Reference: Leviathan et al., arXiv 2211.17192, section 2.3, and Chen et al., arXiv 2302.01318;
    here on the lattice of arXiv 2510.09942.
    """
    weights = target_probs * quantized.lattice_resolution
    weights[quantized.support_ids] -= quantized.lattice_counts
    return np.asarray(np.maximum(weights, 0))


def verify_block(
    target_probs: Sequence[npt.NDArray[Any]],
    tokens: Sequence[DraftToken],
    draws: Draws,
    *,
    first_position: int,
) -> BlockOutcome:
    """
    Test a block of draft tokens against p and draw the token that ends the round.

    Args:
        target_probs: γ + 1 rows of (V,), float64 or exact, each sums to 1; fetched in order, the rows after
            the first rejection never.
        tokens: the γ draft tokens with the laws they were drawn from.
        draws: accept, residual and bonus draws.
        first_position: absolute index of the block's first token.

    Raises:
        DegenerateResidualError: a rejection with p = q̂, which exact arithmetic excludes.

    Does not check that rows are normalised or that counts sum to ℓ.
    """
    margin = 1.0
    for n, token in enumerate(tokens):
        position = first_position + n
        row, quantized = target_probs[n], token.quantized
        uniform, resolution = draws.accept_integer(position)
        count = int(quantized.lattice_counts[token.token_index])
        threshold = row[token.token_id] * quantized.lattice_resolution  # ℓ p(x); kept iff u b(x) < ℓ p(x)
        kept = uniform * count < threshold * resolution
        margin = min(margin, abs(float(uniform) / resolution - min(1.0, float(threshold) / count)))
        if kept:
            continue
        weights = residual_weights(row, quantized)
        if not weights.any():
            raise DegenerateResidualError(f"position {position}: a rejection with total variation 0.")
        next_token_id, race_margin = draws.race(Stream.RESIDUAL, position, weights)
        return BlockOutcome(n, next_token_id, True, min(margin, race_margin))
    next_token_id, race_margin = draws.race(
        Stream.BONUS, first_position + len(tokens), target_probs[len(tokens)]
    )
    return BlockOutcome(len(tokens), next_token_id, False, min(margin, race_margin))
