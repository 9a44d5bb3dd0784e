"""Axes of a chart: a title with its unit, a range, and ticks at numbers that people read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 5.0)
"""Where a logarithmic axis may begin, end and have ticks, times a power of ten."""
_FEW_DECADES = 2.1


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a panel."""

    title: str
    """With its unit."""
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    """(value, label)."""
    is_log: bool = False

    def share(self, value: float) -> float:
        """Where a value is, from 0 at the low end to 1 at the high end."""
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def shows(self, value: float) -> bool:
        """Whether a value can be drawn."""
        return math.isfinite(value) and (value > 0 or not self.is_log)


def linear(title: str, values: Iterable[float], *, from_zero: bool = True) -> Axis:
    """An axis over the values with ticks at round numbers."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min([0.0, *finite] if from_zero else finite), max(finite)
    span = high - low or abs(high) or 1.0
    step = _round_step(span / 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = tuple((number * step, f"{number * step:.10g}") for number in range(first, last + 1))
    return Axis(title, first * step, last * step, ticks)


def logarithmic(title: str, values: Iterable[float]) -> Axis:
    """An axis between 1, 2 or 5 times powers of ten; over many decades its ticks are the powers alone."""
    positive = [value for value in values if math.isfinite(value) and value > 0] or [1.0, 10.0]
    low, high = _round_down(min(positive)), _round_up(max(positive))
    if low == high:
        high = _round_up(high * 1.5)
    few = math.log10(high / low) <= _FEW_DECADES
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [step * 10.0**decade for decade in decades for step in (_STEPS if few else _STEPS[:1])]
    ticks = tuple((mark, tick_text(mark)) for mark in marks if low * 0.999 <= mark <= high * 1.001)
    return Axis(title, low, high, ticks, is_log=True)


def at_values(title: str, values: Iterable[float], *, is_log: bool = False) -> Axis:
    """An axis whose ticks are the values themselves, with room at both ends."""
    ordered = sorted(set(values)) or [1.0]
    ticks = tuple((value, f"{value:g}") for value in ordered)
    if is_log:
        return Axis(title, ordered[0] / 1.4, ordered[-1] * 1.4, ticks, is_log=True)
    room = (ordered[-1] - ordered[0]) / 12 or 0.5
    return Axis(title, ordered[0] - room, ordered[-1] + room, ticks)


def categories(title: str, labels: Sequence[str]) -> Axis:
    """Equally spaced labels; the n-th is at n, from 0."""
    return Axis(
        title, -0.5, max(1, len(labels)) - 0.5, tuple((float(n), text) for n, text in enumerate(labels))
    )


def tick_text(value: float) -> str:
    """A number with its thousands as k: 500, 20k."""
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:g}"


def _round_step(value: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is at least `value`."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))


def _round_down(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    return max(step * power for step in _STEPS if step * power <= value * (1 + 1e-9))


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    return next(step * power for step in (*_STEPS, 10.0) if step * power >= value * (1 - 1e-9))
