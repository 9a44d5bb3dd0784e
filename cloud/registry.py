"""The live sessions of one cloud: found by id, bounded in number, the abandoned ones evicted first."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from common.errors import ResourceExhaustedError, SessionNotFoundError
from common.protocol import State
from cloud.live_session import LiveSession

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

    def __iter__(self):  # type: ignore[no-untyped-def] # Iterator[LiveSession]
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
                f"session {session_id.hex()[:8]}... is not here; expected one that is open or was torn recently."
            )
        return live

    def add(self, make: Callable[[bytes], LiveSession]) -> LiveSession:
        """
        Register a new session under a fresh, unguessable id.

        Args:
            make: builds the session for its id; only called when there is room.

        Raises:
            ResourceExhaustedError: every slot is held by a session with a stream.
        """
        if len(self._sessions) >= self._max_sessions:
            abandoned = [live for live in self._sessions.values() if live.session.state is State.DETACHED]
            if not abandoned:
                raise ResourceExhaustedError(
                    f"{len(self._sessions)} sessions are open; expected fewer than {self._max_sessions}."
                )
            abandoned[0].expire()
        live = make(secrets.token_bytes(SESSION_ID_BYTES))
        self._sessions[live.session.session_id] = live
        return live

    def remove(self, session_id: bytes) -> None:
        """Forget a session that was released."""
        self._sessions.pop(session_id, None)
