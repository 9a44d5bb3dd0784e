"""Mistakes that would bias the text do bias it under the same enumeration: each control's law differs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from exactness.enumeration import (
    EnumeratedDraws,
    ExactPair,
    by_prefix,
    distance,
    fractions,
    law_of,
    target_law,
)
from exactness.test_enumeration import (
    C_SQS,
    DENSE,
    DRAFT_3,
    K_SQS,
    TARGET_3,
    Case,
    enumerate_case,
    loses_rejections,
)
from thinwire.cloud.session import CloudSession
from thinwire.common.law.draft_token import DraftToken, QuantizedDistribution
from thinwire.common.law.random_streams import Stream, draw_key
from thinwire.common.law.speculative import BlockOutcome
from thinwire.common.schemes import SchemeParameters
from thinwire.common.schemes.c_sqs import CSqs
from thinwire.common.session.messages import DraftBlock, PrefixHasher
from thinwire.edge.draft_block import DraftBlockBuilder


def bias(case: Case, pair: type[ExactPair], **options: object) -> Fraction:
    """Total variation between the output's law and the target's."""
    return distance(law_of(enumerate_case(case, pair=pair, **options)), target_law(case.target, case.outputs))


class _TestsAgainst(ExactPair):
    """The cloud tests against another law than the one the token was drawn from."""

    def tested_against(self, draft_probs: npt.NDArray[Any], token: DraftToken) -> DraftToken:
        """The token with the wrong law."""
        raise NotImplementedError

    def verify(
        self, rows: list[npt.NDArray[Any]], tokens: Sequence[DraftToken], first_position: int
    ) -> BlockOutcome:
        """Verification with every token's law replaced."""
        wrong = []
        for i, token in enumerate(tokens):
            prefix = tuple(self.cloud_cache[: len(self.cloud_cache) - len(tokens) + i])
            wrong.append(self.tested_against(self.draft(prefix), token))
        return super().verify(rows, wrong, first_position)


def on_own_lattice(probs: npt.NDArray[Any], support_ids: npt.NDArray[np.int64], token_id: int) -> DraftToken:
    """Exact `probs` on a support, as counts over their common denominator; their sum need not be 1."""
    denominator = int(np.lcm.reduce([p.denominator for p in probs]))
    counts = np.array([int(p * denominator) for p in probs[support_ids]], dtype=np.int64)
    index = int(np.flatnonzero(support_ids == token_id)[0])
    return DraftToken(QuantizedDistribution(support_ids, counts, denominator), index)


class TestsWithDraftLaw(_TestsAgainst):
    """u < p / q instead of p / q̂."""

    __test__ = False

    def tested_against(self, draft_probs: npt.NDArray[Any], token: DraftToken) -> DraftToken:
        """q on the whole vocabulary."""
        return on_own_lattice(draft_probs, np.flatnonzero(draft_probs), token.token_id)


class TestsWithUnnormalisedTopK(_TestsAgainst):
    """q cut to its K largest, but not renormalised, in the test and in the residual."""

    __test__ = False

    def tested_against(self, draft_probs: npt.NDArray[Any], token: DraftToken) -> DraftToken:
        """q on the support."""
        return on_own_lattice(draft_probs, token.quantized.support_ids, token.token_id)


class _DroppingBuilder(DraftBlockBuilder):
    """Drops a token that turned out unlikely, and ends the block before it."""

    def offer(self, draft_probs: npt.NDArray[Any]) -> int | None:
        """Draft, look, and take it back if the draft itself gave it little."""
        token_id = super().offer(draft_probs)
        if token_id is not None and draft_probs[token_id] < 0.4:
            self._tokens.pop()
            self._distributions.pop()
            self._states.pop()
            self.complete = True
            return None
        return token_id


class DropsSeenTokens(ExactPair):
    """An edge that drops a token after seeing it."""

    builder_class = _DroppingBuilder


class RerollsOnRetry(ExactPair):
    """A cloud that decides a repeated round anew, with fresh numbers."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._before: tuple[int, CloudSession, list[int]] | None = None

    def receive(self, block: DraftBlock) -> None:
        """Forget the verdict of a block that comes again."""
        assert self.cloud is not None
        if self._before is not None and self._before[0] == block.round:
            _, session, self.cloud_cache = self._before
            session.epoch, session.draws = self.cloud.epoch, _Rerolled(self.draws)
            self.cloud = session
        else:
            session = copy.copy(self.cloud)
            session._hasher = PrefixHasher()
            session._hasher.extend([*self.cloud_cache, session._last_token_id])
            self._before = (block.round, session, list(self.cloud_cache))
            self.cloud.draws = self.draws
        super().receive(block)


class _Rerolled:
    """The same draws under keys of a second attempt."""

    def __init__(self, draws: EnumeratedDraws) -> None:
        self._draws = draws

    def accept_integer(self, position: int) -> tuple[Any, int]:
        """A uniform of its own key."""
        uniform, resolution = self._draws.accept_integer(position)
        uniform._key = draw_key(0, Stream.ACCEPT, position, attempt=1)
        return uniform, resolution

    def race(self, stream: Stream, position: int, weights: npt.NDArray[Any]) -> tuple[int, float]:
        """A race of its own key."""
        return self._draws.race(stream, position + 1000, weights)


class _PositionKeyedDraws(EnumeratedDraws):
    """Draft draws that forget the attempt: a redraft meets the number that drew the discarded token."""

    def draft_integer(self, position: int, attempt: int, bound: int) -> int:
        """Keyed by position alone."""
        return super().draft_integer(position, 0, bound)


class KeysDraftsByPosition(ExactPair):
    """An edge whose draft draws are keyed by absolute position."""

    def __init__(
        self, parameters: Any, target: Any, draft: Any, draws: EnumeratedDraws, **options: Any
    ) -> None:
        super().__init__(parameters, target, draft, _PositionKeyedDraws(draws._path), **options)


@pytest.mark.parametrize("scheme", [K_SQS, C_SQS, DENSE], ids=["k-sqs", "c-sqs", "dense-qs"])
def test_testing_with_q_instead_of_the_lattice_law_biases_the_text(scheme: SchemeParameters) -> None:
    """The law sampled from must be the law tested against, rounding included."""
    assert bias(Case(scheme, TARGET_3, DRAFT_3, 2, 2, 3), TestsWithDraftLaw) > 0


@pytest.mark.parametrize("scheme", [K_SQS, replace(C_SQS, max_support_size=2)], ids=["k-sqs", "c-sqs"])
def test_an_unnormalised_support_biases_the_text(scheme: SchemeParameters) -> None:
    """A cut law that was not renormalised is not the law that was sampled from."""
    case = Case(scheme, TARGET_3, DRAFT_3, 2, 2, 3)

    assert bias(case, TestsWithUnnormalisedTopK) > 0


@pytest.mark.parametrize("scheme", [K_SQS, C_SQS, DENSE], ids=["k-sqs", "c-sqs", "dense-qs"])
def test_dropping_a_token_after_seeing_it_biases_the_text(scheme: SchemeParameters) -> None:
    """A stop rule that looks at the token it drops is a selection."""
    assert bias(Case(scheme, TARGET_3, DRAFT_3, 2, 2, 3), DropsSeenTokens) > 0


def test_dropping_an_unlikely_token_gives_the_published_example() -> None:
    """q = (.9, .1), p = (.5, .5), the second token dropped when seen: the text's law is (.55, .45)."""
    dense = replace(DENSE, lattice_resolution=10)
    case = Case(dense, by_prefix(fractions(1, 1)), by_prefix(fractions(9, 1)), 1, 1, 2)
    law = law_of(enumerate_case(case, pair=DropsSeenTokens))

    assert law == {(0,): Fraction(11, 20), (1,): Fraction(9, 20)}


@pytest.mark.parametrize("scheme", [K_SQS, C_SQS, DENSE], ids=["k-sqs", "c-sqs", "dense-qs"])
def test_rolling_again_on_a_retry_biases_the_text(scheme: SchemeParameters) -> None:
    """With a link that loses rejections, fresh numbers for a repeated round favour what was drafted."""
    case = Case(scheme, TARGET_3, DRAFT_3, 1, 2)

    assert bias(case, RerollsOnRetry, loses=loses_rejections) > 0
    assert bias(case, ExactPair, loses=loses_rejections) == 0


# The row after a drafted token tells which token that was, and the threshold remembers the row.
_POSITION_CASE = Case(
    CSqs.Parameters(
        lattice_resolution=3,
        max_support_size=3,
        initial_threshold=0.35,
        threshold_step=1.0,
        target_dropped_mass=0.2,
        rollback="drafted",
    ),
    by_prefix(fractions(3, 2, 1), fractions(2, 3, 1)),
    by_prefix(fractions(8, 6, 8), fractions(5, 1, 5), fractions(9, 5, 12)),
    draft_length=3,
    outputs=2,
    max_tokens=4,
)


def test_draft_keys_by_position_bias_the_text_where_discarded_drafts_are_remembered() -> None:
    """With `drafted` rollback the threshold knows the discarded token, hence the number the redraft meets."""
    assert bias(_POSITION_CASE, KeysDraftsByPosition) > 0
    assert bias(_POSITION_CASE, ExactPair) == 0


def test_draft_keys_by_position_would_do_where_nothing_is_remembered() -> None:
    """With `committed` rollback nothing of a discarded draft is left, so the bias above is the memory's."""
    scheme = replace(_POSITION_CASE.scheme, rollback="committed")

    assert bias(replace(_POSITION_CASE, scheme=scheme), KeysDraftsByPosition) == 0
