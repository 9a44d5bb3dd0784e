"""C-SQS: keep the tokens above an adaptive threshold, steered to a target dropped mass (arXiv 2510.09942)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy.typing as npt

from thinwire.common.config import MAX_SUPPORT_SIZE, MAX_TEMPERATURE
from thinwire.common.schemes.base import DraftDistribution, SchemeState
from thinwire.common.schemes.lattice_scheme import LatticeScheme
from thinwire.common.schemes.parameters import choice, integer, real, switch
from thinwire.common.schemes.sparsify import above


class DroppedMassDefault(NamedTuple):
    """What c-sqs aims at, up to a temperature."""

    temperature: float
    target_dropped_mass: float
    """α*."""
    max_support_size: int
    """K_max."""


DROPPED_MASS_DEFAULTS = (
    DroppedMassDefault(0.3, 0.01, 64),
    DroppedMassDefault(0.6, 0.05, 256),
    DroppedMassDefault(1.0, 0.3, 256),
    DroppedMassDefault(MAX_TEMPERATURE, 0.7, 256),
)
"""
Ascending in temperature; the first row that reaches a temperature holds for it.

Chosen by `python -m bench.c_sqs_defaults` so that K_max binds on under 1 % of the bundled pair's steps: where
it binds, Theorem 2 is void. The last row is chosen at temperature 1.5.
"""


class CSqs(LatticeScheme):
    """
    Support: the tokens with q >= β, which is steered to a target dropped mass.

    { x : q(x) >= β_n }, the argmax if that is empty, the K_max largest if it is larger.
    The threshold follows β_{n+1} = β_n - η (α_n - α*), clamped to [-η (1 - α*), 1], or stays at β_1 when
    frozen.
    """

    name = "c-sqs"
    enumerates = False

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Parameters(LatticeScheme.Parameters):
        """ℓ, K_max, and the threshold's rule."""

        max_support_size: int = integer(
            256, short="K_max", means="largest support K_max", low=1, high=MAX_SUPPORT_SIZE, decodes=True
        )
        initial_threshold: float = real(
            0.05,
            short="beta",
            means="first threshold β₁, 0 or less keeps up to K_max",
            expected="a number at most 1",
            accepts=lambda beta: beta <= 1,
        )
        threshold_step: float = real(
            0.01,
            short="eta",
            means="threshold step η; with a small one K_max binds less",
            expected="a number in (0, 1]",
            accepts=lambda eta: 0 < eta <= 1,
        )
        target_dropped_mass: float = real(
            0.3,
            short="alpha",
            means="target dropped mass α*",
            expected="a number in [0, 1)",
            accepts=lambda target: 0 <= target < 1,
        )
        rollback: str = choice(
            "committed",
            short="rollback",
            means="whose updates of β stay: of tested tokens, or of all",
            values={word: word for word in ("committed", "drafted")},
        )
        frozen_threshold: bool = switch(short="frozen", means="β stays at β₁, and nothing is guaranteed")

        @classmethod
        def defaults(cls, temperature: float) -> Self:
            """α* and K_max by the temperature; see `DROPPED_MASS_DEFAULTS`."""
            rows = DROPPED_MASS_DEFAULTS
            row = next((row for row in rows if temperature <= row.temperature), rows[-1])
            return cls(target_dropped_mass=row.target_dropped_mass, max_support_size=row.max_support_size)

    parameters: Parameters

    @property
    def support_limit(self) -> int:
        return self.parameters.max_support_size

    def initial_state(self) -> SchemeState:
        """β_1; an adaptive one starts no lower than its clamp, where it keeps everything just as well."""
        p = self.parameters
        threshold = p.initial_threshold if p.frozen_threshold else max(p.initial_threshold, self._lowest)
        return replace(super().initial_state(), threshold=threshold)

    def quantize(self, draft_probs: npt.NDArray[Any], state: SchemeState) -> DraftDistribution:
        return self._on_lattice(draft_probs, above(draft_probs, state.threshold, self.support_limit))

    def next_state(self, state: SchemeState, drafted: DraftDistribution) -> SchemeState:
        p, threshold = self.parameters, state.threshold
        if not p.frozen_threshold:
            moved = threshold - p.threshold_step * (drafted.dropped_mass - p.target_dropped_mass)
            threshold = min(1.0, max(moved, self._lowest))
        return SchemeState(threshold, self._recorded(state, drafted))

    def kept_positions(self, drafted: int, accepted: int) -> int:
        """`committed`: those tested, so that Theorem 2 speaks of the output sequence; `drafted`: all."""
        if self.parameters.rollback == "drafted":
            return drafted
        return super().kept_positions(drafted, accepted)

    def guarantee(self, kept_positions: int) -> float | None:
        """Theorem 2's bound for these parameters; None when frozen."""
        if self.parameters.frozen_threshold:
            return None
        return dropped_mass_guarantee(self.parameters, kept_positions)

    @property
    def _lowest(self) -> float:
        """-η (1 - α*), where a threshold that no cap disturbs never gets below."""
        return -self.parameters.threshold_step * (1 - self.parameters.target_dropped_mass)


def dropped_mass_guarantee(parameters: CSqs.Parameters, kept_positions: int) -> float:
    """
    Theorem 2: what the mean dropped mass of T >= 1 kept positions cannot exceed, while K_max does not bind.

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
