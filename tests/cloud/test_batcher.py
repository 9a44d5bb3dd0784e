"""The model's thread and its queue: what shares a pass, whom a failure concerns, and the end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fakes import TableModel
from verify_peer import TARGET

from cloud.batch_queue import BatchQueue, Item, PassWork
from cloud.batcher import Batcher
from common.causal_model import Extended, ExtendRequest
from common.errors import ConfigError, SessionNotFoundError


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
async def running(model: TableModel, **bounds: int) -> AsyncIterator[Batcher]:
    """A batcher; stopped at the end."""
    queue = BatchQueue(**{"max_rounds": 8, "max_sequences": 8, "max_tokens": 100, **bounds})
    with ThreadPoolExecutor(1) as executor:
        batcher = Batcher(model, executor, queue)
        yield batcher
        await batcher.stop()


def work(model: TableModel, number: int, *, fails: Exception | None = None) -> Item:
    """A round of two tokens; its outcome is the number of rows, or `fails` before the pass."""
    sequence = model.open_sequence()

    def begin() -> ExtendRequest:
        if fails is not None:
            raise fails
        return ExtendRequest(sequence, [1, 2], 2)

    return Item("a", number.to_bytes(4, "big"), PassWork(2, True, begin, len))


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
        await batcher.decode(lambda: 1 // number, submitted_s=time.perf_counter())
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
        third = batcher.decode(lambda: None, submitted_s=0.0)
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
