"""What is fuzzed of a free-running conversation notices what it is for."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from fuzz import hinted_session
from fuzz.bytes_of_input import Bytes
from thinwire.cloud.free_running import FreeRunningSession
from thinwire.cloud.hint_store import HintStore
from thinwire.cloud.live_session import LiveSession
from thinwire.common.session.messages import Hints

GARBAGE, BEHIND_HELD, GOOD, HEAR = 2, 4, 5, 6
"""Kinds of steps."""


def conversation(*steps: tuple[int, bytes]) -> bytes:
    """An input of these steps, without copies of the text."""
    return bytes([1]) + b"".join(
        bytes([kind]) + len(content).to_bytes(2, "little") + content for kind, content in steps
    )


def numbers(*values: int) -> bytes:
    """Small fields, one after the other."""
    return b"".join(value.to_bytes(2, "little") for value in values)


FAR_AHEAD = numbers(0) + b"\xff\x00" + (10_000).to_bytes(5, "little") + numbers(1) + b"\x01\x01"
"""One hint, 10 000 places ahead."""


def test_every_field_of_hints_comes_off_the_input() -> None:
    """Whichever fields there are: one that was added is made too, or the target says that it cannot."""
    peer = object.__new__(hinted_session._Peer)
    made = [peer.garbage(Bytes(bytes([n]) * 400)) for n in (1, 150)]

    for field in dataclasses.fields(Hints):
        assert getattr(made[0], field.name) != getattr(made[1], field.name), field.name


def test_good_hints_reach_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise little would be fuzzed: true guesses are believed, and passes have rows for them."""
    fed: list[int] = []
    write = LiveSession._write

    async def watched(live: Any, effect: Any) -> Any:
        wrote = await write(live, effect)
        fed.append(len(wrote.fed.token_ids))
        return wrote

    monkeypatch.setattr(LiveSession, "_write", watched)
    hinted_session.hints(conversation(*[(GOOD, bytes([1, 7])), (HEAR, b"\0")] * 8))

    assert max(fed) > 0


def test_hints_that_are_believed_unseen_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted defect: whatever was hinted is written."""
    write = LiveSession._write

    async def trusting(live: Any, effect: Any) -> Any:
        wrote = await write(live, effect)
        return dataclasses.replace(wrote, token_ids=(*wrote.fed.token_ids, wrote.token_ids[-1]))

    monkeypatch.setattr(LiveSession, "_write", trusting)
    wrong = [(BEHIND_HELD, numbers(0, 0, 1) + bytes([1, byte])) for byte in range(6)]
    with pytest.raises(AssertionError, match="is not of the text"):
        hinted_session.hints(conversation(*[step for hint in wrong for step in (hint, (HEAR, b"\0"))]))


def test_memory_by_what_a_hint_claims_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted defect: a place for every position before a hint."""
    add = HintStore.add

    def generous(store: Any, hints: Any, *, base_length: int, held_length: int) -> None:
        store.places = [0] * min(base_length, 100_000)
        add(store, hints, base_length=base_length, held_length=held_length)

    monkeypatch.setattr(HintStore, "add", generous)
    with pytest.raises(AssertionError, match="things are kept of hints"):
        hinted_session.hints(conversation((BEHIND_HELD, FAR_AHEAD), (HEAR, b"\0")))


def test_an_exception_over_a_hint_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted defect: hints far ahead index a list."""
    add = HintStore.add

    def careless(store: Any, hints: Any, *, base_length: int, held_length: int) -> None:
        [0][max(0, base_length - 60)]
        add(store, hints, base_length=base_length, held_length=held_length)

    monkeypatch.setattr(HintStore, "add", careless)
    with pytest.raises(AssertionError, match="logged"):
        hinted_session.hints(conversation((BEHIND_HELD, FAR_AHEAD), (HEAR, b"\0")))


def test_a_peer_that_costs_another_its_session_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted defect: what ends one session ends all that came before it."""
    fail = FreeRunningSession._fail
    sessions: list[Any] = []
    init = FreeRunningSession.__init__

    def noted(session: Any, *args: Any, **options: Any) -> None:
        init(session, *args, **options)
        sessions.append(session)

    def contagious(session: Any, error: Any) -> Any:
        for other in sessions:
            other._is_over = True
        return fail(session, error)

    monkeypatch.setattr(FreeRunningSession, "__init__", noted)
    monkeypatch.setattr(FreeRunningSession, "_fail", contagious)
    with pytest.raises(AssertionError, match="another session"):
        hinted_session.hints(conversation((GARBAGE, numbers(0, 0, 0)), (HEAR, b"\0")))
