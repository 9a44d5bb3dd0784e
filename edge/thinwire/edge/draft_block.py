"""
Builds one block from draft distributions, one position at a time.

The stop rules never look at a token they might drop: the budget is asked with the support and counts alone,
before the token is drawn; a token that ends the text or makes the block unlikely is kept, and ends the block.
Dropping a token after seeing it would bias the text.
"""

from __future__ import annotations

import math
from typing import Any

import numpy.typing as npt

from thinwire.common.errors import LocalProtocolError
from thinwire.common.law.decision_margin import of_product
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.law.random_streams import Draws
from thinwire.common.schemes.base import DraftDistribution, Scheme
from thinwire.edge.events import Draft, DraftedBlock


class DraftBlockBuilder:
    """One block in the making, with the draws of its generation."""

    def __init__(self, effect: Draft, scheme: Scheme, draws: Draws) -> None:
        self._effect = effect
        self._scheme = scheme
        self._draws = draws
        self._states = [effect.state]
        self._coding = scheme.coding(effect.state)
        self._tokens: list[DraftToken] = []
        self._distributions: list[DraftDistribution] = []
        self._acceptances: list[float] = []
        self._runners_up: list[int | None] = []
        self.acceptance = 1.0
        """
        Estimated chance that the cloud takes the block so far: the product of its tokens'
        (`Scheme.acceptance`).
        """
        self.complete = effect.max_draft_length == 0
        """Whether the block is finished: another token is refused."""
        self.margin = 1.0
        """Margin of the closest float decision so far, those of a position that found no room included."""

    def offer(self, draft_probs: npt.NDArray[Any], *, margin: float = 1.0) -> int | None:
        """
        Draft the next token.

        Args:
            draft_probs: q, (V,), sums to 1.
            margin: how clearly the warping made it so.

        Returns:
            the drafted token id, or None if the budget closed the block before it was drawn.
        """
        if self.complete:
            raise LocalProtocolError("a complete block was offered another distribution.")
        effect = self._effect
        drafted = self._scheme.quantize(draft_probs, self._states[-1])
        self.margin = min(self.margin, margin, drafted.margin)
        if self._tokens and effect.budget_bits and self._bits_with(drafted) > effect.budget_bits:
            self.complete = True
            return None
        position = effect.first_position + len(self._tokens)
        token, drawn = self._scheme.sample_with_margin(
            draft_probs, drafted, self._draws, position=position, attempt=effect.attempt
        )
        self.margin = min(self.margin, drawn)
        self._tokens.append(token)
        self._distributions.append(drafted)
        self._states.append(self._scheme.next_state(self._states[-1], drafted))
        token_id = token.token_id
        self._acceptances.append(self._scheme.acceptance(draft_probs, token, drawn))
        self.acceptance *= self._acceptances[-1]
        if effect.names_runners_up:
            second = self._scheme.runner_up(draft_probs, token, self._draws, position=position)
            self._runners_up.append(second)
        self.complete = len(self._tokens) == effect.max_draft_length or token_id in effect.stop_token_ids
        if not self.complete:
            self.complete = self.acceptance < effect.min_acceptance
            factors = 1.5 * len(self._tokens)
            self.margin = min(self.margin, of_product(self.acceptance, effect.min_acceptance, factors))
        return token_id

    def build(self, *, cache_length: int, draft_s: float) -> DraftedBlock:
        return DraftedBlock(
            tokens=tuple(self._tokens),
            distributions=tuple(self._distributions),
            states=tuple(self._states),
            coding=self._coding,
            payload=self._scheme.encode(self._tokens, coding=self._coding),
            cache_length=cache_length,
            acceptances=tuple(self._acceptances),
            runners_up=tuple(self._runners_up),
            draft_s=draft_s,
            margin=self.margin,
        )

    def _bits_with(self, drafted: DraftDistribution) -> int:
        """Payload bits of the block with one more position, whichever token is drawn there."""
        distributions = [d.quantized for d in (*self._distributions, drafted)]
        bits = self._scheme.block_bits(distributions, coding=self._coding)
        return 8 * math.ceil(bits / 8)  # a payload is whole bytes
