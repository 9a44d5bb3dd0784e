"""The real shells of both ends under schedules of chance; the faults that once were, put back, are found."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

import thinwire.common.causal_model
from tests.explorer.explore import Report, explore
from tests.explorer.memory_link import dawdle
from thinwire.cloud.events import ArmTimer, Decode, Prefill, Reply, Score, TruncateCache
from thinwire.cloud.live_session import LiveSession, _Work
from thinwire.cloud.session import CloudSession
from thinwire.common.errors import LocalProtocolError
from thinwire.common.session.states import State
from thinwire.common.wire import Outbox

CHANCE = random.Random(0)
SHORT = 1000
"""Schedules; each fault below is found in far fewer."""


def explored(schedules: int, *, first: int = 0) -> Report:
    """All of them in one report; the first complaints end it."""
    whole = Report(first)
    for seed in range(first, first + schedules):
        report = explore(seed)
        whole.texts += report.texts
        whole.reconnects += report.reconnects
        if report.complaints:
            whole.complaints = [f"schedule {seed}", *report.complaints]
            break
    return whole


def test_every_text_is_its_reference_whatever_the_schedule() -> None:
    """Resumes, refusals, replays and cancels; texts by the sans-IO sessions alone are the reference."""
    report = explored(SHORT)

    assert report.complaints == []
    assert report.texts > SHORT
    assert report.reconnects > SHORT / 4


@pytest.mark.slow
def test_every_text_is_its_reference_in_ten_thousand_schedules() -> None:
    """As above, on other seeds."""
    report = explored(10_000, first=100_000)

    assert report.complaints == []
    assert report.texts > 10_000


def test_a_seed_fixes_a_schedule() -> None:
    """The same seed, the same texts, the same simulated time."""
    first, second = explore(7), explore(7)

    assert (first.texts, first.reconnects, first.steps_s) == (second.texts, second.reconnects, second.steps_s)


def _each_event_a_task(patch: pytest.MonkeyPatch) -> None:
    """An event's effects in a task of its own, which waits for each message to be taken before it goes on."""

    def handle(live: Any, event: Any) -> None:
        effects = live.session.step(event, live._loop.time())
        live.tasks = [*getattr(live, "tasks", ()), live._loop.create_task(perform(live, effects))]

    async def perform(live: Any, effects: list[Any]) -> None:
        pending = list(effects)
        while pending:
            effect = pending.pop(0)
            match effect:
                case Prefill() | Decode() | Score() | TruncateCache():
                    lock = live.__dict__.setdefault("lock", asyncio.Lock())
                    async with lock:
                        event = await live._work(_Work(effect, 0.0))
                    if event is not None:
                        pending += live.session.step(event, live._loop.time())
                case Reply():
                    live._issue(effect)
                    await dawdle(CHANCE)  # as gRPC says late that a write was taken
                case ArmTimer() | _:
                    live._issue(effect)

    patch.setattr(LiveSession, "handle", handle)


def _with_no_look_at_the_cache(patch: pytest.MonkeyPatch) -> None:
    """The same, and nobody compares the cache's length with what the session believes."""
    _each_event_a_task(patch)
    patch.setattr(thinwire.common.causal_model, "check_cache_length", lambda length, expected: None)


def _two_writers(patch: pytest.MonkeyPatch) -> None:
    """Whoever has a message writes it, and whoever ends a stream ends it at once."""

    def write(outbox: Any, message: Any) -> None:
        if not outbox.is_ending:
            outbox.writing = asyncio.ensure_future(outbox._context.write(message))

    patch.setattr(Outbox, "put", write)


def _no_round_after_it_was_put_off(patch: pytest.MonkeyPatch) -> None:
    """A round that comes again on a stream that is being refused is taken for a bug of ours."""
    on_block = CloudSession._on_block

    def strict(session: Any, epoch: int, block: Any, now: float) -> Any:
        if epoch == session.epoch and session.state is State.DETACHED:
            raise LocalProtocolError("a block came in state detached; expected idle or verifying.")
        return on_block(session, epoch, block, now)

    patch.setattr(CloudSession, "_on_block", strict)
    patch.setattr(Outbox, "is_ending", False)


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (_with_no_look_at_the_cache, "wrong text"),
        (_each_event_a_task, "the cache holds"),
        (_two_writers, "misused"),
        (_no_round_after_it_was_put_off, "could not be taken"),
    ],
    ids=["the race", "the race, seen", "two writers", "put off"],
)
def test_a_fault_put_back_is_found(
    fault: Callable[[pytest.MonkeyPatch], None], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The explorer has eyes for what it was made for."""
    fault(monkeypatch)
    found = ""
    for seed in range(SHORT):
        complaints = explore(seed).complaints
        found = next((one for one in complaints if complaint in one), "")
        if found:
            break

    assert found
