"""Texts that the cloud writes by itself under schedules of chance; planted faults of their kind are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import thinwire.common.causal_model
from tests.explorer.explore import Report, explore
from thinwire.cloud.events import HintsReceived, Reply, TruncateCache, Write, Wrote
from thinwire.cloud.free_running import FreeRunningSession
from thinwire.cloud.hint_store import HintStore

SHORT = 500
"""Schedules; each fault below is found in far fewer."""


def explored(schedules: int, *, first: int = 0) -> Report:
    """All of them in one report; the first complaints end it."""
    whole = Report(first)
    for seed in range(first, first + schedules):
        report = explore(seed, runs_free=True)
        whole.texts += report.texts
        whole.reconnects += report.reconnects
        whole.hinted += report.hinted
        if report.complaints:
            whole.complaints = [f"schedule {seed}", *report.complaints]
            break
    return whole


def test_every_text_is_its_races_whatever_the_schedule() -> None:
    """Lost links, resumes, refusals, evictions, rates, slow clients, small windows, rude peers."""
    report = explored(SHORT)

    assert report.complaints == []
    assert report.texts > SHORT
    assert report.reconnects > SHORT / 2
    assert report.hinted > SHORT


@pytest.mark.slow
def test_every_text_is_its_races_in_ten_thousand_schedules() -> None:
    """As above, on other seeds."""
    report = explored(10_000, first=200_000)

    assert report.complaints == []
    assert report.texts > 10_000


def _changed_effects(patch: pytest.MonkeyPatch, change: Callable[[Any, Any, list[Any]], list[Any]]) -> None:
    """What the cloud's session answers to an event goes through `change`."""
    step = FreeRunningSession.step

    def changed(session: Any, event: Any, now: float) -> list[Any]:
        return change(session, event, step(session, event, now))

    patch.setattr(FreeRunningSession, "step", changed)


def _written_to_the_epoch_that_asked(patch: pytest.MonkeyPatch) -> None:
    """What a pass wrote goes to the stream that held the session when the pass was begun."""

    def change(session: Any, event: Any, effects: list[Any]) -> list[Any]:
        epoch = getattr(session, "asked_by", session.epoch)
        if any(isinstance(effect, Write) for effect in effects):
            session.asked_by = session.epoch
        if not isinstance(event, Wrote):
            return effects
        return [Reply(epoch, e.message) if isinstance(e, Reply) else e for e in effects]

    _changed_effects(patch, change)


def _an_acknowledgement_that_drops_too_much(patch: pytest.MonkeyPatch) -> None:
    """The edge says how many tokens it holds, and one more is forgotten."""
    acknowledge = FreeRunningSession._acknowledge

    def greedy(session: Any, held_length: int, prefix_hash: int | None = None) -> bool:
        is_known = acknowledge(session, held_length, prefix_hash)
        if is_known and prefix_hash is None and session._unheld:
            session._held_hasher.extend(session._unheld[:1])
            del session._unheld[0]
        return is_known

    patch.setattr(FreeRunningSession, "_acknowledge", greedy)


def _hints_at_a_wrong_position(patch: pytest.MonkeyPatch) -> None:
    """Behind the tokens that the edge holds, whatever hints went before."""
    add = HintStore.add

    def misplaced(store: Any, token_ids: Any, *, base_length: int, held_length: int) -> None:
        add(store, token_ids, base_length=held_length, held_length=held_length)

    patch.setattr(HintStore, "add", misplaced)


def _truncation_lost(patch: pytest.MonkeyPatch) -> None:
    """A wrong hint stays in the target's cache."""
    _changed_effects(
        patch,
        lambda session, event, effects: [e for e in effects if not isinstance(e, TruncateCache)],
    )


def _truncation_lost_unseen(patch: pytest.MonkeyPatch) -> None:
    """The same, and nobody compares the cache's length with what the session believes."""
    _truncation_lost(patch)
    patch.setattr(thinwire.common.causal_model, "check_cache_length", lambda length, expected: None)


def _a_pass_begun_twice(patch: pytest.MonkeyPatch) -> None:
    """A stream that takes the session over begins a pass beside the one under way."""
    taken_up = FreeRunningSession._on_taken_up

    def again(session: Any, attached: Any, now: float) -> Any:
        session._is_writing = False
        return taken_up(session, attached, now)

    patch.setattr(FreeRunningSession, "_on_taken_up", again)


def _a_window_without_bound(patch: pytest.MonkeyPatch) -> None:
    """The target writes on, whatever was acknowledged."""
    on = FreeRunningSession._write_on

    def unbounded(session: Any, now: float, **options: Any) -> Any:
        unheld, session._unheld = session._unheld, []
        effects = on(session, now, **options)
        session._unheld = unheld
        return effects

    patch.setattr(FreeRunningSession, "_write_on", unbounded)


def _a_full_window_that_nobody_opens(patch: pytest.MonkeyPatch) -> None:
    """An acknowledgement is taken, and the target goes on waiting."""

    def change(session: Any, event: Any, effects: list[Any]) -> list[Any]:
        begins = any(isinstance(effect, Write) for effect in effects)
        if not (isinstance(event, HintsReceived) and begins):
            return effects
        session._is_writing = False
        return []

    _changed_effects(patch, change)


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (_written_to_the_epoch_that_asked, "expected position"),
        (_an_acknowledgement_that_drops_too_much, "expected"),
        (_hints_at_a_wrong_position, "a right guess was taken for a wrong one"),
        (_truncation_lost, "the cache holds"),
        (_truncation_lost_unseen, "wrong text"),
        (_a_pass_begun_twice, "the cache holds"),
        (_a_window_without_bound, "expected at most"),
        (_a_full_window_that_nobody_opens, "hangs"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_planted_fault_is_found(
    fault: Callable[[pytest.MonkeyPatch], None], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The explorer has eyes for the faults that this conversation could have."""
    fault(monkeypatch)
    found = ""
    for seed in range(SHORT):
        complaints = explore(seed, runs_free=True).complaints
        found = next((one for one in complaints if complaint in one), "")
        if found:
            break

    assert found
