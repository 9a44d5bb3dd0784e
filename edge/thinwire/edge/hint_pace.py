"""
When guesses go up, beside a target that writes by itself; no clock, no I/O.

A message costs some hundred bytes on the wire, whatever it holds, and is of use when the next pass of the
target begins. So guesses wait for more until the next draft would be too late for that pass.
Times are learnt: of passes from one to the next, of drafts, and of a message with its answer from what
`Written` says of the messages that the cloud had.
"""

from __future__ import annotations

import math

from thinwire.common.session.free_run import WAIT_SHARE
from thinwire.common.session.messages import Written
from thinwire.edge.guess_tree import GuessTree

LEAST_SENT = 0.15
"""
Guesses follow while those at the cloud are all right at least this often.

In virtual time that saves 15 to 37 % of the bytes up, and costs 0 to 4 % of the speed.
"""
_MARGIN_S = 0.004
"""So long before they are needed guesses go up."""
_DEVIATIONS = 1.0
"""Mean deviations below the mean that a pass is expected to take at least."""
_MEMORY = 4
"""Passes, drafts and messages that the averages remember, about."""


class HintPace:
    """One text's; every `now` is monotonic seconds."""

    def __init__(self) -> None:
        self.round_trip_s = 0.0
        """That a message and its answer travel: at first those of Open, then those of hints."""
        self._sent_s: list[float] = []
        """When each message of hints went up this stream, from the `_answered`th on."""
        self._answered = 0
        self._heard_s: float | None = None
        """When the last pass of this stream came down."""
        self._opened_s = 0.0
        self._mean_s = self._off_s = 0.0
        """From one pass to the next, and how far off that one is, on the average."""
        self._pass_s = 0.0
        """What a pass takes at least, but for a few; 0 before two were seen."""
        self._draft_s = 0.0
        self._draft_asked_s = 0.0
        self._passes = 0
        """Received."""
        self._served = 0
        """The pass that the last message was for."""

    @property
    def has_answers(self) -> bool:
        """Whether the cloud has had every message, as far as it told."""
        return not self._sent_s

    def opened(self, asked_s: float, now: float) -> None:
        """A stream begins, for which Open went up at `asked_s`."""
        self.round_trip_s, self._opened_s, self._heard_s = now - asked_s, now, None
        self._sent_s, self._answered = [], 0

    def draft_begins(self, now: float) -> None:
        """A draft is asked for."""
        self._draft_asked_s = now

    def draft_ends(self, now: float) -> None:
        """It is done."""
        seconds = now - self._draft_asked_s
        self._draft_s += (seconds - self._draft_s) / (_MEMORY if self._draft_s else 1)

    def heard(self, written: Written, now: float) -> None:
        """A pass came down."""
        place = written.hints_heard - self._answered - 1
        if 0 <= place < len(self._sent_s):
            seconds = max(0.0, now - self._sent_s[place] - written.heard_us * 1e-6)
            self.round_trip_s += (seconds - self.round_trip_s) / (_MEMORY if self._answered else 1)
            del self._sent_s[: place + 1]
            self._answered = written.hints_heard
        if self._heard_s is not None:
            self._took(now - self._heard_s)
        self._heard_s, self._passes = now, self._passes + 1

    def goes_up(self, guesses: GuessTree, now: float) -> None:
        """A message goes up, with what `guesses` has not sent yet."""
        self._served = self._next_pass(now) - self._may_be_awaited(guesses)
        self._sent_s.append(now)

    def is_time(self, guesses: GuessTree, now: float, *, is_drafting: bool) -> bool:
        """Whether guesses go up now: they will be there in time, and what is drafted next would not."""
        if not self._pass_s or self._may_be_awaited(guesses):
            return True
        upcoming = self._next_pass(now)
        if guesses.sent and (upcoming <= self._served or guesses.sent_chance < LEAST_SENT):
            return False
        return not is_drafting or self._next_pass(now + self._draft_s + _MARGIN_S) > upcoming

    def _may_be_awaited(self, guesses: GuessTree) -> bool:
        """Whether the cloud has no guess, and may be waiting for one."""
        return guesses.sent == 0 and self.round_trip_s + self._draft_s < WAIT_SHARE * self._pass_s

    def _took(self, seconds: float) -> None:
        off_s = abs(seconds - self._mean_s) if self._mean_s else 0.0
        self._mean_s += (seconds - self._mean_s) / (_MEMORY if self._mean_s else 1)
        self._off_s += (off_s - self._off_s) / _MEMORY
        self._pass_s = max(self._mean_s - _DEVIATIONS * self._off_s, self._mean_s / 8)

    def _next_pass(self, now: float) -> int:
        """Which pass what goes up now will be there for, counted like those received."""
        if not self._pass_s:
            return 0
        since_s = now - (self._opened_s if self._heard_s is None else self._heard_s)
        return self._passes + math.ceil((since_s + self.round_trip_s) / self._pass_s)
