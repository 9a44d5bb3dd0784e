"""The edge's session when the cloud has lost it or puts it off."""

from __future__ import annotations

import math

import pytest

from tests.edge.driven_session import PROMPT, Driven, finish_of, only, opened
from thinwire.common.errors import QuotaExceededError, ResourceExhaustedError, SessionNotFoundError
from thinwire.common.session.messages import Open
from thinwire.edge.events import (
    ArmTimer,
    Connected,
    Draft,
    OpenedReceived,
    Reconnect,
    Refused,
    Send,
)


def test_a_session_that_is_lost_is_opened_again_from_what_is_committed() -> None:
    """The kept block goes out as the new session's first round, with the payload it had."""
    driven = Driven()
    driven.open()
    driven.round()
    driven.verdict(1)
    driven.round()
    sent = driven.sent
    assert sent is not None
    assert only(driven.step(Refused(SessionNotFoundError("gone."))), Reconnect).attempt == 1
    reopened = only(driven.step(Connected()), Send).message
    committed = driven.session.committed_token_ids
    again = only(
        driven.step(
            OpenedReceived(opened(session_id=b"n" * 16, committed_length=len(committed), next_round=1))
        ),
        Send,
    ).message

    assert isinstance(reopened, Open)
    assert (reopened.session_id, reopened.prompt_token_ids) == (b"", committed)
    assert len(committed) == len(PROMPT) + 2
    assert again.round == 1
    assert (again.payload, again.base_length, again.prefix_hash) == (
        sent.payload,
        sent.base_length,
        sent.prefix_hash,
    )
    assert driven.session.statistics.rebuilds == 1
    driven.verdict(0)
    assert len(driven.session.committed_token_ids) == len(committed) + 1


def test_a_session_lost_before_its_opened_came_is_opened_again() -> None:
    """Nothing was built on it, so this is no rebuild."""
    driven = Driven()
    driven.step(Connected())
    driven.step(Refused(SessionNotFoundError("gone.")))
    reopened = only(driven.step(Connected()), Send).message

    assert (reopened.session_id, reopened.prompt_token_ids) == (b"", PROMPT)
    assert driven.session.statistics.rebuilds == 0


def test_a_session_lost_while_drafting_waits_for_the_draft() -> None:
    """Nothing is drafted twice; the block goes out when it is there."""
    driven = Driven()
    driven.open()
    attempt = driven.draft.attempt if driven.draft else None
    driven.step(Refused(SessionNotFoundError("gone.")))
    driven.step(Connected())
    effects = driven.step(OpenedReceived(opened(session_id=b"n" * 16)))

    assert not [effect for effect in effects if isinstance(effect, Draft)]
    driven.round()
    assert driven.sent is not None
    assert driven.sent.round == 1
    assert driven.draft is not None
    assert driven.draft.attempt == attempt


@pytest.mark.parametrize("kind", [QuotaExceededError, ResourceExhaustedError])
def test_a_round_that_is_put_off_goes_out_again_as_the_same_bytes(kind: type[ResourceExhaustedError]) -> None:
    """A used-up quota, or a cloud without room: the pause asked for, a new stream, and no redraft."""
    driven = Driven()
    driven.open()
    driven.round()
    block = driven.sent
    put_off = driven.step(Refused(kind("later.", retry_after_s=1.5)))
    driven.now += 1.6
    resume = only(driven.step(Connected()), Send).message
    resent = only(driven.step(OpenedReceived(opened(epoch=2))), Send).message
    driven.verdict(1)

    assert put_off == [ArmTimer(None), Reconnect(1, 1.5)]
    assert resume.session_id == bytes(16)
    assert resent == block
    assert driven.session.statistics.reconnects == 1
    assert driven.draft is not None
    assert driven.draft.attempt == 1


@pytest.mark.parametrize("kind", [QuotaExceededError, ResourceExhaustedError])
def test_an_open_is_put_off_by_a_quota_and_by_a_full_cloud(kind: type[ResourceExhaustedError]) -> None:
    """The same Open comes again after the pause that the cloud asked for."""
    driven = Driven()
    driven.step(Connected())
    put_off = driven.step(Refused(kind("later.", retry_after_s=1.0)))
    again = only(driven.step(Connected()), Send).message

    assert put_off == [ArmTimer(None), Reconnect(1, 1.0)]
    assert again.prompt_token_ids == PROMPT


def test_being_put_off_ends_within_a_rounds_time() -> None:
    """However often; the time starts anew with every verdict, and no pause may reach beyond it."""
    driven = Driven(round_timeout_s=5.0)
    driven.open()
    for _ in range(2):
        driven.round()
        opened_before = driven.session.statistics.reconnects + 1
        for epoch in range(opened_before + 1, opened_before + 5):
            assert isinstance(driven.step(Refused(QuotaExceededError("later.")))[-1], Reconnect)
            driven.now += 1.2
            driven.step(Connected())
            driven.step(OpenedReceived(opened(epoch=epoch, next_round=driven.session.statistics.rounds + 1)))
        driven.verdict(0)
    driven.round()
    driven.step(Refused(QuotaExceededError("later.", retry_after_s=4.0)))
    driven.now += 4.5
    driven.step(Connected())
    driven.step(OpenedReceived(opened(epoch=100, next_round=3)))
    error = QuotaExceededError("later.", retry_after_s=1.0)

    assert finish_of(driven.step(Refused(error))).error is error


def test_what_no_retry_mends_is_not_put_off() -> None:
    """A refusal that names no pause, and our own drafting's want of memory."""
    told, drafting = Driven(), Driven()
    for driven in (told, drafting):
        driven.open()
    told.round()
    for driven, error in (
        (told, ResourceExhaustedError("too large.", retry_after_s=math.inf)),
        (drafting, ResourceExhaustedError("no memory.")),
    ):
        assert finish_of(driven.step(Refused(error))).error is error
