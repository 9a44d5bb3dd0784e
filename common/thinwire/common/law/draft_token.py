"""A drafted token and the law it was drawn from, as both ends hold them."""

from __future__ import annotations

from dataclasses import dataclass

from thinwire.common.law.selection import IntArray


@dataclass(frozen=True, slots=True)
class QuantizedDistribution:
    """
    q̂ as it crosses the wire: only points with a positive count.

    support_ids: (K⁺,) int64, ascending token ids; lattice_counts: (K⁺,) int64, positive, sum to ℓ.
    lattice_resolution: ℓ; with dense-f16 each token has its own.
    """

    support_ids: IntArray
    lattice_counts: IntArray
    lattice_resolution: int


@dataclass(frozen=True, slots=True)
class DraftToken:
    """One drafted token: the law it was drawn from and its place in that law's support."""

    quantized: QuantizedDistribution
    token_index: int

    @property
    def token_id(self) -> int:
        """The drafted token."""
        return int(self.quantized.support_ids[self.token_index])
