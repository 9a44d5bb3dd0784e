"""The edge's session: the ends of a text."""

from __future__ import annotations

import pytest

from tests.edge.driven_session import SIZE, Driven, finish_of, only
from thinwire.common.errors import RemoteProtocolError
from thinwire.common.session.messages import Close, CloseReason, FinishReason, TokenKind
from thinwire.edge.events import Cancelled, Draft, EdgeEffect, Emit, Finish, Refused, Send


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
    assert driven.session.statistics.output_tokens == 1
    assert len(driven.session.committed_token_ids) == 3


def test_a_stop_string_ends_the_text_and_its_last_token_is_counted() -> None:
    """The token that completes the match is emitted, its text is not."""
    driven = Driven(stop=("c",))
    driven.open()
    driven.round()
    effects = driven.verdict(0, 2)

    assert [(t.token_id, t.text) for t in only(effects, Emit).tokens] == [(2, "")]
    assert closes(effects, FinishReason.STOP)


def test_a_stop_token_ends_the_text_and_has_none_of_its_own() -> None:
    """It counts; the bonus token behind it is dropped, and drafting stops at it."""
    driven = Driven(stop_token_ids=(0, 1, 2, 3, 4, 5))
    draft = only(driven.open(), Draft)
    driven.round()
    effects = driven.verdict(1, 4)

    assert draft.stop_token_ids == {0, 1, 2, 3, 4, 5}
    assert [(t.kind, t.text) for t in only(effects, Emit).tokens] == [(TokenKind.ACCEPTED, "")]
    assert closes(effects, FinishReason.STOP)
    assert driven.session.statistics.output_tokens == 1


def test_a_stop_token_that_is_an_end_of_text_token_too_was_asked_for() -> None:
    """Reason stop, also where end-of-text tokens are ignored."""
    for ignore_eos in (False, True):
        driven = Driven(stop_token_ids=(5,), ignore_eos=ignore_eos)
        driven.open()
        driven.round()

        assert closes(driven.verdict(0, 5), FinishReason.STOP)


def test_text_held_back_before_a_stop_token_is_text_after_all() -> None:
    """Half a stop string stood before it."""
    driven = Driven(stop=("cX",), stop_token_ids=(3,))
    driven.open()
    driven.round()
    driven.verdict(0, 2)
    driven.round()
    effects = driven.verdict(0, 3)

    assert finish_of(effects) == Finish(FinishReason.STOP, "c")


def test_a_stop_string_that_names_a_special_token_ends_the_text_at_the_token() -> None:
    """Though the token has no text; drafting stops at it."""
    driven = Driven(stop=("<end>",), special_tokens={"<end>": 4, "<pad>": 3})
    draft = only(driven.open(), Draft)
    driven.round()
    effects = driven.verdict(0, 4)

    assert draft.stop_token_ids == {4, 5}
    assert [(t.token_id, t.text) for t in only(effects, Emit).tokens] == [(4, "")]
    assert closes(effects, FinishReason.STOP)


@pytest.mark.parametrize("eos", [(4,), ()])
def test_a_stop_string_with_text_before_a_special_token_takes_that_text_away(eos: tuple[int, ...]) -> None:
    """The text waits for the token; one that ends texts by itself is no exception."""
    driven = Driven(stop=("c<end>",), special_tokens={"<end>": 4})
    driven.open(eos_token_ids=eos)
    driven.round()
    first = driven.verdict(0, 2)
    driven.round()
    effects = driven.verdict(0, 4)

    assert [t.text for t in only(first, Emit).tokens] == [""]
    assert closes(effects, FinishReason.STOP)
    assert finish_of(effects).text == ""


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
    """The target's."""
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
