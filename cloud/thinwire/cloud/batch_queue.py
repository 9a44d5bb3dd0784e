"""
The lines in front of the target model's thread, and whose turn it is; no thread, and the clock is passed in.

Rounds and pieces of prompts wait in one line a tenant.
A pass takes from the lines in turn, first come first served within a line, up to so many sequences and so
many tokens; it takes what is there and never waits for more.
A tenant whose next piece of work no longer fits keeps its turn and begins the next pass, so nothing is
overtaken for ever.
A session has at most one piece of work in line; a long prompt comes in pieces, each after what came
meanwhile.

Payloads wait to be decoded in lines of their own.
A decoding takes turns: a slice of time, and to the back of its tenant's line if it is not done by then.
So a long one spreads over many turns, and neither another tenant's nor its own tenant's short ones wait for
it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy.typing as npt

from thinwire.common.causal_model import ExtendRequest
from thinwire.common.errors import LocalProtocolError, ResourceExhaustedError
from thinwire.common.law.steps import Steps

PREFILL_CHUNK_TOKENS = 256
"""A prompt is fed in pieces of this size, so that other sessions' rounds come in between."""
SLICE_S = 0.0005
"""Seconds of one turn; a step that is under way is finished."""


class Done(NamedTuple):
    """What came of a piece of work."""

    outcome: Any
    queue_us: int
    """Microseconds from its submission to the beginning of its turn in the model's thread."""
    work_us: int
    """Microseconds of that turn: of a pass, from the pass's beginning to this session's outcome."""


@dataclass(frozen=True, slots=True)
class PassWork:
    """What one session does in one target pass; both functions run in the model's thread."""

    tenant: str
    session: bytes
    """Its id."""
    tokens: int
    """That the pass is fed for it."""
    is_round: bool
    """A round to verify; otherwise a piece of a prompt."""
    begin: Callable[[], ExtendRequest]
    """Called before the pass; a ThinwireError takes the session out of it."""
    finish: Callable[[npt.NDArray[Any]], Any]
    """Called with the rows that `begin` asked for; what it returns or raises is the work's outcome."""
    tokens_now: Callable[[], int] | None = None
    """Where it is not settled before `begin`: about how many of `tokens` it would be fed now."""

    @property
    def size(self) -> int:
        """Tokens that it takes of a pass, as far as is known by now."""
        return self.tokens if self.tokens_now is None else self.tokens_now()


class BatchQueue:
    """
    Args:
        max_rounds: rounds in line at once; a round more is refused. Pieces of prompts are bounded by the
            number of sessions.
        max_sequences: sessions a pass.
        max_tokens: tokens a pass, but for a single piece of work that has more.
    """

    def __init__(self, *, max_rounds: int, max_sequences: int, max_tokens: int) -> None:
        self._max_rounds = max_rounds
        self._max_sequences = max_sequences
        self._max_tokens = max_tokens
        self._lines: OrderedDict[str, deque[PassWork]] = OrderedDict()
        """By tenant, in the order of their turns; none is empty."""
        self._sessions: set[bytes] = set()
        self._rounds = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def put(self, item: PassWork) -> None:
        """Stand in line; ResourceExhaustedError if too many rounds do."""
        if item.session in self._sessions:
            raise LocalProtocolError(f"session {item.session.hex()[:8]} is in line twice.")
        if item.is_round:
            if self._rounds >= self._max_rounds:
                raise ResourceExhaustedError(
                    f"{self._rounds} rounds wait for the target model; expected fewer than "
                    f"{self._max_rounds}."
                )
            self._rounds += 1
        self._sessions.add(item.session)
        self._lines.setdefault(item.tenant, deque()).append(item)

    def take(self) -> list[PassWork]:
        """The next pass; empty if nothing waits."""
        batch: list[PassWork] = []
        tokens = 0
        turns = deque(self._lines)
        while turns and len(batch) < self._max_sequences:
            tenant = turns.popleft()
            line = self._lines[tenant]
            size = line[0].size
            if batch and tokens + size > self._max_tokens:
                continue
            item = line.popleft()
            batch.append(item)
            tokens += size
            self._sessions.discard(item.session)
            self._rounds -= item.is_round
            if line:
                self._lines.move_to_end(tenant)
                turns.append(tenant)
            else:
                del self._lines[tenant]
        return batch


class Decoding:
    """One payload's decoding, not yet begun."""

    def __init__(self, tenant: str, steps: Steps[Any]) -> None:
        self.tenant = tenant
        self._outcome: Any = None
        self.worked_s = 0.0
        self._steps = steps

    def advance(self, until_s: float, now: Callable[[], float]) -> bool:
        """Take steps, at least one, until `now()` reaches `until_s`; returns whether it is done."""
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

    def put(self, decoding: Decoding) -> None:
        self._lines.setdefault(decoding.tenant, deque()).append(decoding)

    def work(self, budget_s: float, now: Callable[[], float]) -> list[Decoding]:
        """Take turns for `budget_s` at most; returns the decodings that came to their end."""
        done: list[Decoding] = []
        end_s = now() + budget_s
        while self._lines and (at_s := now()) < end_s:
            tenant, line = self._lines.popitem(last=False)
            decoding = line.popleft()
            if line:
                self._lines[tenant] = line
            if decoding.advance(min(end_s, at_s + SLICE_S), now):
                done.append(decoding)
            else:
                self.put(decoding)
        return done
