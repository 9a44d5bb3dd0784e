"""The events and effects that both sessions have, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The time of the last ArmTimer has come."""


@dataclass(frozen=True, slots=True)
class ArmTimer:
    """Deliver TimerFired at `at_s` (monotonic seconds); replaces the timer armed before; None disarms."""

    at_s: float | None


@dataclass(frozen=True, slots=True)
class TruncateCache:
    """Roll the model's cache back to its first `length` tokens, and move others up behind them."""

    length: int
    kept: tuple[int, ...] = ()
    """Indices in the cache of these others, ascending: after a tree, the path that was right."""
