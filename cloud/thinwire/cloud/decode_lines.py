"""
Payloads that wait to be decoded, in one line a tenant; no thread, and the clock is passed in.

A decoding takes turns: a slice of time, and to the back of its tenant's line if it is not done by then.
So a long one spreads over many turns, and neither another tenant's nor its own tenant's short ones wait for
it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from thinwire.common.law.steps import Steps

SLICE_S = 0.0005
"""Seconds of one turn; a step that is under way is finished."""


class Decoding:
    """
    One payload's decoding.

    Args:
        tenant: whose it is.
        steps: the work, not yet begun.
        submitted_s: a reading of `perf_counter`; its wait counts from there.
    """

    def __init__(self, tenant: str, steps: Steps[Any], *, submitted_s: float) -> None:
        self.tenant = tenant
        self.submitted_s = submitted_s
        self._outcome: Any = None
        self.worked_s = 0.0
        self._steps = steps

    def advance(self, until_s: float, now: Callable[[], float]) -> bool:
        """
        Take steps, at least one, until `now()` reaches `until_s`.

        Returns:
            whether it is done.
        """
        begun_s = now()
        try:
            while True:
                next(self._steps)
                if now() >= until_s:
                    return False
        except StopIteration as end:
            self._outcome = end.value
        except Exception as error:  # whoever waits for it raises it again
            self._outcome = error
        finally:
            self.worked_s += now() - begun_s
        return True

    def take_outcome(self) -> Any:
        """
        Once it is done: what it returned, or the exception that it raised.

        Not kept: an exception leads to this object by its traceback, and would be freed with it only when the
        garbage collector comes.
        """
        outcome, self._outcome = self._outcome, None
        return outcome


class DecodeLines:
    """The lines; bounded by the number of sessions, each of which has one payload at most."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[Decoding]] = OrderedDict()
        """By tenant, in the order of their turns; none is empty."""

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def put(self, decoding: Decoding) -> None:
        """Stand in line, at the back."""
        self._lines.setdefault(decoding.tenant, deque()).append(decoding)

    def take(self) -> Decoding:
        """Whose turn it is; the tenant's next turn comes after all others'."""
        tenant, line = self._lines.popitem(last=False)
        decoding = line.popleft()
        if line:
            self._lines[tenant] = line
        return decoding

    def work(self, budget_s: float, now: Callable[[], float]) -> list[Decoding]:
        """
        Take turns for `budget_s`, and no longer than there is anything to decode.

        Returns:
            the decodings that came to their end.
        """
        done: list[Decoding] = []
        end_s = now() + budget_s
        while self._lines and (at_s := now()) < end_s:
            decoding = self.take()
            if decoding.advance(min(end_s, at_s + SLICE_S), now):
                done.append(decoding)
            else:
                self.put(decoding)
        return done
