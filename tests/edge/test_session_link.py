"""The edge's session on a link that breaks: resumes, patience and deadlines."""

from __future__ import annotations

from typing import Any

import pytest

from tests.edge.driven_session import LINK_ERROR, PROMPT, Driven, finish_of, only, opened
from thinwire.common.errors import DeadlineError, EpochSupersededError, RemoteProtocolError, TransportError
from thinwire.common.session.messages import Open
from thinwire.edge.events import (
    ArmTimer,
    Connected,
    Draft,
    EdgeEffect,
    LinkLost,
    OpenedReceived,
    Reconnect,
    Refused,
    Send,
    TimerFired,
)


def resume(driven: Driven, **changes: Any) -> list[EdgeEffect]:
    """A new stream and the cloud's answer on it."""
    driven.step(Connected())
    return driven.step(OpenedReceived(opened(**{"epoch": 2, **changes})))


@pytest.mark.parametrize("next_round", [1, 2])
def test_a_pending_block_is_sent_again_as_the_same_bytes(next_round: int) -> None:
    """Whether the cloud has decided the round or not."""
    driven = Driven()
    driven.open()
    driven.round()
    first = driven.sent
    assert driven.step(LinkLost(LINK_ERROR)) == [ArmTimer(None), Reconnect(1)]
    effects = resume(driven, next_round=next_round)

    assert only(effects, Send).message is first


def test_a_resume_names_the_session_and_sends_no_prompt() -> None:
    """The prompt goes up once."""
    driven = Driven()
    driven.open()
    driven.step(LinkLost(LINK_ERROR))
    message = only(driven.step(Connected()), Send).message

    assert isinstance(message, Open)
    assert (message.session_id, message.prompt_token_ids) == (bytes(16), ())


def test_a_block_drafted_while_the_link_is_down_goes_out_after_the_resume() -> None:
    """Drafting does not stop for the link, and is not repeated."""
    driven = Driven()
    driven.open()
    driven.step(LinkLost(LINK_ERROR))
    assert driven.round() == []
    effects = resume(driven)

    assert only(effects, Send).message.round == 1
    assert not [effect for effect in effects if isinstance(effect, Draft)]


def test_a_draft_still_under_way_at_the_resume_is_waited_for() -> None:
    """Nothing is sent until it is done."""
    driven = Driven()
    driven.open()
    driven.step(LinkLost(LINK_ERROR))

    assert resume(driven) == [ArmTimer(None)]
    assert only(driven.round(), Send).message.round == 1


def test_a_link_lost_before_opened_opens_afresh() -> None:
    """Without a session id there is nothing to resume."""
    driven = Driven()
    driven.step(Connected())
    driven.step(LinkLost(LINK_ERROR))

    assert only(driven.step(Connected()), Send).message.prompt_token_ids == PROMPT


@pytest.mark.parametrize("changes", [{"next_round": 3}, {"next_round": 0}, {"session_id": b"x" * 16}])
def test_a_session_resumed_elsewhere_ends_with_an_error(changes: dict[str, Any]) -> None:
    """A round that cannot be, or another session."""
    driven = Driven()
    driven.open()
    driven.round()
    driven.step(LinkLost(LINK_ERROR))

    assert isinstance(finish_of(resume(driven, **changes)).error, RemoteProtocolError)


def test_reconnects_go_on_while_the_patience_lasts_and_are_counted_anew_after_a_verdict() -> None:
    """The patience runs from the first loss; a loss behind its end ends the text with the last error."""
    driven = Driven(patience_s=10.0)
    driven.open()
    driven.round()
    driven.step(LinkLost(LINK_ERROR))
    resume(driven)
    driven.now += 9.0
    driven.verdict(0)
    attempts = []
    for pause_s in (5.0, 6.0, 3.9):
        driven.now += pause_s
        attempts.append(only(driven.step(LinkLost(LINK_ERROR)), Reconnect).attempt)
    driven.now += 0.1

    assert attempts == [1, 2, 3]
    assert finish_of(driven.step(LinkLost(LINK_ERROR))).error is LINK_ERROR


def test_only_streams_that_were_opened_count_as_reconnects() -> None:
    """A cloud that restarts takes many attempts and one stream; while it loads it refuses each Open."""
    driven = Driven(patience_s=60.0)
    driven.open()
    driven.round()
    for _ in range(20):
        driven.step(LinkLost(LINK_ERROR))
        driven.now += 1.0
    for _ in range(20):
        driven.step(Connected())
        driven.now += 1.0
        driven.step(LinkLost(TransportError("this cloud is still loading its model.")))
    before = driven.session.statistics.reconnects
    resume(driven)

    assert (before, driven.session.statistics.reconnects) == (0, 1)


def test_without_patience_a_lost_link_ends_the_text() -> None:
    """patience_s = 0."""
    driven = Driven(patience_s=0.0)
    driven.open()

    assert finish_of(driven.step(LinkLost(LINK_ERROR))).error is LINK_ERROR


@pytest.mark.parametrize("phase", ["open", "round 1"])
def test_a_late_answer_is_a_lost_link(phase: str) -> None:
    """The deadline of open and of a round; with no reconnect left its error names the phase."""
    driven = Driven(patience_s=0.0)
    driven.step(Connected())
    if phase != "open":
        driven.step(OpenedReceived(opened()))
        driven.round()
    error = finish_of(driven.step(TimerFired())).error

    assert isinstance(error, DeadlineError)
    assert phase in error.message


def test_a_rounds_deadline_follows_from_the_rounds_before_it() -> None:
    """The first one has the longest; later ones what rounds took, with a floor."""
    driven = Driven(round_timeout_s=30.0, least_round_timeout_s=0.5)
    driven.open()
    deadlines = []
    for _ in range(4):
        driven.round()
        deadlines.append(only(driven.effects, ArmTimer).at_s - driven.now)
        driven.now += 1.0
        driven.verdict(0)

    assert deadlines[0] == 30.0
    assert all(2.0 <= seconds <= 10.0 for seconds in deadlines[1:])


def test_a_stream_overtaken_by_one_of_our_own_is_a_lost_link() -> None:
    """An Open on an abandoned stream may come late and supersede the live one; the edge resumes again."""
    driven = Driven()
    driven.open()
    driven.round()

    assert only(driven.step(Refused(EpochSupersededError("superseded."))), Reconnect).attempt == 1


def test_a_repeated_opened_is_ignored() -> None:
    """The same epoch again is no news; a newer one that was not asked for is an error."""
    driven = Driven()
    driven.open()

    assert driven.step(OpenedReceived(opened())) == []
    assert isinstance(finish_of(driven.step(OpenedReceived(opened(epoch=2)))).error, RemoteProtocolError)
