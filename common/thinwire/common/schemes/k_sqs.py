"""K-SQS: keep the K most likely tokens, round their renormalised law to the lattice (arXiv 2510.09942)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from thinwire.common.config import MAX_SUPPORT_SIZE
from thinwire.common.schemes.base import DraftDistribution, SchemeState
from thinwire.common.schemes.lattice_scheme import LatticeScheme
from thinwire.common.schemes.parameters import integer
from thinwire.common.schemes.sparsify import largest


class KSqs(LatticeScheme):
    """Support: the K largest of q, ties to the smaller id."""

    name = "k-sqs"
    enumerates = True

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Parameters(LatticeScheme.Parameters):
        """K and ℓ."""

        support_size: int = integer(
            8, short="K", means="support size K", low=1, high=MAX_SUPPORT_SIZE, decodes=True
        )

    parameters: Parameters

    @property
    def support_limit(self) -> int:
        return self.parameters.support_size

    def quantize(self, draft_probs: npt.NDArray[Any], state: SchemeState) -> DraftDistribution:
        return self._on_lattice(draft_probs, largest(draft_probs, self.support_limit))
