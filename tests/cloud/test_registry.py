"""Live sessions: found by id, bounded in number, the abandoned ones evicted first."""

from __future__ import annotations

import secrets
from typing import cast

import pytest

from thinwire.cloud.live_session import LiveSession
from thinwire.cloud.opening import SessionRegistry
from thinwire.common.door.tenants import DEFAULT_TENANT
from thinwire.common.errors import (
    QuotaExceededError,
    ResourceExhaustedError,
    SessionNotFoundError,
)
from thinwire.common.session.states import State


class _Core:
    """What the registry sees of a session's core."""

    def __init__(self, session_id: bytes) -> None:
        self.session_id = session_id
        self.state = State.IDLE


class _Live:
    """A session in service that is released as soon as it is ended, as the real one is."""

    def __init__(self, session_id: bytes, registry: SessionRegistry, tenant: str) -> None:
        self.session = _Core(session_id)
        self.tenant = tenant
        self._registry = registry

    def expire(self) -> None:
        """End it."""
        self.session.state = State.FAILED
        self._registry.remove(self.session.session_id)


def add(registry: SessionRegistry, tenant: str = DEFAULT_TENANT, limit: int | None = None) -> LiveSession:
    """One more session."""
    live = cast("LiveSession", _Live(secrets.token_bytes(16), registry, tenant))
    registry.add(live, tenant_limit=limit)
    return live


def test_a_session_is_found_by_the_id_it_was_given() -> None:
    """Among many, in the order in which they came."""
    registry = SessionRegistry(100)
    sessions = [add(registry) for _ in range(100)]

    assert len(registry) == 100
    assert all(registry.find(live.session.session_id) is live for live in sessions)
    assert list(registry) == sessions


def test_an_unknown_id_is_not_found() -> None:
    """Removed, or never there."""
    registry = SessionRegistry(1)
    gone = add(registry).session.session_id
    registry.remove(gone)
    registry.remove(gone)

    for session_id in (gone, bytes(16), b""):
        with pytest.raises(SessionNotFoundError, match=f"session {session_id.hex()[:8]}"):
            registry.find(session_id)


def test_a_full_registry_refuses_one_more() -> None:
    """While every session has a stream."""
    registry = SessionRegistry(2)
    sessions = [add(registry), add(registry)]

    with pytest.raises(ResourceExhaustedError, match="2 sessions are open; expected fewer than 2"):
        add(registry)
    assert list(registry) == sessions


def test_a_session_without_a_stream_makes_room() -> None:
    """The oldest of those kept for a resume is ended; those with a stream are left alone."""
    registry = SessionRegistry(3)
    held, first, second = add(registry), add(registry), add(registry)
    first.session.state = second.session.state = State.DETACHED
    late = add(registry)

    states = [live.session.state for live in (held, first, second, late)]
    assert states == [State.IDLE, State.FAILED, State.DETACHED, State.IDLE]


def test_two_arrivals_at_once_evict_two() -> None:
    """Not one twice: a session that is over holds no slot."""
    registry = SessionRegistry(2)
    first, second = add(registry), add(registry)
    first.session.state = second.session.state = State.DETACHED
    add(registry)
    add(registry)

    assert first.session.state is second.session.state is State.FAILED
    with pytest.raises(ResourceExhaustedError):
        add(registry)


def test_another_tenants_session_is_not_found_in_the_same_words() -> None:
    """As one that never was; its owner finds it."""
    registry = SessionRegistry(4)
    live = add(registry, "acme")
    session_id = live.session.session_id
    with pytest.raises(SessionNotFoundError) as foreign:
        registry.find(session_id, tenant="rival")
    found = registry.find(session_id, tenant="acme")
    registry.remove(session_id)
    with pytest.raises(SessionNotFoundError) as unknown:
        registry.find(session_id, tenant="rival")

    assert found is live
    assert foreign.value.message == unknown.value.message


def test_a_tenant_at_its_limit_gives_up_an_abandoned_session_of_its_own() -> None:
    """Another tenant's stays, and without one of its own the quota refuses."""
    registry = SessionRegistry(8)
    kept, other = add(registry, "acme", 1), add(registry, "rival", 1)
    kept.session.state = other.session.state = State.DETACHED
    fresh = add(registry, "acme", 1)
    with pytest.raises(QuotaExceededError, match="1 sessions of tenant acme are open; expected fewer than 1"):
        add(registry, "acme", 1)

    assert kept.session.state is State.FAILED
    assert other.session.state is State.DETACHED
    assert registry.find(fresh.session.session_id, tenant="acme") is fresh


def test_a_full_cloud_takes_the_tenants_own_abandoned_session_first() -> None:
    """Though another tenant's is older."""
    registry = SessionRegistry(2)
    older, own = add(registry, "rival"), add(registry, "acme")
    older.session.state = own.session.state = State.DETACHED
    add(registry, "acme")

    assert (older.session.state, own.session.state) == (State.DETACHED, State.FAILED)
