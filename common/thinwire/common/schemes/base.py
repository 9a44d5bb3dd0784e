"""
What a scheme is: how the edge turns q into a drafted token and integers, how those integers become bits, and
how the cloud turns p and the bits into a verdict.

Each scheme is one file in this folder that subclasses `Scheme`, with its `Parameters`, and one line in the
registry. A scheme is stateless and needs no coding unless it says otherwise.
Everything here is pure: no clock, no I/O, no randomness but the `Draws` passed in.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt

from thinwire.common.config import MAX_DRAFT_LENGTH
from thinwire.common.law.draft_token import DraftToken, QuantizedDistribution
from thinwire.common.law.random_streams import Draws
from thinwire.common.law.speculative import BlockOutcome, verify_block
from thinwire.common.law.steps import Steps, finished
from thinwire.common.schemes.parameters import SchemeParameters


@dataclass(frozen=True, slots=True)
class DraftDistribution:
    """Edge only: q̂ with what the sparsifier did to get it."""

    quantized: QuantizedDistribution
    support_size: int
    """K_n, points the sparsifier kept (zero counts included)."""
    dropped_mass: float
    """α_n, q-mass outside the sparsifier's support."""
    cap_binds: bool
    """Whether K_max cut the support that the threshold asked for."""
    margin: float = 1.0
    """How clearly support and counts came out so (`common.law.decision_margin`)."""


@dataclass(frozen=True, slots=True)
class SchemeState:
    """
    What a scheme remembers between drafted positions, as an immutable value.

    `support_sizes` is a decayed histogram of the K⁺ of kept positions, by which a lattice scheme chooses its
    coding; `threshold` is β_n (NaN where the scheme has none).
    """

    threshold: float = math.nan
    support_sizes: tuple[float, ...] = ()


class Scheme(abc.ABC):
    """One scheme with its parameters, for a vocabulary of V ids; ConfigError for a V it cannot honour."""

    name: ClassVar[str]
    Parameters: type[SchemeParameters]
    """Each scheme has a frozen dataclass of its own, without a field where it has no parameter."""
    parameters: SchemeParameters
    may_run_free: bool = False
    """Whether a text is the same whatever is drafted, so that the target need not wait for drafts."""
    runs_free: bool = False
    """Whether the edge asks for that."""
    max_draft_length: int = MAX_DRAFT_LENGTH
    """γ of a block at most, whatever was asked for: the edge drafts no more, and the cloud rejects more."""

    def __init__(self, parameters: SchemeParameters, *, vocabulary_size: int) -> None:
        self.parameters = parameters
        self.vocabulary_size = vocabulary_size

    def __init_subclass__(cls) -> None:
        if {"name", "Parameters"} <= vars(cls).keys():
            cls.Parameters.scheme = cls.name

    @classmethod
    def would_run_free(cls, parameters: SchemeParameters) -> bool:
        """`runs_free` of a scheme with these parameters."""
        return cls.may_run_free and not parameters.values().get("lock_step")

    @classmethod
    def summary(cls) -> str:
        """The scheme in one sentence, for a command's help."""
        return (cls.__doc__ or "").strip().partition("\n")[0]

    # --- the edge's half ----------------------------------------------------------------------------------

    def initial_state(self) -> SchemeState:
        """Before the first drafted position."""
        return SchemeState()

    @abc.abstractmethod
    def quantize(self, draft_probs: npt.NDArray[Any], state: SchemeState) -> DraftDistribution:
        """
        q → q̂: sparsify, renormalise, round to the lattice, drop zero counts.

        `draft_probs` is (V,) float32 or float64, >= 0, sums to 1; `state` is left by the position before.
        """

    def next_state(self, state: SchemeState, drafted: DraftDistribution) -> SchemeState:
        """State after a token was drafted from `drafted`."""
        return state

    def kept_positions(self, drafted: int, accepted: int) -> int:
        """Positions of a decided block, γ with A accepted, whose updates of the state stay: those tested."""
        return min(accepted + 1, drafted)

    def state_after_verdict(self, states: Sequence[SchemeState], accepted: int) -> SchemeState:
        """The state to go on with, of γ + 1: that before each position, and the one after the block."""
        return states[self.kept_positions(len(states) - 1, accepted)]

    def sample(self, drafted: DraftDistribution, draws: Draws, *, position: int, attempt: int) -> DraftToken:
        """Draw the draft token from q̂ by one integer in [0, ℓ) and an integer cumulative sum."""
        pick = draws.draft_integer(position, attempt, drafted.quantized.lattice_resolution)
        return token_at(drafted.quantized, pick)

    def sample_with_margin(
        self,
        draft_probs: npt.NDArray[Any],
        drafted: DraftDistribution,
        draws: Draws,
        *,
        position: int,
        attempt: int,
    ) -> tuple[DraftToken, float]:
        """`sample`, and how clearly q led to this token; `drafted` is what `quantize` made of q."""
        return self.sample(drafted, draws, position=position, attempt=attempt), drafted.margin

    def acceptance(self, draft_probs: npt.NDArray[Any], token: DraftToken, margin: float) -> float:
        """
        Estimated chance that the cloud accepts a drafted token: min(1, q(x) / q̂(x)) √max q.

        The first factor is what the test keeps where p = q, the second the draft's sureness, for how far p is
        from q.

        Args:
            draft_probs: q, (V,).
            token: drawn from what `quantize` made of q.
            margin: of the draw, as `sample_with_margin` told it.
        """
        quantized = token.quantized
        q_hat = int(quantized.lattice_counts[token.token_index]) / quantized.lattice_resolution
        return min(1.0, float(draft_probs[token.token_id]) / q_hat) * math.sqrt(float(draft_probs.max()))

    def runner_up(
        self, draft_probs: npt.NDArray[Any], token: DraftToken, draws: Draws, *, position: int
    ) -> int | None:
        """The id that is likeliest at this place if the drafted token is wrong; None where there is none."""
        return None

    def guarantee(self, kept_positions: int) -> float | None:
        """A bound on the mean dropped mass over `kept_positions` >= 1 positions; None if there is none."""
        return None

    # --- the payload --------------------------------------------------------------------------------------

    def coding(self, state: SchemeState) -> int:
        """What a decoder of the next block needs beside its payload, chosen from what was drafted so far."""
        return 0

    @abc.abstractmethod
    def block_bits(self, distributions: Sequence[QuantizedDistribution], *, coding: int) -> float:
        """
        Bits of a block that carries these distributions, whichever token is drawn from each.

        The tokens' own bits are charged at their maximum, so that a stop rule may ask before sampling.
        """

    @abc.abstractmethod
    def encode(self, tokens: Sequence[DraftToken], *, coding: int) -> bytes:
        """One integer-coded bit string for the whole block (`proto/README.md`); empty for an empty block."""

    def decode(self, payload: bytes, *, draft_length: int, coding: int) -> tuple[DraftToken, ...]:
        """`decoding` in one go."""
        steps = self.decoding(payload, draft_length=draft_length, coding=coding)
        return finished(steps)

    @abc.abstractmethod
    def decoding(self, payload: bytes, *, draft_length: int, coding: int) -> Steps[tuple[DraftToken, ...]]:
        """
        Inverse of `encode`, in steps.

        Their cost is bounded by `draft_length`, the parameters and the payload's length.

        Raises:
            PayloadInvalidError: a rank out of range, non-zero padding or spare bytes.
        """

    @abc.abstractmethod
    def decoding_tokens(self, draft_length: int, payload_bytes: int) -> int:
        """What decoding a block may cost, in tokens of about a millisecond; charged before it is done."""

    @abc.abstractmethod
    def max_payload_bytes(self, draft_length: int) -> int:
        """The longest legal payload of a block of `draft_length` tokens; checked before decoding."""

    # --- the cloud's half ---------------------------------------------------------------------------------

    def verify(
        self,
        target_probs: Sequence[npt.NDArray[Any]],
        tokens: Sequence[DraftToken],
        draws: Draws,
        *,
        first_position: int,
    ) -> BlockOutcome:
        """Test the block against p and draw the replacement or bonus token; see `verify_block`."""
        return verify_block(target_probs, tokens, draws, first_position=first_position)


def token_at(quantized: QuantizedDistribution, pick: int) -> DraftToken:
    """The token whose share of [0, ℓ) holds `pick`; shares lie in order of ids, as wide as their counts."""
    return DraftToken(quantized, int(quantized.lattice_counts.cumsum().searchsorted(pick, side="right")))
