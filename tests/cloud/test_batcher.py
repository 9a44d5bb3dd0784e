"""The model's thread and its queue: what shares a pass, whom a failure concerns, and the end."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from fakes import TableModel
from thinwire.cloud.batch_queue import SLICE_S, BatchQueue, Decoding, PassWork
from thinwire.cloud.batcher import DECODING_SHARE, MIN_DECODING_S, Batcher
from thinwire.common.causal_model import Extended, ExtendRequest
from thinwire.common.errors import ConfigError, SessionNotFoundError
from thinwire.common.law.steps import Steps
from verify_peer import TARGET


class BreakableModel(TableModel):
    """A table model that breaks down when told to, and whose passes wait for a gate."""

    def __init__(self) -> None:
        super().__init__(TARGET)
        self.gate = threading.Event()
        self.gate.set()
        self.breaks = False

    def extend_batch(self, requests: Sequence[ExtendRequest]) -> list[Extended]:
        """Behind the gate."""
        assert self.gate.wait(10), "nobody opened the gate"
        if self.breaks:
            raise ZeroDivisionError("the model broke down")
        return super().extend_batch(requests)


@asynccontextmanager
async def running(
    model: TableModel, *, now: Callable[[], float] = time.perf_counter, **bounds: int
) -> AsyncIterator[Batcher]:
    """A batcher; stopped at the end."""
    queue = BatchQueue(**{"max_rounds": 8, "max_sequences": 8, "max_tokens": 100, **bounds})
    with ThreadPoolExecutor(1) as executor:
        batcher = Batcher(model, executor, queue, now=now)
        yield batcher
        await batcher.stop()


def work(model: TableModel, number: int, *, fails: Exception | None = None) -> PassWork:
    """A round of two tokens; its outcome is the number of rows, or `fails` before the pass."""
    sequence = model.open_sequence()

    def begin() -> ExtendRequest:
        if fails is not None:
            raise fails
        return ExtendRequest(sequence, [1, 2], 2)

    return PassWork("a", number.to_bytes(4, "big"), 2, True, begin, len)


def dividing(dividend: int, divisor: int) -> Steps[int]:
    """A decoding of two steps; a division by 0 fails in the second."""
    yield
    return dividend // divisor


async def outcomes(*futures: asyncio.Future[Any]) -> list[Any]:
    """What each came to, errors included."""
    done = await asyncio.gather(*futures, return_exceptions=True)
    return [one if isinstance(one, BaseException) else one.outcome for one in done]


async def test_what_waits_when_a_pass_ends_shares_the_next_one() -> None:
    """The first goes alone, at once; the three that came meanwhile go together."""
    model = BreakableModel()
    async with running(model) as batcher:
        model.gate.clear()
        first = batcher.put(work(model, 0))
        await asyncio.sleep(0)
        others = [batcher.put(work(model, number)) for number in (1, 2, 3)]
        model.gate.set()
        rows = await outcomes(first, *others)

    assert rows == [2, 2, 2, 2]
    assert model.batches == [[2], [2, 2, 2]]
    assert batcher.passes == 2


async def test_rounds_decoded_together_are_in_the_pass_that_follows() -> None:
    """A decoding that fails is its own business."""
    model = BreakableModel()

    async def decode_and_put(batcher: Batcher, number: int) -> int:
        await batcher.decode(dividing(1, number), tenant="a", submitted_s=time.perf_counter(), is_short=False)
        return int((await batcher.put(work(model, number))).outcome)

    async with running(model) as batcher:
        done = await asyncio.gather(
            *(decode_and_put(batcher, number) for number in (1, 0, 2, 3)), return_exceptions=True
        )

    assert [type(one) for one in done] == [int, ZeroDivisionError, int, int]
    assert model.batches == [[2, 2, 2]]


async def test_work_that_fails_before_the_pass_is_not_in_it() -> None:
    """The others are."""
    model = BreakableModel()
    async with running(model) as batcher:
        model.gate.clear()
        first = batcher.put(work(model, 0))
        await asyncio.sleep(0)
        error = ConfigError("no.")
        others = [batcher.put(work(model, 1, fails=error)), batcher.put(work(model, 2))]
        model.gate.set()
        done = await outcomes(first, *others)

    assert done == [2, error, 2]
    assert model.batches == [[2], [2]]


async def test_a_model_that_breaks_down_fails_its_pass_and_serves_the_next() -> None:
    """Nobody's part of that pass is known to be good."""
    model = BreakableModel()
    async with running(model) as batcher:
        model.breaks = True
        broken = await outcomes(batcher.put(work(model, 0)))
        model.breaks = False
        whole = await outcomes(batcher.put(work(model, 0)))

    assert [type(one) for one in broken] == [ZeroDivisionError]
    assert whole == [2]


async def test_stopping_refuses_what_is_in_line_and_finishes_what_is_not() -> None:
    """The pass under way is done by then."""
    model = BreakableModel()
    async with running(model) as batcher:
        model.gate.clear()
        first = batcher.put(work(model, 0))
        await asyncio.sleep(0.05)
        second = batcher.put(work(model, 1))
        third = batcher.decode(dividing(1, 1), tenant="a", submitted_s=0.0, is_short=False)
        stopping = asyncio.ensure_future(batcher.stop())
        await asyncio.sleep(0)
        model.gate.set()
        await stopping
        done = await outcomes(first, second, third)

    assert done[0] == 2
    assert [type(one) for one in done[1:]] == [SessionNotFoundError] * 2


async def test_times_of_a_shared_pass() -> None:
    """Waiting and working are told apart: the second's work begins with the pass, not with its own turn."""
    model = BreakableModel()
    async with running(model) as batcher:
        model.gate.clear()
        first = batcher.put(work(model, 0))
        await asyncio.sleep(0)
        others = [batcher.put(work(model, number)) for number in (1, 2)]
        model.gate.set()
        done = await asyncio.gather(first, *others)

    assert all(one.queue_us >= 0 and one.work_us > 0 for one in done)
    assert done[1].work_us <= done[2].work_us


@pytest.mark.parametrize("count", [1, 20])
async def test_jobs_between_passes_are_done(count: int) -> None:
    """However many there are, before the thread ends."""
    done: list[int] = []
    async with running(BreakableModel()) as batcher:
        for number in range(count):
            batcher.between_passes(lambda number=number: done.append(number))  # type: ignore[misc]

    assert done == list(range(count))


class StepClock:
    """Time that goes by only as decodings take steps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now_s

    def steps(
        self, count: int, step_s: float, *, taken: list[str] | None = None, name: str = ""
    ) -> Steps[str]:
        """A decoding of `count` steps of equal length; each writes the name down."""
        for _ in range(count):
            self.now_s += step_s
            if taken is not None:
                taken.append(name)
            yield
        return name


async def test_a_round_waits_for_one_share_of_decoding_whatever_the_payload() -> None:
    """Between two passes a payload of half a second gets its budget, and goes on after the pass."""
    model = BreakableModel()
    clock = StepClock()
    async with running(model, now=clock) as batcher:
        model.gate.clear()
        first = batcher.put(work(model, 0))
        await asyncio.sleep(0)
        taken: list[str] = []
        long = batcher.decode(
            clock.steps(5000, 0.0001, taken=taken), tenant="hostile", submitted_s=0.0, is_short=False
        )
        model.gate.set()
        await first
        steps_at_pass = [len(taken)]
        for number in range(1, 6):
            await batcher.put(work(model, number))
            steps_at_pass.append(len(taken))
        assert not long.done()
        outcome = await long

    budget_steps = round(MIN_DECODING_S / 0.0001)
    between = [b - a for a, b in pairwise(steps_at_pass)]
    assert all(0 < steps <= budget_steps + 1 for steps in between), between
    assert outcome.work_us == 500_000


async def test_decoding_gets_a_share_of_a_long_pass() -> None:
    """After a pass of a second, a tenth of it, not more."""
    model = BreakableModel()
    clock = StepClock()
    async with running(model, now=clock) as batcher:
        taken: list[str] = []

        def slow(rows: Any) -> int:
            clock.now_s += 1.0
            return len(rows)

        long_pass = batcher.put(replace(work(model, 0), finish=slow))
        await asyncio.sleep(0)
        decoding = batcher.decode(
            clock.steps(5000, 0.001, taken=taken), tenant="b", submitted_s=0.0, is_short=False
        )
        following = batcher.put(work(model, 1))
        await long_pass
        await following
        steps = len(taken)
        await decoding

    assert 0.9 <= steps * 0.001 / DECODING_SHARE <= 1.1


async def test_a_decoding_takes_its_turn_beside_another_tenants() -> None:
    """Four long payloads of one tenant came first; the other's short one is done after one slice of them."""
    clock = StepClock()
    taken: list[str] = []
    async with running(BreakableModel(), now=clock) as batcher:
        long = [
            batcher.decode(
                clock.steps(1000, 0.0001, taken=taken, name="long"),
                tenant="hostile",
                submitted_s=0.0,
                is_short=False,
            )
            for _ in range(4)
        ]
        short = batcher.decode(
            clock.steps(3, 0.0001, taken=taken, name="short"), tenant="b", submitted_s=0.0, is_short=False
        )
        await short
        await asyncio.gather(*long)

    assert taken.index("short") == round(SLICE_S / 0.0001)
    assert taken[taken.index("short") :][:3] == ["short"] * 3


async def test_a_short_payload_is_decoded_at_once_and_a_long_one_that_says_so_is_not() -> None:
    """The event loop gives any payload one slice; what is left of it stands in line."""
    clock = StepClock()
    async with running(BreakableModel(), now=clock) as batcher:
        short = batcher.decode(clock.steps(3, 0.0001), tenant="a", submitted_s=0.0, is_short=True)
        assert short.done()
        long = batcher.decode(clock.steps(5000, 0.0001), tenant="a", submitted_s=0.0, is_short=True)
        assert not long.done()
        assert clock.now_s <= 0.0003 + SLICE_S + 0.0001
        await long


def test_an_exception_of_a_decoding_leads_back_to_nothing_that_keeps_it() -> None:
    """It is freed with its last reference, not when the garbage collector comes."""
    decoding = Decoding("a", dividing(1, 0))
    while not decoding.advance(0.0, time.perf_counter):
        pass
    error = decoding.take_outcome()
    kept = weakref.ref(decoding)
    del decoding
    gc.disable()
    try:
        assert isinstance(error, ZeroDivisionError)
        del error
        assert kept() is None
    finally:
        gc.enable()
