"""The cloud's session: every state against every event."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cloud.driven_session import (
    GOOD,
    SECOND,
    SIZE,
    make_block,
    make_session,
    scored,
    sealed,
    some_tokens,
)
from thinwire.cloud.events import (
    Attached,
    BlockReceived,
    CloseReceived,
    CloudEvent,
    Decoded,
    LinkLost,
    Release,
    TimerFired,
    WorkFailed,
)
from thinwire.common.errors import LocalProtocolError, ResourceExhaustedError, ThinwireError
from thinwire.common.session.messages import DraftBlock
from thinwire.common.session.states import TERMINAL, State

BLOCKS = st.one_of(
    st.sampled_from([GOOD, SECOND, make_block(length=1), replace(GOOD, checksum=0)]),
    st.builds(
        DraftBlock,
        round=st.integers(0, 3),
        base_length=st.integers(2, 5),
        prefix_hash=st.sampled_from([0, GOOD.prefix_hash, SECOND.prefix_hash]),
        draft_length=st.integers(-1, 65),
        coding=st.integers(0, 3),
        payload=st.binary(max_size=8),
        checksum=st.just(0),
    )
    .filter(lambda block: block.draft_length >= 0)
    .map(sealed),
)
EPOCH = st.integers(0, 3)
EVENTS = st.one_of(
    EPOCH.map(Attached),
    st.builds(BlockReceived, EPOCH, BLOCKS),
    st.integers(0, 3).map(lambda round_: Decoded(round_, some_tokens(2))),
    st.builds(scored, st.integers(0, 3), st.sampled_from([(), (1,)]), st.integers(0, SIZE - 1)),
    st.just(WorkFailed(ThinwireError("x."))),
    st.just(WorkFailed(ResourceExhaustedError("x."))),
    EPOCH.map(CloseReceived),
    EPOCH.map(LinkLost),
    st.just(TimerFired()),
)
ROUND = [Attached(1), BlockReceived(1, GOOD)]
PATHS: dict[str, list[CloudEvent]] = {
    "new": [],
    "idle": [Attached(1)],
    "decoding": ROUND,
    "scoring": [*ROUND, Decoded(1, some_tokens(2))],
    "after a round": [*ROUND, Decoded(1, some_tokens(2)), scored(1, (), 4)],
    "detached": [Attached(1), LinkLost(1)],
    "detached while decoding": [*ROUND, LinkLost(1)],
    "detached while scoring": [*ROUND, Decoded(1, some_tokens(2)), LinkLost(1)],
    "taken over while decoding": [*ROUND, Attached(2)],
    "put off": [*ROUND, WorkFailed(ResourceExhaustedError("x."))],
    "closed": [Attached(1), CloseReceived(1)],
    "failed": [Attached(1), WorkFailed(ThinwireError("x."))],
}


@pytest.mark.parametrize("name", PATHS)
@settings(derandomize=True, max_examples=60, deadline=None)
@given(events=st.lists(EVENTS, min_size=1, max_size=6))
def test_every_event_in_every_state_has_effects_or_the_documented_error(
    name: str, events: list[CloudEvent]
) -> None:
    """From each state, any events: effects, or LocalProtocolError that moves nothing; Release comes once."""
    session = make_session()
    for event in PATHS[name]:
        session.step(event, 100.0)

    for event in events:
        before = session.state
        try:
            effects = session.step(event, 100.0)
        except LocalProtocolError:
            assert session.state is before
            continue
        releases = [effect for effect in effects if isinstance(effect, Release)]
        assert len(releases) == (session.state in TERMINAL and before not in TERMINAL)
        assert not releases or effects[-1] is releases[0]


def test_the_paths_reach_every_state_the_cloud_rests_in() -> None:
    """OPENING lasts only while the edge waits; the cloud answers in the same step."""
    reached = set()
    for path in PATHS.values():
        session = make_session()
        for event in path:
            session.step(event, 100.0)
        reached.add(session.state)

    assert reached == set(State) - {State.OPENING}
