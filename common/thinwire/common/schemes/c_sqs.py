"""C-SQS: keep the tokens above an adaptive threshold, steered to a target dropped mass (arXiv 2510.09942)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy.typing as npt

from thinwire.common.config import MAX_LATTICE_RESOLUTION, SchemeParameters
from thinwire.common.schemes.base import DraftDistribution, SchemeState
from thinwire.common.schemes.lattice_scheme import LatticeScheme
from thinwire.common.schemes.sparsify import above


class CSqs(LatticeScheme):
    """
    Support: { x : q(x) >= β_n }, the argmax if that is empty, the K_max largest if it is larger.

    The threshold follows β_{n+1} = β_n - η (α_n - α*), clamped to [-η (1 - α*), 1], or stays at β_1 when
    frozen.
    Uses `lattice_resolution`, `max_support_size`, `initial_threshold`, `threshold_step`,
    `target_dropped_mass`, `rollback` and `frozen_threshold`.
    """

    name = "c-sqs"
    enumerates = False

    def __init__(self, parameters: SchemeParameters, *, vocabulary_size: int) -> None:
        super().__init__(
            parameters,
            vocabulary_size=vocabulary_size,
            max_points=parameters.max_support_size,
            max_resolution=MAX_LATTICE_RESOLUTION,
        )

    def initial_state(self) -> SchemeState:
        """β_1; an adaptive one starts no lower than its clamp, where it keeps everything just as well."""
        p = self.parameters
        threshold = p.initial_threshold if p.frozen_threshold else max(p.initial_threshold, self._lowest)
        return replace(super().initial_state(), threshold=threshold)

    def quantize(self, draft_probs: npt.NDArray[Any], state: SchemeState) -> DraftDistribution:
        """q → q̂ on the tokens above β_n; see the base class."""
        support = above(draft_probs, state.threshold, self.parameters.max_support_size)
        return self._on_lattice(draft_probs, support)

    def next_state(self, state: SchemeState, drafted: DraftDistribution) -> SchemeState:
        """Record the support size and move the threshold."""
        return SchemeState(self._next_threshold(state, drafted), self._recorded(state, drafted))

    def guarantee(self, kept_positions: int) -> float | None:
        """Theorem 2's bound for these parameters; None when frozen."""
        if self.parameters.frozen_threshold:
            return None
        return dropped_mass_guarantee(self.parameters, kept_positions)

    def _next_threshold(self, state: SchemeState, drafted: DraftDistribution) -> float:
        p = self.parameters
        if p.frozen_threshold:
            return state.threshold
        moved = state.threshold - p.threshold_step * (drafted.dropped_mass - p.target_dropped_mass)
        return min(1.0, max(moved, self._lowest))

    @property
    def _lowest(self) -> float:
        """-η (1 - α*), where a threshold that no cap disturbs never gets below."""
        return -self.parameters.threshold_step * (1 - self.parameters.target_dropped_mass)


def dropped_mass_guarantee(parameters: SchemeParameters, kept_positions: int) -> float:
    """
    Theorem 2: what the mean dropped mass of T kept positions cannot exceed, while K_max does not bind.

    Args:
        parameters: β_1, η and α* of an adaptive c-sqs.
        kept_positions: T >= 1.

    Returns:
        the smaller of α* + (|β_1| + 1 + η α*) / (η T) and, while η (1 - 2 α*) <= 1,
        α* + (max(β_1, 0) + η (1 - α*)) / (η T); may exceed 1, and is then vacuous.

    Reference: arXiv 2510.09942, Theorem 2; the second form is ours (docs/schemes.md).
    """
    beta, eta = parameters.initial_threshold, parameters.threshold_step
    target = parameters.target_dropped_mass
    bound = target + (abs(beta) + 1 + eta * target) / (eta * kept_positions)
    if eta * (1 - 2 * target) <= 1:
        bound = min(bound, target + (max(beta, 0.0) + eta * (1 - target)) / (eta * kept_positions))
    return bound
