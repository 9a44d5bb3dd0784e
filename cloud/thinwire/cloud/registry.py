"""
The live sessions of one cloud: found by id and tenant, bounded in number, the abandoned ones evicted first.

A session belongs to the tenant that opened it.
Another tenant's session and one that never was are the same thing to whoever asks.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

from thinwire.cloud.live_session import LiveSession
from thinwire.common.door.tenants import DEFAULT_TENANT
from thinwire.common.errors import QuotaExceededError, ResourceExhaustedError, SessionNotFoundError
from thinwire.common.session.states import TERMINAL, State

SESSION_ID_BYTES = 16


class SessionRegistry:
    """
    Live sessions by id.

    Args:
        max_sessions: bound, sessions kept for a resume included.
    """

    def __init__(self, max_sessions: int) -> None:
        self._max_sessions = max_sessions
        self._sessions: dict[bytes, LiveSession] = {}
        self._tenants: dict[bytes, str] = {}
        """Whose each session is."""

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[LiveSession]:
        return iter(list(self._sessions.values()))

    def find(self, session_id: bytes, *, tenant: str = DEFAULT_TENANT) -> LiveSession:
        """
        The tenant's session to resume.

        Raises:
            SessionNotFoundError: no live session of this tenant has this id.
        """
        live = self._sessions.get(session_id)
        if live is None or self._tenants[session_id] != tenant:
            raise SessionNotFoundError(
                f"session {session_id.hex()[:8]}... is not here; expected one open or torn recently."
            )
        return live

    def add(
        self,
        make: Callable[[bytes], LiveSession],
        *,
        tenant: str = DEFAULT_TENANT,
        tenant_limit: int | None = None,
    ) -> LiveSession:
        """
        Register a new session under a fresh, unguessable id.

        Args:
            make: builds the session for its id; what it raises leaves the registry as it was.
            tenant: whose it is.
            tenant_limit: sessions this tenant may hold; None for as many as there are.

        Raises:
            QuotaExceededError: the tenant holds all its sessions with a stream.
            ResourceExhaustedError: every slot is held by a session with a stream.
        """
        live = make(secrets.token_bytes(SESSION_ID_BYTES))
        # A session that is over holds no slot, even if its release is still on its way.
        held = [other for other in self._sessions.values() if other.session.state not in TERMINAL]
        own = [other for other in held if self._tenants[other.session.session_id] == tenant]
        evicted: LiveSession | None = None
        if tenant_limit is not None and len(own) >= tenant_limit:
            evicted = _abandoned(own)
            if evicted is None:
                raise QuotaExceededError(
                    f"{len(own)} sessions of tenant {tenant} are open; expected fewer than {tenant_limit}."
                )
        elif len(held) >= self._max_sessions:
            evicted = _abandoned(own) or _abandoned(held)
            if evicted is None:
                raise ResourceExhaustedError(
                    f"{len(held)} sessions are open; expected fewer than {self._max_sessions}."
                )
        if evicted is not None:
            evicted.expire()
        self._sessions[live.session.session_id] = live
        self._tenants[live.session.session_id] = tenant
        return live

    def evict_one(self) -> None:
        """End the oldest session without a stream, if there is one, to free its memory."""
        held = [other for other in self._sessions.values() if other.session.state not in TERMINAL]
        evicted = _abandoned(held)
        if evicted is not None:
            evicted.expire()

    def remove(self, session_id: bytes) -> None:
        """Forget a session that was released."""
        self._sessions.pop(session_id, None)
        self._tenants.pop(session_id, None)


def _abandoned(sessions: list[LiveSession]) -> LiveSession | None:
    """The oldest without a stream."""
    return next((live for live in sessions if live.session.state is State.DETACHED), None)
