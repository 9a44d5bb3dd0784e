"""The live sessions of one cloud: found by id, bounded in number, the abandoned ones evicted first."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

from cloud.live_session import LiveSession
from common.errors import ResourceExhaustedError, SessionNotFoundError
from common.protocol import TERMINAL, State

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

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[LiveSession]:
        return iter(list(self._sessions.values()))

    def find(self, session_id: bytes) -> LiveSession:
        """
        The session to resume.

        Raises:
            SessionNotFoundError: no live session has this id.
        """
        live = self._sessions.get(session_id)
        if live is None:
            raise SessionNotFoundError(
                f"session {session_id.hex()[:8]}... is not here; expected one open or torn recently."
            )
        return live

    def add(self, make: Callable[[bytes], LiveSession]) -> LiveSession:
        """
        Register a new session under a fresh, unguessable id.

        Args:
            make: builds the session for its id; what it raises leaves the registry as it was.

        Raises:
            ResourceExhaustedError: every slot is held by a session with a stream.
        """
        live = make(secrets.token_bytes(SESSION_ID_BYTES))
        # A session that is over holds no slot, even if its release is still on its way.
        held = [other for other in self._sessions.values() if other.session.state not in TERMINAL]
        if len(held) >= self._max_sessions:
            abandoned = [other for other in held if other.session.state is State.DETACHED]
            if not abandoned:
                raise ResourceExhaustedError(
                    f"{len(held)} sessions are open; expected fewer than {self._max_sessions}."
                )
            abandoned[0].expire()
        self._sessions[live.session.session_id] = live
        return live

    def remove(self, session_id: bytes) -> None:
        """Forget a session that was released."""
        self._sessions.pop(session_id, None)
