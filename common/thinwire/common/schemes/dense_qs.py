"""Dense QS: the whole vocabulary on the lattice, Quantize-Sample-and-Verify (arXiv 2507.00605)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinwire.common.law.lattice import quantize, rounding_margin
from thinwire.common.law.selection import reaching
from thinwire.common.schemes.base import DraftDistribution, SchemeState
from thinwire.common.schemes.lattice_scheme import LatticeScheme
from thinwire.common.schemes.parameters import integer

MAX_DENSE_RESOLUTION = 1024
"""ℓ at most: up to ℓ points are ranked with binomials of thousands of bits, which must stay bounded."""

_LEAST = 0.4
"""ℓ q of a token that may get a count, where more than ℓ tokens have as much."""


class DenseQs(LatticeScheme):
    """Support: every token; the lattice itself leaves out those that round to 0."""

    name = "dense-qs"
    enumerates = True

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Parameters(LatticeScheme.Parameters):
        """ℓ."""

        lattice_resolution: int = integer(
            100, short="ell", means="lattice resolution ℓ", low=1, high=MAX_DENSE_RESOLUTION, decodes=True
        )

    @property
    def support_limit(self) -> int:
        return self.vocabulary_size

    def quantize(self, draft_probs: npt.NDArray[Any], state: SchemeState) -> DraftDistribution:
        # Only tokens with ℓ q >= ½ round to a count, and what is then missing to ℓ goes to the next most
        # likely ones, so the rest of the vocabulary needs no look.
        resolution = self.resolution
        mass = float(draft_probs.sum(dtype=np.float64))
        ids = reaching(draft_probs, resolution + 1, above=0.0)  # with the first that gets no count
        likely = bool(draft_probs[ids].min() * resolution >= _LEAST * mass)
        if likely:
            ids = (draft_probs * resolution >= _LEAST * mass).nonzero()[0]
        kept = draft_probs[ids].astype(np.float64) / mass
        counts = quantize(kept, resolution)
        support_size = int(np.count_nonzero(draft_probs > 0))
        quantized = self._positive(ids, counts)
        if likely and support_size > len(ids):  # what was left out may come as near to a count as this
            kept, counts = np.append(kept, _LEAST / resolution), np.append(counts, 0)
        margin = rounding_margin(kept, counts, resolution)
        return DraftDistribution(quantized, support_size, 0.0, False, margin)
