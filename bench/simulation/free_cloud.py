"""The clock, and the target's thread with its queue, of a cloud that writes by itself in virtual time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from functools import partial

import numpy as np

from bench.simulation.scenario import FreeOutcome, FreeScenario
from thinwire.cloud.batch_queue import BatchQueue, PassWork
from thinwire.cloud.row_price import RowPrice


class VirtualCloud:
    """The clock, the cloud, and the count of what happens in the window."""

    def __init__(self, scenario: FreeScenario, since_s: float = 0.0) -> None:
        self.scenario = scenario
        self.outcome = FreeOutcome(since_s=since_s)
        self.now = 0.0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        passes = scenario.passes
        self._queue = BatchQueue(
            max_rounds=scenario.edges, max_sequences=passes.max_blocks, max_tokens=passes.max_rows
        )
        self._is_busy = False
        self.row_price = RowPrice()

    def at(self, at_s: float, job: Callable[[], None]) -> None:
        """Do it then; what is due together is done in the order asked for."""
        heapq.heappush(self._agenda, (max(self.now, at_s), next(self._number), job))

    def run(self, until_s: float) -> FreeOutcome:
        """Until nothing is due, or a time."""
        while self._agenda and self._agenda[0][0] <= until_s:
            self.now, _, job = heapq.heappop(self._agenda)
            job()
        self.outcome.until_s = min(until_s, self.now)
        return self.outcome

    @property
    def counts(self) -> bool:
        """Whether the window has begun."""
        return self.now >= self.outcome.since_s

    # --- the target's thread ------------------------------------------------------------------------------

    def put(self, work: PassWork) -> None:
        """In line for a pass."""
        self._queue.put(work)
        self._next_pass()

    def _next_pass(self) -> None:
        if not self._is_busy and len(self._queue):
            self._is_busy = True
            self.at(self.now + self.scenario.times.turn_s, self._begin)

    def _begin(self) -> None:
        batch = self._queue.take()
        requests = [work.begin() for work in batch]
        rows = sum(request.logit_rows for request in requests)
        fed = sum(len(request.token_ids) for request in requests)
        lasts_s = self.scenario.passes.seconds(rows=rows, blocks=len(batch))
        lasts_s += (fed - rows) * self.scenario.times.prompt_row_s
        self.at(self.now + lasts_s, partial(self._ended, batch, rows, lasts_s, fed > rows))

    def _ended(self, batch: list[PassWork], rows: int, lasts_s: float, has_prompt: bool) -> None:
        if self.counts:
            self.outcome.passes += 1
            self.outcome.rows += rows
            self.outcome.busy_s += lasts_s
        for work in batch:
            work.finish(np.empty(0))  # and stand in line for the next pass
        self.row_price.passed(None if has_prompt else rows, lasts_s)
        self._is_busy = False
        self._next_pass()
