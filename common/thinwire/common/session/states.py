"""
Every state of a conversation between an edge and a cloud, and every message that may move it.

Rule 1: what moves the state stands in this table and nowhere else.
Rule 2: this file does not know which end it runs on; sender and receiver of a message apply the same row.

Not in the table, because they move nothing: a repeated round (answered with the same verdict) and a stale
verdict (dropped).
"""

from __future__ import annotations

import enum
from itertools import product

from thinwire.common.errors import LocalProtocolError


class State(enum.Enum):
    """Where a session stands."""

    NEW = "new"
    OPENING = "opening"
    """Open was sent, Opened was not."""
    IDLE = "idle"
    """No round in flight; the edge drafts. A free-running session is here as long as it has a stream."""
    VERIFYING = "verifying"
    """A round was sent, its verdict was not."""
    DETACHED = "detached"
    """The stream ended without Close; the cloud keeps the session for a while."""
    CLOSED = "closed"
    FAILED = "failed"


class Happening(enum.Enum):
    """What moves a session."""

    OPEN = "open"
    OPENED = "opened"
    ROUND = "round"
    VERDICT = "verdict"
    HINTS = "hints"
    WRITTEN = "written"
    CLOSE = "close"
    LINK_LOST = "link lost"
    RESUME = "resume"
    """Open on a new stream, with the session's id or, where the cloud has lost it, with what is committed."""
    FAULT = "fault"
    EXPIRE = "expire"
    """A deadline of the session itself passed."""


_BEGUN = (State.OPENING, State.IDLE, State.VERIFYING, State.DETACHED)
TRANSITIONS: dict[tuple[State, Happening], State] = {
    (State.NEW, Happening.OPEN): State.OPENING,
    (State.OPENING, Happening.OPENED): State.IDLE,
    (State.IDLE, Happening.ROUND): State.VERIFYING,
    (State.VERIFYING, Happening.VERDICT): State.IDLE,
    # Free-running: the target writes and the edge hints as they like.
    (State.IDLE, Happening.HINTS): State.IDLE,
    (State.IDLE, Happening.WRITTEN): State.IDLE,
    **dict.fromkeys(product(_BEGUN, [Happening.LINK_LOST]), State.DETACHED),
    # A newer stream may take over before the older one is known to be dead.
    **dict.fromkeys(product(_BEGUN, [Happening.RESUME]), State.OPENING),
    **dict.fromkeys(product((State.NEW, *_BEGUN), [Happening.CLOSE]), State.CLOSED),
    **dict.fromkeys(product((State.NEW, *_BEGUN), [Happening.FAULT, Happening.EXPIRE]), State.FAILED),
}
TERMINAL = frozenset({State.CLOSED, State.FAILED})


def after(state: State, happening: Happening) -> State:
    """The state that follows; LocalProtocolError for no such row, as callers check a peer's messages."""
    try:
        return TRANSITIONS[state, happening]
    except KeyError:
        raise LocalProtocolError(
            f"{happening.value} in state {state.value}; not in the transition table."
        ) from None
