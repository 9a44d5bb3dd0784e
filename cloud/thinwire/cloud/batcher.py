"""
The target model's thread and its queue: many sessions, one pass.

As soon as one pass is done the next is made of what is in line (`cloud.batch_queue`); nothing waits for a
pass to fill.
Payloads that came meanwhile are decoded between two passes, tenants in turn, for a small share of the time
that the passes take: a short one's round can be part of the next pass, a long one is spread over many, and no
tenant's rounds wait for more than that share.
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

from thinwire.cloud.batch_queue import SLICE_S, BatchQueue, DecodeLines, Decoding, PassWork
from thinwire.common.causal_model import CausalModel, Extended, ExtendRequest
from thinwire.common.errors import SessionNotFoundError
from thinwire.common.law.steps import Steps

DECODING_SHARE = 0.05
"""Share of the last pass's time for decoding before the next one; rounds may take so much longer."""
MIN_DECODING_S = 0.0005
"""Decoding gets so much between two passes, however short they are."""
_LOOP_TURNS = 4
"""
The event loop's after each share of decoding: a message that came meanwhile is read, and the rounds just
decoded are put in line, before decoding takes the interpreter's lock again.
"""


class Done(NamedTuple):
    outcome: Any
    queue_us: int
    """Microseconds from its submission to the beginning of its turn in the model's thread."""
    work_us: int
    """Microseconds of that turn: of a pass, from the pass's beginning to this session's outcome."""


@dataclass(frozen=True, slots=True)
class _Ticket:
    submitted_s: float
    """A reading of `perf_counter`."""
    future: asyncio.Future[Done]

    def settle(self, outcome: Any, begun_s: float, ended_s: float) -> None:
        if self.future.done():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            queue_us = round((begun_s - self.submitted_s) * 1e6)
            self.future.set_result(Done(outcome, queue_us, round((ended_s - begun_s) * 1e6)))


class Batcher:
    """
    The model's thread, `executor`, with the queue of its work.

    `now` measures work and cuts decoding into slices.
    """

    def __init__(
        self,
        model: CausalModel,
        executor: Executor,
        queue: BatchQueue,
        *,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model = model
        self._executor = executor
        self._queue = queue
        self._loop = asyncio.get_running_loop()
        self._now = now
        self._arrived: list[Decoding] = []
        self._decode_lines = DecodeLines()
        """The model's thread's while it decodes, otherwise the event loop's."""
        self._decode_tickets: dict[Decoding, _Ticket] = {}
        self._pass_s = 0.0
        self._tickets: dict[bytes, _Ticket] = {}
        """Tickets of the work in line, by session."""
        self._running: asyncio.Task[None] | None = None
        self._stopped = False
        self.passes = 0

    def decode(
        self, steps: Steps[Any], *, tenant: str, submitted_s: float, is_short: bool
    ) -> asyncio.Future[Done]:
        """
        Have a payload decoded; its outcome comes with the future.

        Args:
            submitted_s: a reading of `now`; the wait counts from there.
            is_short: it is begun here and now, which takes less time than to wake another thread; only what
                is left after a slice stands in line.
        """
        decoding = Decoding(tenant, steps)
        ticket = _Ticket(submitted_s, self._loop.create_future())
        if is_short and decoding.advance(self._now() + SLICE_S, self._now):
            self._tell(decoding, ticket)
        else:
            self._decode_tickets[decoding] = ticket
            self._arrived.append(decoding)
            self._run()
        return ticket.future

    def put(self, item: PassWork) -> asyncio.Future[Done]:
        """
        Have work done in one of the next passes; its outcome comes with the future.

        ResourceExhaustedError if too many rounds are in line.
        """
        self._queue.put(item)
        ticket = _Ticket(self._now(), self._loop.create_future())
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
        passed = True
        while self._decode_tickets or len(self._queue):
            if self._stopped:
                self._refuse_all()
            elif self._decode_tickets and (passed or not len(self._queue)):
                passed = False
                await self._decode_some()
                for _ in range(_LOOP_TURNS):
                    await asyncio.sleep(0)
            else:
                passed = True
                batch = [(item, self._tickets.pop(item.session)) for item in self._queue.take()]
                self.passes += 1  # before anybody hears of its outcome
                await self._loop.run_in_executor(self._executor, self._pass, batch)

    async def _decode_some(self) -> None:
        """What there is to decode, for no longer than a round that comes meanwhile may wait."""
        for decoding in self._arrived:
            self._decode_lines.put(decoding)
        self._arrived = []
        budget_s = max(MIN_DECODING_S, DECODING_SHARE * self._pass_s)
        work = partial(self._decode_lines.work, budget_s, self._now)
        for decoding in await self._loop.run_in_executor(self._executor, work):
            self._tell(decoding, self._decode_tickets.pop(decoding))

    def _tell(self, decoding: Decoding, ticket: _Ticket) -> None:
        now_s = self._now()
        ticket.settle(decoding.take_outcome(), now_s - decoding.worked_s, now_s)

    def _refuse_all(self) -> None:
        waiting = [*self._decode_tickets.values()]
        self._decode_tickets = {}
        self._arrived, self._decode_lines = [], DecodeLines()
        while batch := self._queue.take():
            waiting += [self._tickets.pop(item.session) for item in batch]
        for ticket in waiting:
            ticket.settle(SessionNotFoundError("the cloud stops; expected a live session."), 0.0, 0.0)

    # --- in the model's thread ----------------------------------------------------------------------------

    def _pass(self, batch: list[tuple[PassWork, _Ticket]]) -> None:
        begun_s = self._now()
        ready: list[tuple[PassWork, _Ticket]] = []
        requests: list[ExtendRequest] = []
        for item, ticket in batch:
            request = _outcome(item.begin)
            if isinstance(request, ExtendRequest):
                ready.append((item, ticket))
                requests.append(request)
            else:
                self._settle(ticket, request, begun_s)
        for (item, ticket), rows in zip(ready, self._extended(requests), strict=True):
            outcome = rows if isinstance(rows, Exception) else _outcome(partial(item.finish, rows))
            self._settle(ticket, outcome, begun_s)
        self._pass_s = self._now() - begun_s

    def _extended(self, requests: list[ExtendRequest]) -> list[Extended] | list[Exception]:
        try:
            answers = self._model.extend_batch(requests) if requests else []
            assert len(answers) == len(requests), "an answer a request"
            return answers
        except Exception as error:  # the model broke down, and nobody's part is known to be good
            return [error for _ in requests]

    def _settle(self, ticket: _Ticket, outcome: Any, begun_s: float) -> None:
        self._loop.call_soon_threadsafe(ticket.settle, outcome, begun_s, self._now())


def _outcome(job: Callable[[], Any]) -> Any:
    try:
        return job()
    except Exception as error:  # whoever waits for the job raises it again
        return error
