"""The edge's session: every state against every event."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.edge.driven_session import LINK_ERROR, SIZE, Driven, opened
from thinwire.common.errors import (
    DeadlineError,
    EpochSupersededError,
    LocalProtocolError,
    QuotaExceededError,
    ResourceExhaustedError,
    ThinwireError,
)
from thinwire.common.session.messages import Opened, Verdict
from thinwire.common.session.states import TERMINAL, State
from thinwire.edge.events import (
    Cancelled,
    Connected,
    EdgeEffect,
    Finish,
    LinkLost,
    OpenedReceived,
    Refused,
    TimerFired,
    VerdictReceived,
)

SMALL = st.integers(0, 7)
EVENTS = st.one_of(
    st.sampled_from([Connected(), TimerFired(), Cancelled(), "drafted"]),
    st.builds(
        Opened,
        session_id=st.sampled_from([bytes(16), b"x" * 16]),
        epoch=SMALL,
        context_length=st.sampled_from([2, 3, 5, 64]),
        eos_token_ids=st.sampled_from([(), (5,)]),
        committed_length=st.integers(1, 4),
        next_round=SMALL,
    ).map(OpenedReceived),
    st.builds(
        Verdict,
        round=SMALL,
        accepted=st.integers(-1, 4),
        next_token_id=st.integers(-1, SIZE),
        committed_length=st.integers(0, 12),
    ).map(VerdictReceived),
    st.integers(0, 3).map(lambda accepted: ("verdict", accepted)),
    st.sampled_from([LINK_ERROR, DeadlineError("late.")]).map(LinkLost),
    st.sampled_from([EpochSupersededError("x."), ThinwireError("x.")]).map(Refused),
    st.sampled_from([QuotaExceededError("x."), ResourceExhaustedError("x.")]).map(Refused),
)
PATHS: dict[str, list[Any]] = {
    "new": [],
    "opening": [Connected()],
    "drafting": [Connected(), OpenedReceived(opened())],
    "verifying": [Connected(), OpenedReceived(opened()), "drafted"],
    "second round": [Connected(), OpenedReceived(opened()), "drafted", ("verdict", 1), "drafted"],
    "detached before opened": [Connected(), LinkLost(LINK_ERROR)],
    "detached while drafting": [Connected(), OpenedReceived(opened()), LinkLost(LINK_ERROR)],
    "detached with a draft": [Connected(), OpenedReceived(opened()), LinkLost(LINK_ERROR), "drafted"],
    "detached with a round": [Connected(), OpenedReceived(opened()), "drafted", LinkLost(LINK_ERROR)],
    "resuming": [Connected(), OpenedReceived(opened()), "drafted", LinkLost(LINK_ERROR), Connected()],
    "closed": [Connected(), Cancelled()],
    "failed": [Connected(), Refused(ThinwireError("x."))],
}


def take(driven: Driven, event: Any) -> list[EdgeEffect] | None:
    """Step; None for the documented error, which must leave the state as it was."""
    if event == "drafted":
        if driven.draft is None:
            return []
        event = driven.drafted()
    elif isinstance(event, tuple):
        if driven.sent is None:
            return []
        accepted = event[1]
        block = driven.sent
        event = VerdictReceived(Verdict(block.round, accepted, 2, block.base_length + accepted + 1))
    before = driven.session.state
    try:
        effects = driven.step(event)
    except LocalProtocolError:
        assert driven.session.state is before
        return None
    if before in TERMINAL:
        assert effects == []
    else:
        ends = [effect for effect in effects if isinstance(effect, Finish)]
        assert len(ends) == (driven.session.state in TERMINAL)
        assert not ends or effects[-1] is ends[0]
    return effects


@pytest.mark.parametrize("name", PATHS)
@settings(derandomize=True, max_examples=60, deadline=None)
@given(events=st.lists(EVENTS, min_size=1, max_size=6))
def test_every_event_in_every_state_has_effects_or_the_documented_error(name: str, events: list[Any]) -> None:
    """From each state, any events: effects, or LocalProtocolError that moves nothing; the end comes once."""
    driven = Driven()
    for event in PATHS[name]:
        assert take(driven, event) is not None

    for event in events:
        take(driven, event)


def test_the_paths_reach_every_state() -> None:
    """The property above starts from each state of the table (IDLE is where the edge drafts)."""
    reached = set()
    for path in PATHS.values():
        driven = Driven()
        for event in path:
            take(driven, event)
        reached.add(driven.session.state)

    assert reached == set(State)
