"""Dense QS: the whole vocabulary on the lattice, Quantize-Sample-and-Verify (arXiv 2507.00605)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from common.config import SchemeParameters
from common.schemes.base import DraftDistribution, SchemeState
from common.schemes.lattice_scheme import LatticeScheme

MAX_DENSE_RESOLUTION = 1024
"""ℓ at most: up to ℓ points a token are ranked with binomials of thousands of bits, and decoding must stay bounded."""


class DenseQs(LatticeScheme):
    """
    Support: every token; the lattice itself leaves out those that round to 0.

    Uses `lattice_resolution` (ℓ, at most 1024).
    """

    name = "dense-qs"
    enumerates = True

    def __init__(self, parameters: SchemeParameters, *, vocabulary_size: int) -> None:
        super().__init__(
            parameters,
            vocabulary_size=vocabulary_size,
            max_points=vocabulary_size,
            max_resolution=MAX_DENSE_RESOLUTION,
        )

    def quantize(self, draft_probs: npt.NDArray[Any], state: SchemeState) -> DraftDistribution:
        """q → q̂ on every token with q > 0; see the base class."""
        return self._on_lattice(draft_probs, np.flatnonzero(draft_probs))
