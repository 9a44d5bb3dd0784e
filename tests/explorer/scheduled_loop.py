"""
An event loop on which chance decides at every await who goes on, and time passes when nobody can.

Everything that happens in a run follows from the seed: which ready callback is next, how late a write
returns, where a link is cut.
Ready callbacks run in any order here, and first come first served in asyncio: what holds here holds there.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class StuckError(Exception):
    """Somebody waits, and nothing will ever happen."""


class ScheduledLoop(asyncio.BaseEventLoop):
    """
    A loop without sockets, on simulated time.

    Args:
        chance: decides who goes on.
        in_order: run ready callbacks first come first served, as asyncio does.
        max_steps: callbacks run at most.
    """

    def __init__(self, chance: random.Random, *, in_order: bool = False, max_steps: int = 200_000) -> None:
        super().__init__()
        self._chance = chance
        self._in_order = in_order
        self._steps_left = max_steps
        self._now_s = 1000.0
        self.failures: list[str] = []
        """What tasks and callbacks raised that nobody asked for."""
        self.set_exception_handler(self._failed)

    def time(self) -> float:
        """Simulated monotonic seconds."""
        return self._now_s

    def _failed(self, loop: Any, context: dict[str, Any]) -> None:
        self.failures.append(f"{context['message']}: {context.get('exception')!r}")

    def _run_once(self) -> None:  # type: ignore[override]
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        while scheduled and scheduled[0].cancelled():
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]
        if not ready:
            if not scheduled:
                raise StuckError("somebody waits, and nothing will ever happen")
            self._now_s = max(self._now_s, scheduled[0].when())
        while scheduled and scheduled[0].when() <= self._now_s:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            ready.append(timer)
        self._steps_left -= 1
        if self._steps_left < 0:
            raise StuckError("the schedule does not come to an end")
        if not self._in_order and len(ready) > 1:
            ready.rotate(-self._chance.randrange(len(ready)))
        handle = ready.popleft()
        if not handle.cancelled():
            handle._run()

    def _write_to_self(self) -> None:
        """There is no other thread to wake the loop from."""

    def _process_events(self, event_list: Any) -> None:
        """There are no sockets."""


class OneThread(Executor):
    """
    A model's one thread: jobs in the order they were submitted, one at a time, each as long as chance has it.

    Args:
        loop: in whose simulated time.
        chance: says how long a job takes; its result is there at its end.
        longest_s: a job takes at most this.
    """

    def __init__(self, loop: ScheduledLoop, chance: random.Random, *, longest_s: float = 0.03) -> None:
        self._loop = loop
        self._chance = chance
        self._longest_s = longest_s
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Put a job in line."""
        future: Future[Any] = Future()
        self._jobs.append((future, lambda: function(*args, **kwargs)))
        if len(self._jobs) == 1:
            self._begin()
        return future

    def _begin(self) -> None:
        if self._chance.random() < 0.5:
            self._loop.call_soon(self._work)
        else:
            self._loop.call_later(self._chance.uniform(0.0, self._longest_s), self._work)

    def _work(self) -> None:
        future, job = self._jobs[0]
        if future.set_running_or_notify_cancel():
            try:
                result = job()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
        self._jobs.popleft()
        if self._jobs:
            self._begin()
