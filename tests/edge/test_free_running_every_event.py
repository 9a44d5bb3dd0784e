"""
The edge's free-running session: every situation against every event; docs/protocol.md shows the table.

`PYTHONPATH=tests:. python -m tests.edge.test_free_running_every_event` writes the table anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from documents import replace_marked
from tests.edge.test_free_running import OPENED, PROMPT, SIZE, Driven
from thinwire.common.errors import (
    DeadlineError,
    LocalProtocolError,
    QuotaExceededError,
    RemoteProtocolError,
    ResourceExhaustedError,
    SessionNotFoundError,
    TransportError,
)
from thinwire.common.session.messages import Written
from thinwire.common.session.states import TERMINAL, State
from thinwire.edge import events

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
TORN = events.LinkLost(TransportError("torn."))


def _driven(*steps: Callable[[Driven], Any], **changes: Any) -> Driven:
    driven = Driven(**changes)
    for step in steps:
        step(driven)
    return driven


def _torn(driven: Driven) -> None:
    driven.step(TORN)


def _hint(driven: Driven) -> None:
    driven.drafted(4, 5, 6, 1)


SITUATIONS: dict[str, Callable[[], Driven]] = {
    "new": lambda: _driven(),
    "opening": lambda: _driven(lambda d: d.step(events.Connected())),
    "drafting": lambda: _driven(Driven.open),
    "has hinted, drafts on": lambda: _driven(Driven.open, _hint),
    "without a draft": lambda: _driven(Driven.open, draft_length=0),
    "no stream": lambda: _driven(Driven.open, _hint, lambda d: d.drafted(1), _torn, max_tokens=6),
    "resuming": lambda: _driven(Driven.open, _hint, _torn, lambda d: d.step(events.Connected())),
}
EVENTS: dict[str, Callable[[Driven], events.EdgeEvent | None]] = {
    "stream is there": lambda d: events.Connected(),
    "Opened": lambda d: events.OpenedReceived(
        replace(OPENED, epoch=2, committed_length=len(d.session.committed_token_ids))
    ),
    "Written, as hinted": lambda d: events.WrittenReceived(Written(_end(d), (4, 5, 6), 2, 4)),
    "Written, another token": lambda d: events.WrittenReceived(Written(_end(d), (2,), 0, 4)),
    "Written, of what is here": lambda d: events.WrittenReceived(Written(0, PROMPT, 0, 0)),
    "Written, with a gap": lambda d: events.WrittenReceived(Written(_end(d) + 1, (4,), 0, 0)),
    "Written, the last tokens": lambda d: events.WrittenReceived(Written(_end(d), (4, 5, 6, 7), 0, 0)),
    "draft is done": lambda d: None,
    "link lost": lambda d: TORN,
    "deadline": lambda d: events.TimerFired(),
    "NOT_FOUND": lambda d: events.Refused(SessionNotFoundError("gone.")),
    "RESOURCE_EXHAUSTED": lambda d: events.Refused(ResourceExhaustedError("no room.")),
    "any other status": lambda d: events.Refused(RemoteProtocolError("no.")),
    "client is gone": lambda d: events.Cancelled(),
}
SHOWN = {
    events.Send: lambda effect: type(effect.message).__name__,
    events.Draft: lambda effect: "draft",
    events.TruncateCache: lambda effect: "roll back",
    events.Emit: lambda effect: "tokens",
    events.Reconnect: lambda effect: "reconnect",
}


def _end(driven: Driven) -> int:
    return len(driven.session.committed_token_ids)


def step(driven: Driven, event: events.EdgeEvent | None) -> list[Any] | None:
    """The effects; None for an event that cannot be, which must leave the session as it was."""
    before = driven.session.state
    is_drafting, driven.now = driven.session._drafting, driven.now + 10.0
    try:
        if event is not None:
            return driven.step(event)
        if driven.draft is None or not is_drafting:
            return None
        return driven.drafted(*(1,) * min(2, driven.draft.max_draft_length))
    except LocalProtocolError:
        assert driven.session.state is before
        return None


def told(situation: str, event: str) -> str:
    """What follows: messages and work, and the state if it is another one."""
    driven = SITUATIONS[situation]()
    before = driven.session.state
    effects = step(driven, EVENTS[event](driven))
    if effects is None:
        return "–"
    shown = [SHOWN[type(effect)](effect) for effect in effects if type(effect) in SHOWN]
    if driven.session.state is not before:
        shown.append(f"**{driven.session.state.value}**")
    return ", ".join(shown) or "·"


def table() -> str:
    """The table in Markdown, as `docs/protocol.md` shows it."""
    lines = ["| " + " | ".join(["", *SITUATIONS]) + " |", "|" + " --- |" * (len(SITUATIONS) + 1)]
    lines += [
        "| " + " | ".join([event, *(told(situation, event) for situation in SITUATIONS)]) + " |"
        for event in EVENTS
    ]
    return "\n".join(lines)


def test_the_documented_table_is_what_happens() -> None:
    """docs/protocol.md shows exactly what `table()` prints."""
    assert table() in DOCUMENT.read_text(encoding="utf-8")


SMALL = st.integers(0, 8)
IDS = st.lists(st.integers(-1, SIZE), max_size=5).map(tuple)
ANY_EVENT = st.one_of(
    st.sampled_from([events.Connected(), events.TimerFired(), events.Cancelled(), TORN, None, "next"]),
    st.builds(
        replace,
        st.just(OPENED),
        epoch=SMALL,
        session_id=st.sampled_from([bytes(16), b"x" * 16]),
        committed_length=st.integers(1, 9),
        next_round=st.integers(1, 2),
    ).map(events.OpenedReceived),
    st.builds(Written, SMALL, IDS, st.integers(-1, 5), st.integers(-1, 5)).map(events.WrittenReceived),
    st.sampled_from([SessionNotFoundError("x."), QuotaExceededError("x."), RemoteProtocolError("x.")]).map(
        events.Refused
    ),
    st.just(events.LinkLost(DeadlineError("late."))),
)


@pytest.mark.parametrize("name", SITUATIONS)
@settings(derandomize=True, max_examples=60, deadline=None)
@given(steps=st.lists(ANY_EVENT, min_size=1, max_size=8))
def test_any_events_in_any_situation_keep_what_must_hold(name: str, steps: list[Any]) -> None:
    """
    From each situation, any events: effects, or LocalProtocolError that moves nothing.

    What is emitted is what was committed, no token twice; one draft is asked for at a time, and
    is fed something; the end comes once, and nothing after it.
    """
    driven = SITUATIONS[name]()
    for event in steps:
        committed, before = driven.session.committed_token_ids, driven.session.state
        was_drafting = driven.session._drafting
        if event == "next":
            event = events.WrittenReceived(Written(len(committed), (4,), 0, 0))
        effects = step(driven, event)
        if effects is None:
            assert driven.session.committed_token_ids == committed
            continue
        assert before not in TERMINAL or effects == []
        emitted = [token.token_id for e in effects if isinstance(e, events.Emit) for token in e.tokens]
        assert driven.session.committed_token_ids == (*committed, *emitted)
        drafts = [effect for effect in effects if isinstance(effect, events.Draft)]
        assert len(drafts) <= 1
        assert not (drafts and was_drafting and event is not None)
        assert all(effect.feed_token_ids for effect in drafts)
        ends = [effect for effect in effects if isinstance(effect, events.Finish)]
        assert len(ends) == (driven.session.state in TERMINAL and before not in TERMINAL)
        assert not ends or effects[-1] is ends[0]


def test_the_situations_reach_every_state_that_a_free_running_edge_has() -> None:
    """It never verifies; ends are reached by events."""
    reached = {made().session.state for made in SITUATIONS.values()}

    assert reached == set(State) - {State.VERIFYING} - TERMINAL


if __name__ == "__main__":
    replace_marked(DOCUMENT, "table of the edge's free-running session", table())
