"""The edge's session: the ends of a text."""

from __future__ import annotations

import pytest

from common.errors import RemoteProtocolError
from common.messages import Close, CloseReason, FinishReason, TokenKind
from edge.events import Cancelled, Draft, EdgeEffect, Emit, Finish, Refused, Send
from tests.edge.driven_session import SIZE, Driven, finish_of, only


def closes(effects: list[EdgeEffect], reason: FinishReason) -> bool:
    """Whether the text ends for `reason` after Close(FINISHED), with no further draft."""
    sends = [effect.message for effect in effects if isinstance(effect, Send)]
    drafts = [effect for effect in effects if isinstance(effect, Draft)]
    return sends == [Close(CloseReason.FINISHED)] and not drafts and finish_of(effects).reason is reason


def test_an_end_of_text_token_is_emitted_without_text_and_ends_the_text() -> None:
    """A committed id of the target's list, counted as output."""
    driven = Driven()
    driven.open()
    driven.round()
    effects = driven.verdict(0, 5)

    assert [(t.token_id, t.text) for t in only(effects, Emit).tokens] == [(5, "")]
    assert closes(effects, FinishReason.EOS)


def test_nothing_behind_an_accepted_end_of_text_token_is_emitted() -> None:
    """The bonus token of that round is dropped."""
    driven = Driven()
    driven.open(eos_token_ids=tuple(range(SIZE)))
    driven.round()
    effects = driven.verdict(1, 4)

    assert [t.kind for t in only(effects, Emit).tokens] == [TokenKind.ACCEPTED]
    assert closes(effects, FinishReason.EOS)
    assert driven.session.tally.output_tokens == 1
    assert len(driven.session.committed_token_ids) == 3


def test_a_stop_string_ends_the_text_and_its_last_token_is_counted() -> None:
    """The token that completes the match is emitted, its text is not."""
    driven = Driven(stop=("c",))
    driven.open()
    driven.round()
    effects = driven.verdict(0, 2)

    assert [(t.token_id, t.text) for t in only(effects, Emit).tokens] == [(2, "")]
    assert closes(effects, FinishReason.STOP)


@pytest.mark.parametrize(("max_tokens", "length"), [(1, 0), (2, 1), (3, 2), (9, 3)])
def test_a_block_never_overshoots_max_tokens(max_tokens: int, length: int) -> None:
    """γ leaves room for the cloud's own token."""
    driven = Driven(max_tokens=max_tokens)

    assert only(driven.open(), Draft).max_draft_length == length


def test_max_tokens_ends_the_text() -> None:
    """Reason length."""
    driven = Driven(max_tokens=1)
    driven.open()
    driven.round()

    assert closes(driven.verdict(0), FinishReason.LENGTH)


def test_a_full_context_ends_the_text() -> None:
    """The smaller context of the two models counts."""
    driven = Driven()
    draft = only(driven.open(context_length=4), Draft)
    driven.round()

    assert draft.max_draft_length == 1
    assert closes(driven.verdict(1), FinishReason.CONTEXT)


def test_a_cancel_closes_the_session_and_flushes_the_held_text() -> None:
    """A partial stop match is text after all."""
    driven = Driven(stop=("cX",))
    driven.open()
    driven.round()
    driven.verdict(0, 2)
    effects = driven.step(Cancelled())

    assert only(effects, Send).message == Close(CloseReason.CANCELLED)
    assert finish_of(effects) == Finish(FinishReason.CANCELLED, "c")


def test_a_refusal_ends_the_text_with_its_error() -> None:
    """A status that no retry mends."""
    driven = Driven()
    driven.open()
    error = RemoteProtocolError("no.")

    assert finish_of(driven.step(Refused(error))).error is error
