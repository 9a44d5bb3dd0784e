"""
What a hint's row costs a pass, as a share of a pass without hints; no clock, no I/O.

A line through the times of the passes of late, old ones fading: its slope over its value at no hint.
"""

from __future__ import annotations

_MEMORY = 32
"""Passes that are remembered, about."""
_FIRST = 0.05
"""What is believed before times say otherwise, as strongly as times that spread over `_BELIEF` rows²."""
_BELIEF = 8.0
LEAST, MOST = 0.01, 0.5
"""Bounds on what is believed of times that other sessions share, and that noise spoils."""


class RowPrice:
    """One session's."""

    def __init__(self) -> None:
        self._weight = self._rows = self._seconds = self._squares = self._products = 0.0

    def passed(self, rows: int, seconds: float) -> None:
        """A pass with so many hints took so long."""
        kept = 1 - 1 / _MEMORY
        self._weight = kept * self._weight + 1
        self._rows = kept * self._rows + rows
        self._seconds = kept * self._seconds + seconds
        self._squares = kept * self._squares + rows * rows
        self._products = kept * self._products + rows * seconds

    @property
    def value(self) -> float:
        """Passes that a row costs."""
        if not self._seconds:
            return _FIRST
        rows, seconds = self._rows / self._weight, self._seconds / self._weight
        spread = self._squares - self._weight * rows * rows
        together = self._products - self._weight * rows * seconds
        slope = (together + _BELIEF * _FIRST * seconds) / (spread + _BELIEF)
        plain_s = max(seconds - slope * rows, seconds / 4)
        return min(MOST, max(LEAST, slope / plain_s))
