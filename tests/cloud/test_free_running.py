"""The cloud's half of a free-running session: every state against every event, ends, windows and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from thinwire.cloud import events
from thinwire.cloud.batch_queue import PREFILL_CHUNK_TOKENS
from thinwire.cloud.free_running import WINDOW_TOKENS, FreeRunningSession
from thinwire.cloud.hint_store import Rows
from thinwire.common.config import SamplingParameters
from thinwire.common.errors import (
    ConfigError,
    LocalProtocolError,
    PrefixMismatchError,
    ResourceExhaustedError,
    SessionNotFoundError,
)
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.coupled import Coupled
from thinwire.common.session.messages import (
    DraftBlock,
    FreeRun,
    Hints,
    Open,
    PrefixHasher,
    VocabularyIdentity,
    Written,
)
from thinwire.common.session.states import State

SIZE = 8
PROMPT = (0, 1, 2)
SCHEME = make_scheme(Coupled.Parameters(), vocabulary_size=SIZE)


def wrote_of(fed: tuple[int, ...], token_ids: tuple[int, ...], queue_us: int, verify_us: int) -> events.Wrote:
    """The end of a pass over a chain."""
    path = tuple(range(len(token_ids) - 1))
    return events.Wrote(Rows(fed, False), path, token_ids, queue_us, verify_us)


def hash_of(*token_ids: int) -> int:
    """Of a prefix."""
    hasher = PrefixHasher()
    hasher.extend(token_ids)
    return hasher.value()


def free_run(**changes: Any) -> FreeRun:
    """Of an Open with PROMPT."""
    given = {"max_length": 400, "held_length": len(PROMPT), "prefix_hash": hash_of(*PROMPT), **changes}
    return FreeRun(**given)


def session(prompt: tuple[int, ...] = PROMPT, **changes: Any) -> FreeRunningSession:
    """A session in state NEW."""
    open_ = Open(
        VocabularyIdentity(SIZE, bytes(32)),
        Coupled.Parameters(),
        SamplingParameters(),
        7,
        prompt,
        free_run=free_run(**changes),
    )
    return FreeRunningSession(
        bytes(16),
        open_,
        scheme=SCHEME,
        context_length=500,
        eos_token_ids=(7,),
        resume_ttl_s=10.0,
        idle_ttl_s=20.0,
    )


def attached(**changes: Any) -> FreeRunningSession:
    """A session whose first pass is asked for."""
    made = session(**changes)
    made.step(events.Attached(1, made.open.free_run), 0.0)
    return made


def wrote(*token_ids: int, fed: tuple[int, ...] = ()) -> events.Wrote:
    """A pass that wrote these."""
    return wrote_of(fed, token_ids, 5, 6)


def hints(*token_ids: int, held: int = 3, ahead: int = 0) -> Hints:
    """From the edge."""
    tokens = SCHEME.decode(
        b"" if not token_ids else _payload(token_ids), draft_length=len(token_ids), coding=0
    )
    return Hints(held, ahead, len(token_ids), SCHEME.encode(tokens, coding=0))


def _payload(token_ids: tuple[int, ...]) -> bytes:
    number = sum(token_id * SIZE**n for n, token_id in enumerate(token_ids))
    return number.to_bytes((number.bit_length() + 7) // 8, "little")


def of_kind(effects: list[Any], kind: type) -> list[Any]:
    """The effects of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def test_the_first_pass_is_fed_the_prompt_itself() -> None:
    """The first token takes one pass; of a long prompt the beginning is fed ahead."""
    made = session()
    effects = made.step(events.Attached(1, made.open.free_run), 0.0)

    assert [type(effect) for effect in effects] == [events.Reply, *[events.ArmTimer] * 2, events.Write]
    assert effects[-1] == events.Write(PROMPT, 3, 16)

    long = tuple(n % SIZE for n in range(PREFILL_CHUNK_TOKENS + 10))
    changes = {"held_length": len(long), "prefix_hash": hash_of(*long), "max_length": 400}
    made = session(long, **changes)
    effects = made.step(events.Attached(1, made.open.free_run), 0.0)
    assert of_kind(effects, events.Prefill) == [events.Prefill(long[:10])]
    assert effects[-1] == events.Write(long[10:], len(long), 16)


def test_a_pass_is_told_and_followed_by_the_next() -> None:
    """Two hints right of three: three tokens, and the cache loses the wrong one."""
    effects = attached().step(wrote(4, 5, 6, fed=(4, 5, 1)), 1.0)

    assert of_kind(effects, events.TruncateCache) == [events.TruncateCache(5)]
    assert of_kind(effects, events.Reply) == [events.Reply(1, Written(3, (4, 5, 6), 2, 3, 0, 5, 6))]
    assert of_kind(effects, events.Write) == [events.Write((6,), 6, 16)]


def test_a_pass_without_hints_leaves_the_cache_alone() -> None:
    """One token, and nothing to roll back."""
    assert not of_kind(attached().step(wrote(4), 1.0), events.TruncateCache)


@pytest.mark.parametrize(
    ("changes", "token_ids", "told"),
    [
        ({}, (4, 7, 5), (4, 7)),
        ({"ignore_eos": True, "max_length": 5}, (7, 7, 5), (7, 7)),
        ({"stop_token_ids": (5,)}, (5, 4), (5,)),
        ({"max_length": 4}, (4, 5), (4,)),
    ],
)
def test_the_text_ends_at_the_cloud(changes: dict, token_ids: tuple[int, ...], told: tuple[int, ...]) -> None:
    """End of text, a stop token, max tokens: nothing behind it is told, and no further pass is asked for."""
    made = attached(**changes)
    effects = made.step(wrote(*token_ids, fed=token_ids[:-1]), 1.0)

    assert of_kind(effects, events.Reply)[0].message.token_ids == told
    assert not of_kind(effects, events.Write)
    assert effects[-1] == events.ArmTimer(21.0)
    assert made.committed_length == 3 + len(told)


def test_the_target_stops_where_the_edge_is_too_far_behind() -> None:
    """At the window's end no pass is asked for until an acknowledgement comes."""
    made, passes = attached(), 1
    while of_kind(made.step(wrote(4), 1.0), events.Write):
        passes += 1
    assert passes == WINDOW_TOKENS

    assert of_kind(made.step(events.HintsReceived(1, hints(held=5)), 2.0), events.Write)


def test_the_target_waits_for_a_hint_that_is_due_and_goes_on_without_one_that_is_late() -> None:
    """A pass of 60 ms, hints 10 ms behind a wrong guess."""
    made = attached()

    def passes(*token_ids: int, at: float, fed: tuple[int, ...] = ()) -> list[Any]:
        return made.step(wrote_of(fed, token_ids, 0, 60_000), at)

    passes(1, at=1.0)
    made.step(events.HintsReceived(1, hints(1, 2, 3, held=4)), 1.01)
    waits = passes(1, 2, 5, at=1.1, fed=(1, 2, 3))
    assert not of_kind(waits, events.Write)
    assert 1.1 < of_kind(waits, events.AwaitHint)[-1].at_s <= 1.13

    assert of_kind(made.step(events.HintsReceived(1, hints(1, held=7)), 1.11), events.Write)
    told = passes(5, at=1.2, fed=(1,))
    assert not of_kind(told, events.Write)
    assert of_kind(told, events.Reply)[0].message.wait_us == 10_000
    assert of_kind(made.step(events.WaitOver(), 1.23), events.Write)
    assert made.step(events.WaitOver(), 1.24) == []
    (told,) = of_kind(passes(5, at=1.3), events.Reply)
    assert told.message.wait_us == 30_000
    (told,) = of_kind(passes(5, at=1.4), events.Reply)
    assert told.message.wait_us == 0


@pytest.mark.parametrize("saves_passes", [False, True])
def test_hints_that_are_worth_no_row_make_no_wait_longer(saves_passes: bool) -> None:
    """An edge that says such again and again does not hold up the target."""
    made = attached(saves_passes=saves_passes)
    made.step(wrote_of((), (1,), 0, 60_000), 1.0)
    made.step(events.HintsReceived(1, hints(1, 2, 3, held=4)), 1.01)
    made.step(wrote_of((1, 2, 3), (1, 2, 5), 0, 60_000), 1.1)
    assert made.is_waiting
    made.hints.hit_rate.value = 0.05
    for n in range(20):
        assert made.step(events.HintsReceived(1, hints(1, held=7)), 1.101 + n / 1000) == []
    assert of_kind(made.step(events.WaitOver(), 1.13), events.Write)


def test_a_session_whose_stream_is_lost_while_it_waits_expires_like_any_other() -> None:
    """The wait is over with the stream; what fires then is the session's end."""
    made = attached()
    made.step(wrote_of((), (1,), 0, 60_000), 1.0)
    made.step(events.HintsReceived(1, hints(1, 2, 3, held=4)), 1.01)
    assert of_kind(made.step(wrote_of((1, 2, 3), (1, 2, 5), 0, 60_000), 1.1), events.AwaitHint)
    assert made.step(events.LinkLost(1), 1.11) == [events.ArmTimer(11.11)]
    assert made.step(events.WaitOver(), 1.12) == []
    assert of_kind(made.step(events.TimerFired(), 11.11), events.Release)


def test_a_session_may_be_ended_while_it_waits() -> None:
    """As at the daemon's end."""
    made = attached()
    made.step(wrote_of((), (1,), 0, 60_000), 1.0)
    made.step(events.HintsReceived(1, hints(1, 2, 3, held=4)), 1.01)
    made.step(wrote_of((1, 2, 3), (1, 2, 5), 0, 60_000), 1.1)
    assert made.is_waiting
    assert of_kind(made.step(events.TimerFired(), 1.11), events.Release)


def test_a_resume_says_again_what_the_edge_lacks_and_writes_on() -> None:
    """Also what a pass wrote while no stream was there."""
    made = attached()
    made.step(wrote(4), 1.0)
    made.step(events.LinkLost(1), 2.0)
    assert made.step(wrote(5), 3.0) == []
    effects = made.step(events.Attached(2, free_run(held_length=4, prefix_hash=hash_of(*PROMPT, 4))), 4.0)

    assert of_kind(effects, events.Reply)[1] == events.Reply(2, Written(4, (5,), 0, 0))
    assert of_kind(effects, events.Write) == [events.Write((5,), 5, 16)]


@pytest.mark.parametrize(
    "changes", [{"held_length": 2}, {"held_length": 6}, {"held_length": 4, "prefix_hash": 1}]
)
def test_an_edge_that_holds_another_text_is_refused(changes: dict) -> None:
    """Fewer tokens than it acknowledged, more than there are, or other ones; its own edge finds it again."""
    made = attached()
    made.step(wrote(4), 1.0)
    made.step(events.HintsReceived(1, hints(held=3)), 1.0)
    made.step(events.LinkLost(1), 2.0)
    effects = made.step(events.Attached(2, free_run(**changes)), 3.0)

    assert isinstance(of_kind(effects, events.Refuse)[-1].error, PrefixMismatchError)
    assert made.state is State.DETACHED
    right = free_run(held_length=4, prefix_hash=hash_of(*PROMPT, 4))
    again = made.step(events.Attached(3, right), 4.0)
    assert [refusal.epoch for refusal in of_kind(again, events.Refuse)] == [2]
    assert made.state is State.IDLE


@pytest.mark.parametrize(
    "spoilt",
    [
        Hints(3, 0, 2, b"\xff\xff"),
        Hints(3, 0, 65, b""),
        Hints(3, 1000, 1, b"\1"),
        Hints(3, 0, 1, b"\1\0"),
    ],
)
def test_hints_that_cannot_be_read_change_nothing(spoilt: Hints) -> None:
    """Out of range, too many, out of place, spare bytes."""
    made = attached()
    assert made.step(events.HintsReceived(1, spoilt), 1.0) == []
    assert made.hints.rows(16).token_ids == ()
    assert made.state is State.IDLE


def test_an_acknowledgement_of_what_was_never_sent_ends_the_session() -> None:
    """That is no hint but a claim about the text."""
    made = attached()
    effects = made.step(events.HintsReceived(1, hints(held=4)), 1.0)

    assert isinstance(of_kind(effects, events.Refuse)[0].error, PrefixMismatchError)


def test_want_of_room_ends_the_stream_and_not_the_session() -> None:
    """The edge comes again, and the target writes on."""
    made = attached()
    effects = made.step(events.WorkFailed(ResourceExhaustedError("no room")), 1.0)
    assert [type(effect) for effect in effects] == [events.Refuse, events.ArmTimer]
    assert made.state is State.DETACHED

    again = made.step(events.Attached(2, free_run()), 2.0)
    assert of_kind(again, events.Write)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"held_length": 2}, "held_length is 2; expected 3"),
        ({"max_length": 3}, "expected more than the prompt's 3"),
    ],
)
def test_an_open_that_makes_no_sense_is_refused(changes: dict, sentence: str) -> None:
    """With the value received and the value expected."""
    with pytest.raises(ConfigError, match=sentence):
        session(**changes)


STATES: dict[State, Callable[[], FreeRunningSession]] = {
    State.NEW: session,
    State.IDLE: attached,
    State.DETACHED: lambda: _stepped(attached(), events.LinkLost(1)),
    State.CLOSED: lambda: _stepped(attached(), events.CloseReceived(1)),
    State.FAILED: lambda: _stepped(attached(), events.TimerFired()),
}
EVENTS: list[events.CloudEvent] = [
    events.Attached(2, free_run()),
    events.HintsReceived(1, hints(4, 5)),
    wrote(4),
    events.WorkFailed(ResourceExhaustedError("no room")),
    events.WorkFailed(SessionNotFoundError("gone")),
    events.CloseReceived(1),
    events.LinkLost(1),
    events.TimerFired(),
    events.WaitOver(),
    events.BlockReceived(1, DraftBlock(1, 3, 0, 0, 0, b"", 0)),
    events.Decoded(1, ()),
]


def _stepped(made: FreeRunningSession, event: events.CloudEvent) -> FreeRunningSession:
    made.step(event, 0.0)
    return made


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("state", STATES)
def test_every_state_takes_every_event(state: State, event: events.CloudEvent) -> None:
    """It is answered, ignored, or named as a bug of the shell's; nothing else is raised."""
    made = STATES[state]()
    assert made.state is state
    try:
        effects = made.step(event, 1.0)
    except LocalProtocolError:
        assert state is State.NEW or isinstance(event, events.BlockReceived | events.Decoded)
        return
    if state in (State.CLOSED, State.FAILED):
        assert all(isinstance(effect, events.Refuse) for effect in effects)
