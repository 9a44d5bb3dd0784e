"""The drafter against a table: what it feeds, where it stops, what it leaves in the cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fakes import TableModel, random_table
from thinwire.common.config import SamplingParameters
from thinwire.common.errors import LocalProtocolError
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.base import Scheme
from thinwire.common.schemes.k_sqs import KSqs
from thinwire.edge.drafter import PREFILL_CHUNK_TOKENS, Drafter, DraftingCancelledError
from thinwire.edge.events import Draft

SIZE = 5
LAW = random_table(11, SIZE, zeros=False)
SCHEME: Scheme = make_scheme(KSqs.Parameters(support_size=3), vocabulary_size=SIZE)


def drafter(model: TableModel, temperature: float = 1.0) -> Drafter:
    """A fresh drafter over `model`."""
    return Drafter(model, SCHEME, SamplingParameters(temperature=temperature), KeyedDraws(5))


def effect(feed: tuple[int, ...], **changes: Any) -> Draft:
    """A Draft effect for a prompt that is fed whole."""
    values: dict[str, Any] = {
        "attempt": 0,
        "feed_token_ids": feed,
        "first_position": len(feed),
        "max_draft_length": 4,
        "budget_bits": 0,
        "min_acceptance": 0.0,
        "stop_token_ids": frozenset(),
        "state": SCHEME.initial_state(),
        **changes,
    }
    return Draft(**values)


def test_a_greedy_block_is_the_models_argmax_chain() -> None:
    """At temperature 0 the drafted tokens are the argmax of each prefix."""
    block = drafter(TableModel(LAW), temperature=0.0).draft(effect((0, 1)))
    prefix: tuple[int, ...] = (0, 1)
    for _ in range(4):
        prefix = (*prefix, int(np.argmax(LAW(prefix))))

    assert tuple(token.token_id for token in block.tokens) == prefix[2:]


def test_the_last_drafted_token_is_not_fed() -> None:
    """γ tokens cost γ passes; the cache ends one short of the block."""
    model = TableModel(LAW)
    block = drafter(model).draft(effect((0, 1, 2)))

    assert len(block.tokens) == 4
    assert block.cache_length == 3 + 3
    assert model.passes == 4


def test_an_empty_block_feeds_nothing() -> None:
    """γ = 0: no pass, no payload."""
    model = TableModel(LAW)
    block = drafter(model).draft(effect((), first_position=3, max_draft_length=0))

    assert (block.tokens, block.payload, block.cache_length, model.passes) == ((), b"", 0, 0)


def test_drafting_stops_after_a_stop_token() -> None:
    """The end-of-text token is kept and ends the block."""
    block = drafter(TableModel(LAW)).draft(
        effect((0,), max_draft_length=20, stop_token_ids=frozenset(range(SIZE)))
    )

    assert len(block.tokens) == 1


def test_a_truncation_happens_before_the_next_draft() -> None:
    """A rolled-back drafter drafts as one that never saw the discarded tokens."""
    rolled, fresh = drafter(TableModel(LAW)), drafter(TableModel(LAW))
    rolled.draft(effect((0, 1)))
    rolled.truncate(3)
    rolled.truncate(2)
    again = rolled.draft(effect((3,), attempt=1, first_position=3))
    alone = fresh.draft(effect((0, 1, 3), attempt=1))

    assert again.payload == alone.payload
    assert again.cache_length == alone.cache_length


def test_a_long_prompt_is_fed_in_pieces() -> None:
    """So that a cancel frees the thread between two of them."""
    model = TableModel(LAW, context_length=2000)
    prompt = (1,) * (2 * PREFILL_CHUNK_TOKENS + 1)
    drafter(model).draft(effect(prompt, max_draft_length=1))

    assert model.passes == 3


def test_a_cancelled_drafter_stops_before_its_next_pass() -> None:
    """The pass in progress ends, no other begins."""

    def law(prefix: tuple[int, ...]) -> npt.NDArray[Any]:
        if len(prefix) == 3:
            cancelled.cancel()
        return LAW(prefix)

    model = TableModel(law, vocabulary_size=SIZE)
    cancelled = drafter(model)
    with pytest.raises(DraftingCancelledError):
        cancelled.draft(effect((0,), max_draft_length=9))

    assert model.passes == 3
    cancelled.close()
    assert model.open_sequences == 0


def test_a_cache_that_is_not_what_the_session_believes_is_never_drafted_from() -> None:
    """The draft fails with the two lengths."""
    fresh = drafter(TableModel(LAW))

    with pytest.raises(LocalProtocolError, match=r"the cache holds 0 tokens; expected 2\."):
        fresh.draft(effect((0, 1), first_position=4))


def test_a_draft_that_nobody_needs_ends_with_the_token_in_hand() -> None:
    """It is a whole block, and the next draft goes on behind it; a cut of another draft does nothing."""
    made = drafter(TableModel(LAW), temperature=0.0)
    made.cut(1)
    whole = made.draft(effect((0, 1), attempt=2))
    assert len(whole.tokens) == 4
    made.truncate(2)
    made.cut(3)
    cut = made.draft(effect((2,), attempt=3, first_position=3))
    assert len(cut.tokens) == 1
    assert cut.cache_length == 3
