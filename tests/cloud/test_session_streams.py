"""The cloud's session: streams that take it over, and its ends."""

from __future__ import annotations

import pytest

from tests.cloud.driven_session import (
    attached,
    decided,
    make_block,
    only,
    scored,
    some_tokens,
    verifying,
)
from thinwire.cloud.events import (
    ArmTimer,
    Attached,
    BlockReceived,
    CloseReceived,
    CloudEvent,
    Decoded,
    LinkLost,
    Refuse,
    Release,
    Reply,
    ReplyClosed,
    TimerFired,
    TruncateCache,
    WorkFailed,
)
from thinwire.common.errors import EpochSupersededError, ResourceExhaustedError, SessionNotFoundError
from thinwire.common.session.messages import FreeRun, Verdict
from thinwire.common.session.states import State


def test_a_newer_stream_takes_over() -> None:
    """The former one is refused; the session goes on where it was."""
    session, _, _ = decided()
    effects = session.step(Attached(2), 100.0)
    opened = only(effects, Reply).message

    assert only(effects, Refuse).epoch == 1
    assert isinstance(only(effects, Refuse).error, EpochSupersededError)
    assert (opened.epoch, opened.committed_length, opened.next_round) == (2, 4, 2)


def test_a_session_of_rounds_is_not_taken_up_as_another() -> None:
    """An Open that asks for a target which writes by itself names the wrong session."""
    session, _, _ = decided()
    effects = session.step(Attached(2, FreeRun(64, 4, 0)), 100.0)

    assert session.state is State.FAILED
    assert [e.error for e in effects if isinstance(e, Refuse) and e.epoch == 2] != []
    assert "session of rounds" in next(
        e.error.message for e in effects if isinstance(e, Refuse) and e.epoch == 2
    )


@pytest.mark.parametrize("event", [BlockReceived(1, make_block()), CloseReceived(1)])
def test_a_former_stream_is_refused_and_harms_nothing(event: CloudEvent) -> None:
    """Its messages move nothing."""
    session = attached()
    session.step(Attached(2), 100.0)
    effects = session.step(event, 100.0)

    assert isinstance(only(effects, Refuse).error, EpochSupersededError)
    assert effects == [only(effects, Refuse)]
    assert session.state is State.IDLE


def test_a_verdict_reached_without_a_stream_is_kept_for_the_resume() -> None:
    """The link breaks in mid-verification: no reply, but the round is decided and its repeat answered."""
    block = make_block()
    session = verifying(block)
    lost = session.step(LinkLost(1), 100.0)
    session.step(Decoded(1, some_tokens(2)), 100.0)
    silent = session.step(scored(1, (), 4), 100.0)
    resumed = session.step(Attached(2), 100.0)
    repeated = session.step(BlockReceived(2, block), 100.0)

    assert lost == [ArmTimer(130.0)]
    assert silent == [TruncateCache(3)]
    assert only(resumed, Reply).message.next_round == 2
    assert only(repeated, Reply).message == Verdict(1, 0, 4, 4, 11, 22)


def test_a_round_taken_over_in_mid_verification_is_answered_on_the_new_stream() -> None:
    """And while it is verified the silence is not the edge's."""
    session = verifying()
    resumed = session.step(Attached(2), 100.0)
    session.step(Decoded(1, some_tokens(2)), 100.0)
    effects = session.step(scored(1, (), 4), 100.0)

    assert only(resumed, ArmTimer).at_s is None
    assert only(effects, Reply).epoch == 2


def test_the_end_of_a_former_stream_is_no_news() -> None:
    """The session is held by the newer one."""
    session = attached()
    session.step(Attached(2), 100.0)

    assert session.step(LinkLost(1), 100.0) == []


def test_a_close_frees_the_session() -> None:
    """Answered with the account of the session."""
    session, _, _ = decided()

    assert session.step(CloseReceived(1), 100.0) == [ReplyClosed(1, 1, 4), Release()]
    assert session.state is State.CLOSED


def test_a_session_that_waited_too_long_is_freed() -> None:
    """The resume or idle time has passed."""
    session = attached()
    session.step(LinkLost(1), 100.0)
    effects = session.step(TimerFired(), 130.0)

    assert isinstance(only(effects, Refuse).error, SessionNotFoundError)
    assert effects[-1] == Release()


def test_a_session_that_ended_refuses_new_streams_and_ignores_late_results() -> None:
    """Terminal for good."""
    session = verifying()
    session.step(CloseReceived(1), 100.0)

    assert session.step(Decoded(1, some_tokens(2)), 100.0) == []
    assert isinstance(only(session.step(Attached(2), 100.0), Refuse).error, SessionNotFoundError)


def test_a_round_that_comes_again_on_a_stream_that_is_being_refused_moves_nothing() -> None:
    """It was put off: the stream ends, and the same bytes may come on another one."""
    session = verifying()
    session.step(WorkFailed(ResourceExhaustedError("no room.")), 100.0)

    assert session.step(BlockReceived(1, make_block()), 100.0) == []
    assert session.state is State.DETACHED
    assert not session.has_work
