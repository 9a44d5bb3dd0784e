"""
Builds one block from draft distributions, one position at a time.

The stop rules never look at a token they might drop: the budget is asked with the support and counts alone,
before the token is drawn; a token that ends the text or makes the block unlikely is kept, and ends the block.
Dropping a token after seeing it would bias the text.
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy.typing as npt

from thinwire.common.errors import LocalProtocolError
from thinwire.common.law.decision_margin import of_product
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.law.random_streams import Draws
from thinwire.common.schemes.base import DraftDistribution, Scheme, SchemeState
from thinwire.edge.events import Draft, DraftedBlock


class DraftBlockBuilder:
    """
    One block in the making.

    Args:
        scheme: quantises, samples and codes.
        state: the scheme's state before the block.
        draws: the generation's randomness.
        attempt: number of the Draft effect.
        first_position: absolute index of the first token.
        max_draft_length: γ, 0 to 64.
        budget_bits: payload bits at most, 0 for none; the first token is drafted all the same.
        min_acceptance: the block ends after the token with which `acceptance` falls below this; 0 is never.
        stop_token_ids: the block ends after one of these.
    """

    def __init__(
        self,
        scheme: Scheme,
        state: SchemeState,
        draws: Draws,
        *,
        attempt: int,
        first_position: int,
        max_draft_length: int,
        budget_bits: int,
        min_acceptance: float,
        stop_token_ids: frozenset[int],
    ) -> None:
        self._scheme = scheme
        self._draws = draws
        self._attempt = attempt
        self._first_position = first_position
        self._budget_bits = budget_bits
        self._min_acceptance = min_acceptance
        self._stop_token_ids = stop_token_ids
        self._max_draft_length = max_draft_length
        self._states = [state]
        self._code = scheme.support_size_code(state)
        self._tokens: list[DraftToken] = []
        self._distributions: list[DraftDistribution] = []
        self.acceptance = 1.0
        """
        Estimated chance that the cloud takes the block so far: Π min(1, q(xₙ) / q̂(xₙ)) √max qₙ.

        The first factor is what the test keeps where p = q, the second the draft's sureness, for how far p is
        from q.
        """
        self.complete = max_draft_length == 0
        """Whether the block takes no more tokens."""
        self.margin = 1.0
        """Of the closest of the float decisions so far, those of a position that found no room included."""

    @classmethod
    def of(cls, effect: Draft, scheme: Scheme, draws: Draws) -> Self:
        """The block that a Draft effect asks for."""
        return cls(
            scheme,
            effect.state,
            draws,
            attempt=effect.attempt,
            first_position=effect.first_position,
            max_draft_length=effect.max_draft_length,
            budget_bits=effect.budget_bits,
            min_acceptance=effect.min_acceptance,
            stop_token_ids=effect.stop_token_ids,
        )

    def offer(self, draft_probs: npt.NDArray[Any], *, margin: float = 1.0) -> int | None:
        """
        Draft the next token from q.

        Args:
            draft_probs: q, (V,), sums to 1.
            margin: how clearly the warping made it so.

        Returns:
            the drafted token id, or None if the budget closed the block before it was drawn.
        """
        if self.complete:
            raise LocalProtocolError("a complete block was offered another distribution.")
        drafted = self._scheme.quantize(draft_probs, self._states[-1])
        self.margin = min(self.margin, margin, drafted.margin)
        if self._tokens and self._budget_bits and self._bits_with(drafted) > self._budget_bits:
            self.complete = True
            return None
        position = self._first_position + len(self._tokens)
        token, drawn = self._scheme.sample_with_margin(
            draft_probs, drafted, self._draws, position=position, attempt=self._attempt
        )
        self.margin = min(self.margin, drawn)
        self._tokens.append(token)
        self._distributions.append(drafted)
        self._states.append(self._scheme.next_state(self._states[-1], drafted))
        token_id = token.token_id
        self.acceptance *= _acceptance(draft_probs, token)
        self.complete = len(self._tokens) == self._max_draft_length or token_id in self._stop_token_ids
        if not self.complete:
            self.complete = self.acceptance < self._min_acceptance
            factors = 1.5 * len(self._tokens)
            self.margin = min(self.margin, of_product(self.acceptance, self._min_acceptance, factors))
        return token_id

    def build(self, *, cache_length: int, draft_s: float) -> DraftedBlock:
        """The finished block with its payload."""
        return DraftedBlock(
            tokens=tuple(self._tokens),
            distributions=tuple(self._distributions),
            states=tuple(self._states),
            support_size_code=self._code,
            payload=self._scheme.encode(self._tokens, support_size_code=self._code),
            cache_length=cache_length,
            draft_s=draft_s,
            margin=self.margin,
        )

    def _bits_with(self, drafted: DraftDistribution) -> int:
        """Payload bits of the block with one more position, whichever token is drawn there."""
        distributions = [d.quantized for d in (*self._distributions, drafted)]
        bits = self._scheme.block_bits(distributions, support_size_code=self._code)
        return 8 * math.ceil(bits / 8)  # a payload is whole bytes


def _acceptance(draft_probs: npt.NDArray[Any], token: DraftToken) -> float:
    """min(1, q(x) / q̂(x)) √max q of one token."""
    quantized = token.quantized
    q_hat = int(quantized.lattice_counts[token.token_index]) / quantized.lattice_resolution
    return min(1.0, float(draft_probs[token.token_id]) / q_hat) * math.sqrt(float(draft_probs.max()))
