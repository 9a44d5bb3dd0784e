"""
What a hint's row costs a cloud, in tokens that it could have written in that time; no clock, no I/O.

Every session in a pass waits for every row of it, so the price is the cloud's and not a session's: seconds
of a row, times the tokens that all sessions together write in a second.
The seconds are the slope of a line through the times of the passes of late, over the tokens each was fed.
"""

from __future__ import annotations

_MEMORY = 32
"""Passes that are remembered, about."""
_FIRST = 0.03
"""Passes that a row takes, before times say otherwise; believed as times spread over `_BELIEF` rows² are."""
_BELIEF = 8.0
LEAST, MOST = 0.01, 0.95
"""Bounds on what is believed of times that noise spoils."""


class RowPrice:
    """One cloud's; `passed` in the model's thread, `wrote` in the event loop's, `value` in either."""

    def __init__(self) -> None:
        self._weight = self._rows = self._seconds = self._squares = self._products = 0.0
        self._tokens = self._busy_s = 0.0
        """Written, and the seconds of all passes, those with prompts too."""
        self._written = 0
        """Tokens written since the last pass."""
        self.value = 2 * _FIRST
        """Tokens that a row costs."""

    def wrote(self, tokens: int) -> None:
        """A session's part in a pass came to so many tokens."""
        self._written += tokens

    def passed(self, rows: int | None, seconds: float) -> None:
        """A pass took so long that was fed so many tokens; None where some of them were of a prompt."""
        kept, written, self._written = 1 - 1 / _MEMORY, self._written, 0
        self._tokens = kept * self._tokens + written
        self._busy_s = kept * self._busy_s + seconds
        if rows is None:
            return
        self._weight = kept * self._weight + 1
        self._rows = kept * self._rows + rows
        self._seconds = kept * self._seconds + seconds
        self._squares = kept * self._squares + rows * rows
        self._products = kept * self._products + rows * seconds
        mean_rows, mean_s = self._rows / self._weight, self._seconds / self._weight
        spread = self._squares - self._rows * mean_rows
        together = self._products - self._rows * mean_s
        row_s = (together + _BELIEF * _FIRST * mean_s) / (spread + _BELIEF)
        per_s = max(self._tokens / self._busy_s, 1 / mean_s) if mean_s else 0.0
        price = row_s * per_s if mean_s else self.value
        self.value = min(MOST, max(LEAST, price))
