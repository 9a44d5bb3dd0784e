"""
The numerical kernels once more, in rationals and from their definitions: no numpy, no floats, no shared code.

Rows are lists of Fractions; nothing here is fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

Row = Sequence[Fraction]
HALF = Fraction(1, 2)


def warped(probs: Row, *, top_k: int = 0, top_p: Fraction = Fraction(1)) -> list[Fraction]:
    """The law after top-k (ties with the k-th stay), then top-p (dropped mass <= 1 - top_p)."""
    kept = list(probs)
    if 0 < top_k < len(kept):
        kth = sorted(kept, reverse=True)[top_k - 1]
        kept = [p if p >= kth else Fraction(0) for p in kept]
    total = sum(kept)
    kept = [p / total for p in kept]
    if top_p < 1:
        dropped = Fraction(0)
        ascending = sorted(range(len(kept)), key=lambda i: (kept[i], i))
        for i in ascending[:-1]:
            dropped += kept[i]
            if dropped > 1 - top_p:
                break
            kept[i] = Fraction(0)
    total = sum(kept)
    return [p / total for p in kept]


def total_variation(first: Row, second: Row) -> Fraction:
    """Half the L1 distance."""
    return sum((abs(a - b) for a, b in zip(first, second, strict=True)), Fraction(0)) / 2


def quantized(probs: Row, resolution: int) -> list[int]:
    """Reznik's algorithm (arXiv 1008.3597): round half up, then repair the sum where rounding erred most."""
    counts = [(resolution * p + HALF).__floor__() for p in probs]
    excess = sum(counts) - resolution
    errors = [b - resolution * p for b, p in zip(counts, probs, strict=True)]
    order = sorted(range(len(counts)), key=lambda i: (-errors[i] if excess > 0 else errors[i], i))
    for i in order[: abs(excess)]:
        counts[i] -= 1 if excess > 0 else -1
    return counts


def has_half_tie(probs: Row, resolution: int) -> bool:
    """Whether an entry lies between two counts, or two rounding errors are equal: floats may differ."""
    scaled = [resolution * p for p in probs]
    errors = [(s + HALF).__floor__() - s for s in scaled]
    return any((2 * s).denominator == 1 and s.denominator == 2 for s in scaled) or len(set(errors)) < len(
        errors
    )


def acceptance_probability(target_probs: Row, draft_law: Row, token_id: int) -> Fraction:
    """min(1, p(x) / q̂(x))."""
    return min(Fraction(1), target_probs[token_id] / draft_law[token_id])


def residual(target_probs: Row, draft_law: Row) -> list[Fraction]:
    """(p - q̂)₊ / TV(p, q̂)."""
    distance = total_variation(target_probs, draft_law)
    return [max(p - q, Fraction(0)) / distance for p, q in zip(target_probs, draft_law, strict=True)]


@dataclass(frozen=True)
class Verified:
    """A verified block: tokens kept, and the law of the token that ends the round."""

    accepted: int
    next_law: list[Fraction]
    resampled: bool


def verified(
    target_probs: Sequence[Row],
    draft_laws: Sequence[Row],
    token_ids: Sequence[int],
    uniforms: Sequence[Fraction],
) -> Verified:
    """Leviathan et al. 2023, algorithm 1, with given accept draws in [0, 1)."""
    for n, (draft_law, token_id, uniform) in enumerate(zip(draft_laws, token_ids, uniforms, strict=True)):
        if uniform >= acceptance_probability(target_probs[n], draft_law, token_id):
            return Verified(n, residual(target_probs[n], draft_law), True)
    return Verified(len(token_ids), list(target_probs[len(token_ids)]), False)
