"""A text and the target it began with: a session opened anew in its middle must have the same one."""

from __future__ import annotations

import pytest

from tests.edge.driven_session import LINK_ERROR, PROMPT, Driven, finish_of, only, opened
from thinwire.common.errors import (
    QuotaExceededError,
    RemoteProtocolError,
    SessionNotFoundError,
    TargetChangedError,
)
from thinwire.common.session.messages import FinishReason
from thinwire.edge.events import Connected, Emit, LinkLost, OpenedReceived, Reconnect, Refused, Send

FIRST, OTHER = b"first...", b"other..."


def rebuilt(driven: Driven, fingerprint: bytes) -> list[object]:
    """The cloud has lost the session; another one opens on this target."""
    driven.step(Refused(SessionNotFoundError("gone.")))
    driven.step(Connected())
    length = len(driven.session.committed_token_ids)
    answer = opened(session_id=b"n" * 16, committed_length=length, target_fingerprint=fingerprint)
    return list(driven.step(OpenedReceived(answer)))


def test_a_text_ends_where_another_target_would_go_on() -> None:
    """With the value received and the value expected; what was emitted stands, and nothing follows."""
    driven = Driven()
    driven.open(target_fingerprint=FIRST)
    driven.round()
    emitted = only(driven.verdict(1), Emit).tokens
    driven.round()
    committed = driven.session.committed_token_ids
    effects = rebuilt(driven, OTHER)
    finish = finish_of(effects)  # type: ignore[arg-type]

    assert finish.reason is FinishReason.ERROR
    assert isinstance(finish.error, TargetChangedError)
    assert finish.error.message == (
        f"the cloud's target model has the fingerprint {OTHER.hex()}; expected {FIRST.hex()}, "
        "with which this text began: it cannot go on with another model."
    )
    assert finish.error.status == "FAILED_PRECONDITION"
    assert not [effect for effect in effects if isinstance(effect, (Emit, Send))]
    assert driven.session.committed_token_ids == committed
    assert len(emitted) == 2


def test_a_text_goes_on_where_the_target_is_the_same() -> None:
    """However often the session is lost."""
    driven = Driven()
    driven.open(target_fingerprint=FIRST)
    driven.round()
    for _ in range(3):
        sent = only(rebuilt(driven, FIRST), Send).message  # type: ignore[arg-type]

        assert sent.round == 1
    assert driven.session.statistics.rebuilds == 3


def test_a_fingerprint_that_is_not_told_is_not_compared_and_not_forgotten() -> None:
    """A cloud that knows none is believed; the first that is told is the one that counts from then on."""
    driven = Driven()
    driven.open()
    driven.round()
    for fingerprint in (FIRST, b"", FIRST):
        only(rebuilt(driven, fingerprint), Send)  # type: ignore[arg-type]

    assert isinstance(finish_of(rebuilt(driven, OTHER)).error, TargetChangedError)  # type: ignore[arg-type]


@pytest.mark.parametrize(("length", "round_"), [(4, 1), (3, 2)])
def test_a_session_that_begins_elsewhere_than_the_text_stands_is_refused(length: int, round_: int) -> None:
    """Before its target is looked at."""
    error = finish_of(Driven().open(committed_length=length, next_round=round_)).error

    assert isinstance(error, RemoteProtocolError)
    assert (
        error.message
        == f"a new session opened at length {length}, round {round_}; expected {len(PROMPT)}, 1."
    )


def test_a_quota_that_puts_off_a_resume_is_the_clouds_even_while_a_block_is_drafted() -> None:
    """Our own drafting has no quota, so this is not its failure: the text waits and goes on."""
    driven = Driven()
    driven.open()
    driven.step(LinkLost(LINK_ERROR))
    driven.step(Connected())
    effects = driven.step(Refused(QuotaExceededError("later.", retry_after_s=0.5)))

    assert only(effects, Reconnect).pause_s == 0.5
    driven.step(driven.drafted())
    driven.step(Connected())
    assert only(driven.step(OpenedReceived(opened(epoch=2))), Send).message.round == 1
