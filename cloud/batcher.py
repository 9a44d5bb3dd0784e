"""
The target model's thread and its queue: many sessions, one pass.

As soon as one pass is done the next is made of what is in line (`cloud.batch_queue`); nothing waits for a
pass to fill.
Payloads that came meanwhile are decoded first, all in one go, so that their rounds can be part of the pass.
Decoding, acceptance tests and draws are done session by session, in the model's thread, around the pass that
is shared: what one of them raises ends its own work and no other's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from cloud.batch_queue import BatchQueue, Item
from common.causal_model import CausalModel, Extended, ExtendRequest
from common.errors import SessionNotFoundError


class Done(NamedTuple):
    """A piece of work that went well."""

    outcome: Any
    queue_us: int
    """Microseconds from its submission to the beginning of its turn in the model's thread."""
    work_us: int
    """Microseconds of that turn: of a pass, from the pass's beginning to this session's outcome."""


@dataclass(frozen=True, slots=True)
class _Ticket:
    """A piece of work on its way."""

    submitted_s: float
    """A reading of `perf_counter`."""
    future: asyncio.Future[Done]

    def settle(self, outcome: Any, begun_s: float, ended_s: float) -> None:
        """Tell whoever waits; an exception is raised there."""
        if self.future.done():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            queue_us = round((begun_s - self.submitted_s) * 1e6)
            self.future.set_result(Done(outcome, queue_us, round((ended_s - begun_s) * 1e6)))


class Batcher:
    """
    Args:
        model: the target model.
        executor: its one thread.
        queue: empty.
    """

    def __init__(self, model: CausalModel, executor: Executor, queue: BatchQueue) -> None:
        self._model = model
        self._executor = executor
        self._queue = queue
        self._loop = asyncio.get_running_loop()
        self._decodings: list[tuple[_Ticket, Callable[[], Any]]] = []
        self._tickets: dict[bytes, _Ticket] = {}
        """Of the work in line, by session."""
        self._running: asyncio.Task[None] | None = None
        self._stopped = False
        self.passes = 0
        """Target passes begun."""

    def decode(self, job: Callable[[], Any], *, submitted_s: float) -> asyncio.Future[Done]:
        """
        Do `job` in the model's thread before the next pass; its outcome comes with the future.

        Args:
            job: short, since every session waits for it.
            submitted_s: a reading of `perf_counter`; the job's wait counts from there.
        """
        ticket = _Ticket(submitted_s, self._loop.create_future())
        self._decodings.append((ticket, job))
        self._run()
        return ticket.future

    def put(self, item: Item) -> asyncio.Future[Done]:
        """
        Have work done in one of the next passes; its outcome comes with the future.

        Raises:
            ResourceExhaustedError: too many rounds are in line.
        """
        self._queue.put(item)
        ticket = _Ticket(time.perf_counter(), self._loop.create_future())
        self._tickets[item.session] = ticket
        self._run()
        return ticket.future

    def between_passes(self, job: Callable[[], None]) -> None:
        """Do `job` in the model's thread; nobody waits for it."""
        self._executor.submit(job)

    async def stop(self) -> None:
        """Refuse what is in line; returns when the pass in progress, if there is one, is done."""
        self._stopped = True
        if self._running is not None:
            await asyncio.wait([self._running])

    def _run(self) -> None:
        if self._running is None or self._running.done():
            self._running = self._loop.create_task(self._work_off())

    async def _work_off(self) -> None:
        """Pass after pass until nothing is in line."""
        while self._decodings or len(self._queue):
            if self._stopped:
                self._refuse_all()
            elif self._decodings:
                jobs, self._decodings = self._decodings, []
                await self._loop.run_in_executor(self._executor, self._decode_all, jobs)
                await asyncio.sleep(0)  # the sessions put the rounds just decoded in line
            else:
                batch = [(item, self._tickets.pop(item.session)) for item in self._queue.take()]
                self.passes += 1  # before anybody hears of its outcome
                await self._loop.run_in_executor(self._executor, self._pass, batch)

    def _refuse_all(self) -> None:
        waiting = [ticket for ticket, _ in self._decodings]
        self._decodings = []
        while batch := self._queue.take():
            waiting += [self._tickets.pop(item.session) for item in batch]
        for ticket in waiting:
            ticket.settle(SessionNotFoundError("the cloud stops; expected a live session."), 0.0, 0.0)

    # --- in the model's thread ----------------------------------------------------------------------------

    def _decode_all(self, jobs: list[tuple[_Ticket, Callable[[], Any]]]) -> None:
        for ticket, job in jobs:
            begun_s = time.perf_counter()
            self._settle(ticket, _outcome(job), begun_s)

    def _pass(self, batch: list[tuple[Item, _Ticket]]) -> None:
        begun_s = time.perf_counter()
        ready: list[tuple[Item, _Ticket]] = []
        requests: list[ExtendRequest] = []
        for item, ticket in batch:
            request = _outcome(item.work.begin)
            if isinstance(request, ExtendRequest):
                ready.append((item, ticket))
                requests.append(request)
            else:
                self._settle(ticket, request, begun_s)
        for (item, ticket), rows in zip(ready, self._extended(requests), strict=True):
            outcome = rows if isinstance(rows, Exception) else _outcome(partial(item.work.finish, rows))
            self._settle(ticket, outcome, begun_s)

    def _extended(self, requests: list[ExtendRequest]) -> list[Extended] | list[Exception]:
        if not requests:
            return []
        try:
            answers = self._model.extend_batch(requests)
            assert len(answers) == len(requests), "an answer a request"
            return answers
        except Exception as error:  # the model broke down, and nobody's part is known to be good
            return [error for _ in requests]

    def _settle(self, ticket: _Ticket, outcome: Any, begun_s: float) -> None:
        self._loop.call_soon_threadsafe(ticket.settle, outcome, begun_s, time.perf_counter())


def done_at_once(job: Callable[[], Any]) -> Done:
    """Do `job` here and now; what it raises is raised."""
    begun_s = time.perf_counter()
    outcome = job()
    return Done(outcome, 0, round((time.perf_counter() - begun_s) * 1e6))


def _outcome(job: Callable[[], Any]) -> Any:
    """What `job` returns, or the exception it raises."""
    try:
        return job()
    except Exception as error:  # whoever waits for the job raises it again
        return error
