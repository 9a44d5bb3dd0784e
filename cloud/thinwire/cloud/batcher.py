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
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

from thinwire.cloud.batch_queue import SLICE_S, BatchQueue, DecodeLines, Decoding, Done, PassWork
from thinwire.cloud.row_price import RowPrice
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


@dataclass(frozen=True, slots=True)
class _Ticket:
    submitted_s: float
    """A reading of `perf_counter`."""
    future: asyncio.Future[Done]

    def done(self, outcome: Any, begun_s: float, ended_s: float) -> Done:
        queue_us = round((begun_s - self.submitted_s) * 1e6)
        return Done(outcome, queue_us, round((ended_s - begun_s) * 1e6))

    def settle(self, outcome: Done | Exception) -> None:
        if self.future.done():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


_Member = tuple[PassWork, _Ticket]
_log = logging.getLogger(__name__)


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
        self.row_price = RowPrice()
        self._tickets: dict[bytes, _Ticket] = {}
        """Tickets of the work in line, by session."""
        self._was_pass = True
        """Whether a pass came last; after one, what is to be decoded goes first."""
        self._is_free = asyncio.Event()
        """Set while the model's thread has nothing of ours, and nothing is about to be given to it."""
        self._is_free.set()
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
        await self._is_free.wait()

    def _run(self) -> None:
        if self._is_free.is_set():
            self._is_free.clear()
            self._loop.call_soon(self._begin_next)  # so that what else comes in this turn is part of it

    def _begin_next(self) -> None:
        """Give the model's thread, which is free, what is next in line."""
        if self._stopped:
            self._refuse_all()
        if self._decode_tickets and (self._was_pass or not len(self._queue)):
            self._was_pass = False
            for decoding in self._arrived:
                self._decode_lines.put(decoding)
            self._arrived = []
            self._executor.submit(self._decode_some)
        elif len(self._queue):
            self._was_pass = True
            batch = [(item, self._tickets.pop(item.session)) for item in self._queue.take()]
            self.passes += 1  # before anybody hears of its outcome
            self._executor.submit(self._pass, batch)
        else:
            self._is_free.set()

    def _begin_after(self, turns: int) -> None:
        """`_begin_next` after whoever was told something has put what follows in line, each turn a round."""
        if turns:
            self._loop.call_soon(self._begin_after, turns - 1)
        else:
            self._begin_next()

    def _passed(self, told: list[tuple[_Ticket, Done | Exception]]) -> None:
        """The pass is over; the next begins when those who were told have put in line what follows."""
        for ticket, outcome in told:
            ticket.settle(outcome)
        self._loop.call_soon(self._begin_next)

    def _decoded(self, done: list[Decoding]) -> None:
        for decoding in done:
            self._tell(decoding, self._decode_tickets.pop(decoding))
        self._begin_after(_LOOP_TURNS)

    def _tell(self, decoding: Decoding, ticket: _Ticket) -> None:
        now_s, outcome = self._now(), decoding.take_outcome()
        if not isinstance(outcome, Exception):
            outcome = ticket.done(outcome, now_s - decoding.worked_s, now_s)
        ticket.settle(outcome)

    def _refuse_all(self) -> None:
        waiting = [*self._decode_tickets.values()]
        self._decode_tickets = {}
        self._arrived, self._decode_lines = [], DecodeLines()
        while batch := self._queue.take():
            waiting += [self._tickets.pop(item.session) for item in batch]
        for ticket in waiting:
            ticket.settle(SessionNotFoundError("the cloud stops; expected a live session."))

    # --- in the model's thread ----------------------------------------------------------------------------

    def _decode_some(self) -> None:
        """What there is to decode, for no longer than a round that comes meanwhile may wait."""
        budget_s = max(MIN_DECODING_S, DECODING_SHARE * self._pass_s)
        done: list[Decoding] = []
        try:
            done = self._decode_lines.work(budget_s, self._now)
        finally:
            self._loop.call_soon_threadsafe(self._decoded, done)

    def _pass(self, batch: list[_Member]) -> None:
        """
        One pass; each outcome is told as soon as it is known, and then that the pass is over.

        Of work that is alone both are told at once.
        """
        untold: list[tuple[_Ticket, Done | Exception]] = []
        try:
            for ticket, outcome in self._outcomes(batch):
                if len(batch) == 1:
                    untold.append((ticket, outcome))
                else:
                    self._loop.call_soon_threadsafe(ticket.settle, outcome)
        except Exception:
            _log.exception("the target's thread: a pass was not told to its end")
        finally:
            self._loop.call_soon_threadsafe(self._passed, untold)

    def _outcomes(self, batch: list[_Member]) -> Iterator[tuple[_Ticket, Done | Exception]]:
        """What a pass comes to for each."""
        begun_s = self._now()
        ready: list[_Member] = []
        requests: list[ExtendRequest] = []
        for item, ticket in batch:
            request = _outcome(item.begin)
            if isinstance(request, ExtendRequest):
                ready.append((item, ticket))
                requests.append(request)
            else:
                yield ticket, request
        answers = self._extended(requests)
        for (item, ticket), rows in zip(ready, answers, strict=True):
            outcome = rows if isinstance(rows, Exception) else _outcome(partial(item.finish, rows))
            if not isinstance(outcome, Exception):
                outcome = ticket.done(outcome, begun_s, self._now())
            yield ticket, outcome
        self._pass_s = self._now() - begun_s
        if requests:
            has_prompt = any(len(request.token_ids) != request.logit_rows for request in requests)
            fed = sum(len(request.token_ids) for request in requests)
            self.row_price.passed(None if has_prompt else fed, self._pass_s)

    def _extended(self, requests: list[ExtendRequest]) -> list[Extended] | list[Exception]:
        try:
            answers = self._model.extend_batch(requests) if requests else []
            assert len(answers) == len(requests), "an answer a request"
            return answers
        except Exception as error:  # the model broke down, and nobody's part is known to be good
            return [error for _ in requests]


def _outcome(job: Callable[[], Any]) -> Any:
    try:
        return job()
    except Exception as error:  # whoever waits for the job raises it again
        return error
