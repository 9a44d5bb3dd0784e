"""
The live sessions of one cloud: found by id and tenant, bounded in number, the abandoned ones evicted first.

A session belongs to the tenant that opened it.
Another tenant's session and one that never was are the same thing to whoever asks.
"""

from __future__ import annotations

from collections.abc import Iterator

from thinwire.cloud.live_session import LiveSession
from thinwire.common.door.tenants import DEFAULT_TENANT
from thinwire.common.errors import QuotaExceededError, ResourceExhaustedError, SessionNotFoundError
from thinwire.common.session.states import State


class SessionRegistry:
    """Live sessions by id, `max_sessions` at most, those kept for a resume included."""

    def __init__(self, max_sessions: int) -> None:
        self._max_sessions = max_sessions
        self._sessions: dict[bytes, LiveSession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[LiveSession]:
        return iter(list(self._sessions.values()))

    def find(self, session_id: bytes, *, tenant: str = DEFAULT_TENANT) -> LiveSession:
        """The tenant's session to resume; SessionNotFoundError if it has none of this id."""
        live = self._sessions.get(session_id)
        if live is None or live.tenant != tenant:
            raise SessionNotFoundError(
                f"session {session_id.hex()[:8]}... is not here; expected one open or torn recently."
            )
        return live

    def add(self, live: LiveSession, *, tenant_limit: int | None = None) -> None:
        """
        Register a new session; one without a stream may have to end for it.

        Args:
            tenant_limit: sessions its tenant may hold; None for as many as there are.

        Raises:
            QuotaExceededError: the tenant holds all its sessions with a stream.
            ResourceExhaustedError: every slot is held by a session with a stream.
        """
        held = list(self)  # a session that is over is no longer among them: it is released at once
        own = [other for other in held if other.tenant == live.tenant]
        if tenant_limit is not None and len(own) >= tenant_limit:
            if not _evicted(own):
                raise QuotaExceededError(
                    f"{len(own)} sessions of tenant {live.tenant} are open; expected fewer than "
                    f"{tenant_limit}."
                )
        elif len(held) >= self._max_sessions and not (_evicted(own) or _evicted(held)):
            raise ResourceExhaustedError(
                f"{len(held)} sessions are open; expected fewer than {self._max_sessions}."
            )
        self._sessions[live.session.session_id] = live

    def evict_one(self) -> None:
        """End the oldest session without a stream, if there is one, to free its memory."""
        _evicted(list(self))

    def remove(self, session_id: bytes) -> None:
        self._sessions.pop(session_id, None)


def _evicted(sessions: list[LiveSession]) -> bool:
    """Whether there was one without a stream; the oldest of them is ended."""
    abandoned = next((live for live in sessions if live.session.state is State.DETACHED), None)
    if abandoned is not None:
        abandoned.expire()
    return abandoned is not None
