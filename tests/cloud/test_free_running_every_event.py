"""
The cloud's free-running session: every situation against every event; docs/protocol.md shows the table.

`PYTHONPATH=tests:. python -m tests.cloud.test_free_running_every_event` writes the table anew.
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
from tests.cloud.test_free_running import attached, free_run, hints, session, wrote
from thinwire.cloud import events
from thinwire.cloud.free_running import WINDOW_TOKENS, FreeRunningSession
from thinwire.common.errors import LocalProtocolError, ResourceExhaustedError, ThinwireError
from thinwire.common.session.free_run import MAX_HINT_ROWS
from thinwire.common.session.messages import Hints, Written
from thinwire.common.session.states import TERMINAL, State

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
NO_ROOM = events.WorkFailed(ResourceExhaustedError("x."))
FAULT = events.WorkFailed(ThinwireError("x."))


def _stepped(made: FreeRunningSession, *steps: events.CloudEvent) -> FreeRunningSession:
    for step in steps:
        made.step(step, 1.0)
    return made


def _waiting() -> FreeRunningSession:
    """A pass of 60 ms, and a hint 10 ms behind it; then a wrong one."""
    made = attached()
    made.step(replace(wrote(1), verify_us=60_000), 1.0)
    made.step(events.HintsReceived(1, hints(1, 2, 3, held=4)), 1.01)
    made.step(replace(wrote(1, 2, 5, fed=(1, 2, 3)), verify_us=60_000), 1.1)
    assert made.is_waiting
    return made


def _far_ahead() -> FreeRunningSession:
    return _stepped(attached(), *[wrote(4)] * WINDOW_TOKENS)


SITUATIONS: dict[str, Callable[[], FreeRunningSession]] = {
    "new": session,
    "writing": attached,
    "waits for a hint": _waiting,
    "window full": _far_ahead,
    "text over": lambda: _stepped(attached(), wrote(7)),
    "no stream, a pass under way": lambda: _stepped(attached(), events.LinkLost(1)),
    "no stream": lambda: _stepped(attached(), events.LinkLost(1), wrote(4)),
}
EVENTS: dict[str, Callable[[FreeRunningSession], events.CloudEvent]] = {
    "Open": lambda made: events.Attached(made.epoch + 1, _resuming(made)),
    "Open of another text": lambda made: events.Attached(made.epoch + 1, free_run(prefix_hash=1)),
    "Hints": lambda made: events.HintsReceived(1, hints(6, 6, held=made.committed_length)),
    "Hints for more than was sent": lambda made: events.HintsReceived(
        1, hints(held=made.committed_length + 1)
    ),
    "a pass is done": lambda made: wrote(4),
    "no room for a pass": lambda made: NO_ROOM,
    "a pass failed": lambda made: FAULT,
    "the wait is over": lambda made: events.WaitOver(),
    "Close": lambda made: events.CloseReceived(made.epoch),
    "link lost": lambda made: events.LinkLost(made.epoch),
    "silence": lambda made: events.TimerFired(),
}
SHOWN = {
    events.Reply: lambda effect: type(effect.message).__name__,
    events.ReplyClosed: lambda effect: "Closed",
    events.Refuse: lambda effect: effect.error.reason,
    events.Write: lambda effect: "pass",
    events.AwaitHint: lambda effect: "wait",
}


def _resuming(made: FreeRunningSession) -> Any:
    """Of an edge that holds what it has acknowledged."""
    return free_run(held_length=made._held_length, prefix_hash=made._held_hasher.value())


def told(situation: str, event: str) -> str:
    """What follows: messages and work, or the error, and the state if it is another one."""
    made = SITUATIONS[situation]()
    before = made.state
    try:
        effects = made.step(EVENTS[event](made), 1.2)
    except LocalProtocolError:
        return "–"
    shown = [SHOWN[type(effect)](effect) for effect in effects if type(effect) in SHOWN]
    if made.state is not before:
        shown.append(f"**{made.state.value}**")
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


EPOCH = st.integers(0, 3)
IDS = st.lists(st.integers(0, 6), max_size=4)
ANY_HINTS = st.one_of(
    st.builds(lambda ids, held, ahead: hints(*ids, held=held, ahead=ahead), IDS, st.integers(0, 9), EPOCH),
    st.builds(Hints, st.integers(0, 9), st.integers(0, 99), st.integers(0, 99), st.binary(max_size=6)),
)
ANY_EVENT = st.one_of(
    st.builds(lambda epoch, held: events.Attached(epoch, free_run(held_length=held)), EPOCH, EPOCH),
    EPOCH.map(events.Attached),
    st.builds(events.HintsReceived, EPOCH, ANY_HINTS),
    st.sampled_from(["pass", "acknowledge", "resume", NO_ROOM, FAULT, events.TimerFired()]),
    st.just(events.WaitOver()),
    EPOCH.map(events.CloseReceived),
    EPOCH.map(events.LinkLost),
)


@pytest.mark.parametrize("name", SITUATIONS)
@settings(derandomize=True, max_examples=60, deadline=None)
@given(steps=st.lists(ANY_EVENT, min_size=1, max_size=8))
def test_any_events_in_any_situation_keep_what_must_hold(name: str, steps: list[Any]) -> None:
    """
    From each situation, any events: effects, or LocalProtocolError that moves nothing.

    At most one pass is asked for at a time, what a stream is told joins what it was told before, nothing is
    further ahead than the window, and Release comes once.
    """
    made = SITUATIONS[name]()
    told_up_to = {made.epoch: made.committed_length}
    for step in steps:
        before, is_asked = made.state, made.has_work
        event = _made_of(step, made)
        try:
            effects = made.step(event, 2.0)
        except LocalProtocolError:
            assert made.state is before
            continue
        assert not (is_asked and before not in TERMINAL and _writes(effects) and not _ends_a_pass(event))
        assert len(_writes(effects)) <= 1
        for effect in effects:
            if isinstance(effect, events.Reply) and isinstance(effect.message, Written):
                first = told_up_to.get(effect.epoch, effect.message.first_position)
                assert effect.message.first_position == first
                told_up_to[effect.epoch] = first + len(effect.message.token_ids)
                assert told_up_to[effect.epoch] == made.committed_length
        assert len(made._unheld) < WINDOW_TOKENS + 1 + MAX_HINT_ROWS
        releases = [effect for effect in effects if isinstance(effect, events.Release)]
        assert len(releases) == (made.state in TERMINAL and before not in TERMINAL)
        assert not releases or effects[-1] is releases[0]


def _made_of(step: Any, made: FreeRunningSession) -> events.CloudEvent:
    match step:
        case "pass":
            return wrote(4)
        case "acknowledge":
            return events.HintsReceived(made.epoch, hints(held=made.committed_length))
        case "resume":
            return events.Attached(made.epoch + 1, _resuming(made))
    return step


def _writes(effects: list[Any]) -> list[events.Write]:
    return [effect for effect in effects if isinstance(effect, events.Write)]


def _ends_a_pass(event: events.CloudEvent) -> bool:
    return isinstance(event, events.Wrote | events.WorkFailed)


def test_the_situations_reach_every_state_the_cloud_rests_in() -> None:
    """OPENING lasts only while the edge waits, and nothing verifies; ends are reached by events."""
    reached = {made().state for made in SITUATIONS.values()}

    assert reached == set(State) - {State.OPENING, State.VERIFYING} - TERMINAL


if __name__ == "__main__":
    replace_marked(DOCUMENT, "table of the cloud's free-running session", table())
