"""
A scheme in a package of its own: keep the nucleus of q, the fewest tokens whose mass reaches p.

`pip install ./examples/plugin_scheme` at both ends, then `thinwire generate ... --scheme nucleus-sqs:p=0.9`.
The text has the target's law, as with every scheme: the base class draws the token from what is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinwire.common.schemes.base import DraftDistribution, SchemeState
from thinwire.common.schemes.lattice_scheme import LatticeScheme
from thinwire.common.schemes.parameters import integer, real
from thinwire.common.schemes.sparsify import largest


class NucleusSqs(LatticeScheme):
    """Support: the fewest most likely tokens whose mass reaches p, at most K_max."""

    name = "nucleus-sqs"
    enumerates = False

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Parameters(LatticeScheme.Parameters):
        """ℓ, K_max and p."""

        max_support_size: int = integer(
            64, short="K_max", means="largest support K_max", low=1, high=256, decodes=True
        )
        mass: float = real(
            0.9,
            short="p",
            means="mass of q to keep",
            expected="a number in (0, 1]",
            accepts=lambda mass: 0 < mass <= 1,
        )

    parameters: Parameters

    @property
    def support_limit(self) -> int:
        """K_max."""
        return self.parameters.max_support_size

    def quantize(self, draft_probs: npt.NDArray[Any], state: SchemeState) -> DraftDistribution:
        """q → q̂ on the nucleus."""
        masses = np.cumsum(np.sort(draft_probs)[::-1][: self.support_limit])
        size = 1 + int(np.searchsorted(masses, self.parameters.mass))
        return self._on_lattice(draft_probs, largest(draft_probs, min(size, self.support_limit)))
