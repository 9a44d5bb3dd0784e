"""One block in the making: where it stops, and that no stop depends on the token it might drop."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fakes import random_table, scheme_with
from thinwire.common.errors import LocalProtocolError
from thinwire.common.law.draft_token import DraftToken, QuantizedDistribution
from thinwire.common.law.random_streams import Draws, KeyedDraws, Stream
from thinwire.common.schemes import make_scheme, scheme_names
from thinwire.common.schemes.base import Scheme
from thinwire.edge.draft_block import DraftBlockBuilder
from thinwire.edge.events import Draft, DraftedBlock

SIZE = 40
LAW = random_table(1, SIZE)
DRAFTING = [name for name in scheme_names() if name != "cloud-ar"]
"""Schemes that draft."""


class CountingDraws(KeyedDraws):
    """Keyed draws that remember which were asked for."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.asked: list[tuple[int, int]] = []

    def draft_integer(self, position: int, attempt: int, bound: int) -> int:
        """Remember and draw."""
        self.asked.append((position, attempt))
        return super().draft_integer(position, attempt, bound)

    def race(self, stream: Stream, position: int, weights: npt.NDArray[Any]) -> tuple[int, float]:
        """Remember and draw."""
        self.asked.append((position, 0))
        return super().race(stream, position, weights)


def scheme_named(name: str) -> Scheme:
    """A small scheme over SIZE ids."""
    return make_scheme(scheme_with(name, support_size=4, lattice_resolution=20), vocabulary_size=SIZE)


def draft(
    scheme: Scheme,
    draws: Draws,
    *,
    length: int = 8,
    budget: int = 0,
    least: float = 0.0,
    stop: frozenset[int] = frozenset(),
) -> DraftedBlock:
    """Draft one block at position 2."""
    builder = DraftBlockBuilder(
        Draft(
            state=scheme.initial_state(),
            attempt=3,
            first_position=2,
            max_draft_length=length,
            budget_bits=budget,
            min_acceptance=least,
            stop_token_ids=stop,
        ),
        scheme,
        draws,
    )
    prefix: tuple[int, ...] = (0, 1)
    while not builder.complete:
        token_id = builder.offer(LAW(prefix))
        if token_id is not None:
            prefix = (*prefix, token_id)
    return builder.build(cache_length=len(prefix), draft_s=0.0)


@pytest.mark.parametrize("name", DRAFTING)
def test_a_block_decodes_to_the_tokens_and_laws_it_was_drawn_from(name: str) -> None:
    """What the payload says is what was sampled: token, support and counts."""
    scheme = scheme_named(name)
    block = draft(scheme, KeyedDraws(7))
    decoded = scheme.decode(block.payload, draft_length=8, coding=block.coding)

    assert [t.token_id for t in decoded] == [t.token_id for t in block.tokens]
    for token, sent in zip(decoded, block.tokens, strict=True):
        np.testing.assert_array_equal(token.quantized.support_ids, sent.quantized.support_ids)
        np.testing.assert_array_equal(token.quantized.lattice_counts, sent.quantized.lattice_counts)


@pytest.mark.parametrize("name", DRAFTING)
def test_a_block_carries_one_state_more_than_tokens(name: str) -> None:
    """States before every position and the one behind the block."""
    block = draft(scheme_named(name), KeyedDraws(7), length=5)

    assert len(block.tokens) == len(block.distributions) == 5
    assert len(block.states) == 6


@pytest.mark.parametrize("name", DRAFTING)
@pytest.mark.parametrize("budget", [1, 60, 100, 150, 200])
def test_a_budget_is_kept_beyond_the_first_token(name: str, budget: int) -> None:
    """A block of two or more tokens has at most the budget's bits."""
    block = draft(scheme_named(name), KeyedDraws(7), budget=budget)

    assert len(block.tokens) >= 1
    if len(block.tokens) > 1:
        assert 8 * len(block.payload) <= budget


def test_a_larger_budget_drafts_more() -> None:
    """The budget acts at all, and none means none."""
    scheme = scheme_named("k-sqs")
    lengths = [len(draft(scheme, KeyedDraws(7), budget=budget).tokens) for budget in (1, 60, 120, 0)]

    assert lengths == sorted(lengths)
    assert lengths[0] == 1
    assert lengths[-1] == 8


def test_a_token_that_the_budget_shuts_out_is_never_drawn() -> None:
    """The rule looks at support and counts only: draws are asked for kept tokens, once each."""
    draws = CountingDraws(7)
    block = draft(scheme_named("k-sqs"), draws, budget=60)

    assert 1 <= len(block.tokens) < 8
    assert draws.asked == [(2 + n, 3) for n in range(len(block.tokens))]


@pytest.mark.parametrize("name", DRAFTING)
def test_the_token_that_makes_a_block_unlikely_is_kept_and_ends_it(name: str) -> None:
    """The product of the scheme's estimates falls below the bound with the last token and not before."""
    scheme = scheme_named(name)
    free = draft(scheme, KeyedDraws(7))
    prefix: tuple[int, ...] = (0, 1)
    estimates = [1.0]
    for position, (token, state) in enumerate(zip(free.tokens, free.states, strict=False), start=2):
        law = LAW(prefix)
        drafted = scheme.quantize(law, state)
        _, margin = scheme.sample_with_margin(law, drafted, KeyedDraws(7), position=position, attempt=3)
        estimates.append(estimates[-1] * scheme.acceptance(law, token, margin))
        prefix = (*prefix, token.token_id)
    for length in range(1, len(free.tokens)):
        draws = CountingDraws(7)
        block = draft(scheme_named(name), draws, least=estimates[length] * 1.001)

        assert [t.token_id for t in block.tokens] == [t.token_id for t in free.tokens[:length]]
        assert len(draws.asked) == length


def test_a_tokens_estimated_acceptance() -> None:
    """min(1, q/q̂) √max q where q̂ is tested against; √max q and the race's margin where ids are compared."""
    law = np.array([0.64, 0.16, 0.2])
    half = DraftToken(QuantizedDistribution(np.array([0, 1]), np.array([1, 1]), 2), 1)
    one = DraftToken(QuantizedDistribution(np.array([1]), np.array([1]), 1), 0)

    assert scheme_named("k-sqs").acceptance(law, half, 1.0) == pytest.approx(0.32 * 0.8)
    assert scheme_named("coupled").acceptance(law, one, 0.5) == pytest.approx(0.75 * 0.8)


def test_an_end_of_text_token_is_kept_and_ends_the_block() -> None:
    """The token is part of the block; nothing is drafted behind it."""
    free = draft(scheme_named("k-sqs"), KeyedDraws(7))
    last = free.tokens[2].token_id
    first_at = [t.token_id for t in free.tokens].index(last)
    block = draft(scheme_named("k-sqs"), KeyedDraws(7), stop=frozenset({last}))

    assert [t.token_id for t in block.tokens] == [t.token_id for t in free.tokens[: first_at + 1]]


def test_an_empty_block_has_no_payload() -> None:
    """γ = 0: complete from the start."""
    block = draft(scheme_named("k-sqs"), KeyedDraws(7), length=0)

    assert (block.tokens, block.payload, len(block.states)) == ((), b"", 1)


def test_a_complete_block_takes_no_more() -> None:
    """Offering to a complete block is our own bug."""
    scheme = scheme_named("k-sqs")
    builder = DraftBlockBuilder(
        Draft(
            state=scheme.initial_state(),
            attempt=0,
            first_position=1,
            max_draft_length=0,
        ),
        scheme,
        KeyedDraws(1),
    )

    with pytest.raises(LocalProtocolError, match="complete block"):
        builder.offer(LAW((0,)))
