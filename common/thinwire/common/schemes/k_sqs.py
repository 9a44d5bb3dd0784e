"""K-SQS: keep the K most likely tokens, round their renormalised law to the lattice (arXiv 2510.09942)."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from thinwire.common.config import MAX_LATTICE_RESOLUTION, SchemeParameters
from thinwire.common.schemes.base import DraftDistribution, SchemeState
from thinwire.common.schemes.lattice_scheme import LatticeScheme
from thinwire.common.schemes.sparsify import largest


class KSqs(LatticeScheme):
    """
    Support: the K largest of q, ties to the smaller id.

    Uses `support_size` (K) and `lattice_resolution` (ℓ).
    """

    name = "k-sqs"
    enumerates = True

    def __init__(self, parameters: SchemeParameters, *, vocabulary_size: int) -> None:
        super().__init__(
            parameters,
            vocabulary_size=vocabulary_size,
            max_points=parameters.support_size,
            max_resolution=MAX_LATTICE_RESOLUTION,
        )

    def quantize(self, draft_probs: npt.NDArray[Any], state: SchemeState) -> DraftDistribution:
        """q → q̂ on the K most likely tokens; see the base class."""
        return self._on_lattice(draft_probs, largest(draft_probs, self.parameters.support_size))
