"""Times of calls that take turns, so that whatever else the machine does meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from thinwire.common.causal_model import CachedSequence


def times_s(
    calls: Sequence[Callable[[], object]], turns: int, *, clock: Callable[[], float] = time.perf_counter
) -> list[list[float]]:
    """Seconds that each call took, turn by turn, by a clock that shows seconds."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(turns):
        for call, times in zip(calls, taken, strict=True):
            started_s = clock()
            call()
            times.append(clock() - started_s)
    return taken


def model_pass(sequence: CachedSequence, rows: int) -> None:
    """One cached pass of `rows` tokens, taken back."""
    length = sequence.length
    sequence.extend(range(300, 300 + rows), logit_rows=rows)
    sequence.truncate(length)
