"""
Whether the target waits for a hint that is on its way; no clock, no I/O.

Right after a wrong hint there is none, and the next is due h seconds after the edge could know.
A pass of t seconds that begins at once yields one token, and the pass behind it 1 + E' if the hint is there
by then; one that begins when the hint is there yields 1 + E in the time that was left of h, and t.
E is what hints yield: with a hit rate a and L hints a message, of which n places are written already by the
time they come, Σ aᵏ for k from n + 1 to L; E' is the same with one place more written.
"""

from __future__ import annotations

from thinwire.common.session.free_run import WAIT_PASSES, WAIT_SHARE

_MEMORY = 4
"""Hints and passes that the averages remember, about."""
_FAR = 64
"""Places behind which a hint is worth nothing, whatever was written since there was one."""
_LATE = 1.5
"""A hint may be so much later than usual before the target goes on without."""


class HintPatience:
    """
    One session's; every `now` is monotonic seconds.

    Args:
        saves_passes: wait for hints while they are worth a pass, whatever time it takes.
    """

    def __init__(self, *, saves_passes: bool = False) -> None:
        self._saves_passes = saves_passes
        self._pass_s = 0.0
        """Seconds of a pass; 0 before one was seen."""
        self._hint_s = 0.0
        """Seconds from an empty store to the next hint; 0 before one came."""
        self._hints = 0.0
        """How many come at once."""
        self._asked_s: float | None = None
        """Since when the store has been empty; None while it is not."""
        self._written = 0
        """Tokens written since then."""

    def passed(self, seconds: float, tokens: int) -> None:
        """A pass took so long, and wrote so many tokens."""
        self._pass_s = _mean(self._pass_s, seconds)
        self._written += tokens

    def is_empty(self, now: float) -> None:
        """No hint is here; the edge learns why, from what is told it now."""
        if self._asked_s is None:
            self._asked_s, self._written = now, 0

    def came(self, hints: int, now: float) -> None:
        """So many hints wait now."""
        if self._asked_s is not None:
            self._hint_s = _mean(self._hint_s, now - self._asked_s)
            self._hints = _mean(self._hints, min(_FAR, hints + self._written))
            self._asked_s = None

    def in_vain(self) -> None:
        """The target waited, and none came."""
        self._hint_s *= 2
        self._asked_s = None

    def wait_s(self, hit_rate: float, now: float) -> float:
        """Seconds to wait before a pass without a hint; 0 for none."""
        if self._asked_s is None or not self._hint_s or not self._pass_s:
            return 0.0
        left_s = self._asked_s + self._hint_s - now
        now_yields = 2 + self._yield(hit_rate, self._written + 1)
        then_yields = 1 + self._yield(hit_rate, self._written)
        if self._saves_passes:
            longest_s = WAIT_PASSES * self._pass_s
            is_better = then_yields > now_yields / 2
        else:
            longest_s = WAIT_SHARE * self._pass_s
            is_better = then_yields / (max(0.0, left_s) + self._pass_s) > now_yields / (2 * self._pass_s)
        if not is_better or left_s <= -self._hint_s or left_s > longest_s:
            return 0.0
        return min(longest_s, max(0.0, left_s) + (_LATE - 1) * self._hint_s)

    def _yield(self, hit_rate: float, written: int) -> float:
        return sum(hit_rate**n for n in range(written + 1, round(self._hints) + 1))


def _mean(mean: float, value: float) -> float:
    """A running mean; the first value is taken as it is."""
    return mean + (value - mean) / _MEMORY if mean else float(value)
