"""The edge's half of a free-running session: every state against every event, the chain, acknowledgements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fakes import TableVocabulary
from thinwire.common.errors import (
    LocalProtocolError,
    RemoteProtocolError,
    ResourceExhaustedError,
    SessionNotFoundError,
    TransportError,
)
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.coupled import Coupled, one_point
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.messages import FinishReason, Hints, Open, Opened, TokenKind, Verdict, Written
from thinwire.common.session.states import State
from thinwire.edge import events
from thinwire.edge.free_running import ACKNOWLEDGE_TOKENS, FreeRunningSession
from thinwire.edge.text_stream import TextStream

SIZE = 8
PROMPT = (0, 1, 2)
SCHEME = make_scheme(Coupled.Parameters(), vocabulary_size=SIZE)
OPENED = Opened(bytes(16), 1, 500, (7,), 3, 1)


class Driven:
    """A session, and the draft that it last asked for."""

    def __init__(self, **changes: Any) -> None:
        given = {"seed": 7, "scheme": Coupled.Parameters(), "max_tokens": 400, "draft_length": 4, **changes}
        vocabulary = TableVocabulary(SIZE)
        self.session = FreeRunningSession(
            GenerationRequest("", **given),
            PROMPT,
            vocabulary=vocabulary.identity,
            scheme=SCHEME,
            text=TextStream(vocabulary.decode),
            context_length=512,
            round_timeout_s=5.0,
            patience_s=60.0,
        )
        self.draft: events.Draft | None = None
        self.now = 10.0

    def step(self, event: events.EdgeEvent) -> list[Any]:
        """One event."""
        effects = self.session.step(event, self.now)
        for effect in effects:
            if isinstance(effect, events.Draft):
                self.draft = effect
        return effects

    def open(self) -> list[Any]:
        """Up to the first draft."""
        self.step(events.Connected())
        return self.step(events.OpenedReceived(OPENED))

    def drafted(self, *token_ids: int, chance: float = 0.9) -> list[Any]:
        """The draft in progress is done."""
        assert self.draft is not None
        tokens = tuple(DraftToken(one_point(token_id), 0) for token_id in token_ids)
        block = events.DraftedBlock(
            tokens=tokens,
            distributions=(),
            states=(),
            coding=0,
            payload=b"",
            cache_length=self.draft.first_position + len(token_ids) - 1,
            acceptances=(chance,) * len(token_ids),
        )
        return self.step(events.Drafted(self.draft.attempt, block))

    def written(self, *token_ids: int, at: int, hinted: int = 0) -> list[Any]:
        """A pass came down."""
        return self.step(events.WrittenReceived(Written(at, token_ids, hinted, hinted)))


def sent(effects: list[Any]) -> list[Any]:
    """What goes up, hints as (held, ahead, ids)."""
    messages = [effect.message for effect in effects if isinstance(effect, events.Send)]
    return [(m.held_length, m.ahead, ids_of(m)) if isinstance(m, Hints) else m for m in messages]


def ids_of(hints: Hints) -> tuple[int, ...]:
    """The ids in a message."""
    tokens = SCHEME.decode(hints.payload, draft_length=hints.draft_length, coding=0)
    return tuple(token.token_id for token in tokens)


def asked(effects: list[Any]) -> list[tuple[int, tuple[int, ...]]]:
    """(first position, fed ids) of each draft that is asked for."""
    return [(e.first_position, e.feed_token_ids) for e in effects if isinstance(e, events.Draft)]


def test_the_open_says_where_the_text_ends_and_what_the_edge_holds() -> None:
    """max tokens, stop tokens, end of text, and the prompt's length."""
    driven = Driven(stop_token_ids=(5,), ignore_eos=True)
    (message,) = sent(driven.step(events.Connected()))

    assert isinstance(message, Open)
    run = message.free_run
    assert (run.max_length, run.held_length, run.stop_token_ids, run.ignore_eos) == (403, 3, (5,), True)


def test_guesses_go_up_piece_by_piece_without_waiting() -> None:
    """The second piece begins behind the first, and says how far ahead of the held tokens it is."""
    driven = Driven()
    assert asked(driven.open()) == [(3, (0, 1, 2))]

    first = driven.drafted(4, 5)
    assert sent(first) == [(3, 0, (4, 5))]
    assert asked(first) == [(5, (5,))]
    assert sent(driven.drafted(6, 3)) == [(3, 2, (6, 3))]


def test_what_is_written_shortens_the_chain() -> None:
    """Two guesses were right; tokens are told with where they came from, and the draft goes on."""
    driven = Driven()
    driven.open()
    driven.drafted(4, 5, 6)
    effects = driven.written(4, 5, at=3, hinted=1)
    emitted = [token for e in effects if isinstance(e, events.Emit) for token in e.tokens]

    assert [(token.token_id, token.kind) for token in emitted] == [
        (4, TokenKind.ACCEPTED),
        (5, TokenKind.BONUS),
    ]
    assert sent(driven.drafted(3)) == [(5, 1, (3,))]


def test_a_wrong_guess_rolls_the_cache_back_and_drafting_begins_behind_what_was_written() -> None:
    """The draft in progress built on it: it is thrown away when it ends."""
    driven = Driven()
    driven.open()
    driven.drafted(4, 5)
    assert not asked(driven.written(4, 1, at=3))
    effects = driven.drafted(6, 3)

    assert not sent(effects)
    assert [e for e in effects if isinstance(e, events.TruncateCache)] == [events.TruncateCache(4)]
    assert asked(effects) == [(5, (1,))]


def test_a_draft_that_the_cloud_overtook_counts_as_far_as_it_was_right() -> None:
    """Three tokens were written while it was under way; two are its own, and one of it is left."""
    driven = Driven()
    driven.open()
    driven.written(4, at=3)
    driven.written(5, at=4)
    right = driven.drafted(4, 5, 6)
    assert sent(right) == [(5, 0, (6,))]

    wrong = Driven()
    wrong.open()
    wrong.written(4, 5, at=3)
    effects = wrong.drafted(4, 3, 6)
    assert not sent(effects)
    assert asked(effects) == [(5, (5,))]
    assert [e for e in effects if isinstance(e, events.TruncateCache)] == [events.TruncateCache(4)]


def test_tokens_are_acknowledged_where_there_is_nothing_else_to_say() -> None:
    """Every 16, without a draft."""
    driven = Driven(draft_length=0)
    driven.open()
    messages = [sent(driven.written(4, at=3 + n)) for n in range(40)]

    assert [n + 1 for n, each in enumerate(messages) if each] == [ACKNOWLEDGE_TOKENS, 2 * ACKNOWLEDGE_TOKENS]
    assert messages[ACKNOWLEDGE_TOKENS - 1] == [(3 + ACKNOWLEDGE_TOKENS, 0, ())]


def test_a_draft_that_is_never_right_fades_and_may_come_back() -> None:
    """Then it guesses once with every acknowledgement; right guesses bring it back."""
    driven = Driven()
    driven.open()
    pieces, position = [], 3
    for n in range(100):
        if driven.session._drafting:
            pieces.append(n)
            driven.drafted(6, 6)
        driven.written(5, at=position)
        position += 1
    late = [n for n in pieces if n >= 32]
    assert len(late) <= 6

    for _ in range(200):
        if driven.session._drafting:
            driven.drafted(5, 5)
        driven.written(5, at=position)
        position += 1
    assert not driven.session._hit_rate.is_faded


@pytest.mark.parametrize("chance", [0.0, 1e-9])
def test_drafting_goes_on_where_every_guess_is_as_good_as_impossible(chance: float) -> None:
    """With no least chance the trunk grows to its bound, and the product of its chances to 0."""
    driven = Driven(min_block_acceptance=0.0)
    driven.open()
    lengths = [driven.draft.max_draft_length]  # type: ignore[union-attr]
    for _ in range(11):
        (draft,) = [e for e in driven.drafted(4, 5, 6, 4, chance=chance) if isinstance(e, events.Draft)]
        lengths.append(draft.max_draft_length)
        assert draft.min_acceptance == 0

    assert lengths == [4] * 12


def test_a_resume_says_what_is_held_and_sends_the_chain_again() -> None:
    """In one message, from the first guess on; what is written again is not told twice."""
    driven = Driven()
    driven.open()
    driven.drafted(4, 5)
    driven.drafted(6, 3)
    driven.written(4, at=3)
    driven.step(events.LinkLost(TransportError("torn")))
    (message,) = sent(driven.step(events.Connected()))
    assert (message.session_id, message.free_run.held_length) == (bytes(16), 4)

    effects = driven.step(events.OpenedReceived(Opened(bytes(16), 2, 500, (7,), 6, 4)))
    assert sent(effects) == [(4, 0, (5, 6, 3))]
    again = driven.written(4, 5, 6, at=3, hinted=2)
    assert [token.token_id for e in again if isinstance(e, events.Emit) for token in e.tokens] == [5, 6]


def test_a_lost_session_is_opened_anew_with_the_text_so_far() -> None:
    """Its prompt is all that is held."""
    driven = Driven()
    driven.open()
    driven.written(4, at=3)
    driven.step(events.Refused(SessionNotFoundError("gone")))
    (message,) = sent(driven.step(events.Connected()))

    assert (message.session_id, message.prompt_token_ids) == (b"", (0, 1, 2, 4))
    assert message.free_run.held_length == 4


@pytest.mark.parametrize(
    "written",
    [
        Written(5, (4,), 0, 0),
        Written(3, (8,), 0, 0),
        Written(3, (), 0, 0),
        Written(3, (4,), 2**32 - 1, 0),
        Written(3, (4,), 0, 2**32 - 1),
        Written(3, (4,) * 2000, 0, 0),
        Written(1, (5, 5, 5), 0, 0),
    ],
    ids=["gap", "id", "empty", "hinted", "rows", "long", "another text"],
)
def test_what_no_cloud_can_have_written_ends_the_text(written: Written) -> None:
    """A gap, an id beyond V, nothing at all, counts that cannot be, other tokens than those that are here."""
    driven = Driven()
    driven.open()
    (finish,) = [e for e in driven.step(events.WrittenReceived(written)) if isinstance(e, events.Finish)]

    assert finish.reason is FinishReason.ERROR
    assert isinstance(finish.error, RemoteProtocolError)


def test_what_is_here_already_moves_nothing_and_is_no_sign_of_life() -> None:
    """A cloud that only repeats itself is a silent one."""
    driven = Driven()
    driven.open()
    driven.written(4, at=3)
    driven.now += 1
    assert driven.written(4, at=3) == []


def test_a_cloud_without_room_is_come_back_to_while_a_draft_is_under_way() -> None:
    """What the draft model itself lacks ends the text."""
    no_room = ResourceExhaustedError("no room", retry_after_s=0.1)
    driven = Driven()
    driven.open()
    assert any(isinstance(e, events.Reconnect) for e in driven.step(events.Refused(no_room)))

    driven = Driven()
    driven.open()
    assert any(isinstance(e, events.Finish) for e in driven.step(events.DraftFailed(no_room)))


def test_a_timer_that_waited_behind_what_came_is_no_loss() -> None:
    """It is held against the time that is in force."""
    driven = Driven()
    driven.open()
    driven.now = 14.0
    driven.written(4, at=3)
    driven.now = 15.5
    assert driven.step(events.TimerFired()) == []
    driven.now = 40.0
    assert any(isinstance(e, events.Reconnect) for e in driven.step(events.TimerFired()))


def _driven(*steps: Callable[[Driven], Any]) -> FreeRunningSession:
    driven = Driven()
    for step in steps:
        step(driven)
    return driven.session


STATES: dict[State, Callable[[], FreeRunningSession]] = {
    State.NEW: lambda: _driven(),
    State.OPENING: lambda: _driven(lambda d: d.step(events.Connected())),
    State.IDLE: lambda: _driven(Driven.open),
    State.DETACHED: lambda: _driven(Driven.open, lambda d: d.step(events.LinkLost(TransportError("torn")))),
    State.CLOSED: lambda: _driven(Driven.open, lambda d: d.step(events.Cancelled())),
    State.FAILED: lambda: _driven(Driven.open, lambda d: d.step(events.Refused(RemoteProtocolError("no")))),
}
BLOCK = events.DraftedBlock(
    tokens=(DraftToken(one_point(4), 0),),
    distributions=(),
    states=(),
    coding=0,
    payload=b"",
    cache_length=3,
    acceptances=(0.9,),
)
EVENTS: list[events.EdgeEvent] = [
    events.Connected(),
    events.OpenedReceived(OPENED),
    events.WrittenReceived(Written(3, (4, 5), 1, 1)),
    events.VerdictReceived(Verdict(1, 0, 4, 4)),
    events.Drafted(0, BLOCK),
    events.LinkLost(TransportError("torn")),
    events.TimerFired(),
    events.Cancelled(),
    events.Refused(SessionNotFoundError("gone")),
    events.Refused(RemoteProtocolError("no")),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("state", STATES)
def test_every_state_takes_every_event(state: State, event: events.EdgeEvent) -> None:
    """It is answered, ignored, or named as a bug of the shell's; nothing else is raised."""
    session = STATES[state]()
    assert session.state is state
    try:
        effects = session.step(event, 50.0)
    except LocalProtocolError:
        assert isinstance(event, events.Connected | events.Drafted | events.LinkLost | events.Refused)
        return
    assert effects == [] or state not in (State.CLOSED, State.FAILED)
