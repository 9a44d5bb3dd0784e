"""Both daemons with table models on a loop in a thread of their own, for clients that block."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fakes import TableVocabulary, random_law
from loopback import WatchedModel, generate, loopback, make_request
from thinwire.edge.client import connect


@dataclass
class RunningEdge:
    """An edge, and the cloud's model behind it."""

    address: str
    target: WatchedModel
    loop: asyncio.AbstractEventLoop
    stopping: asyncio.Event

    def expected(self, prompt: str, **changes: Any) -> str:
        """The text that the command line's own client gets."""

        async def ask() -> str:
            async with connect(self.address) as client:
                return (await generate(client, make_request(prompt, **changes))).text

        return asyncio.run_coroutine_threadsafe(ask(), self.loop).result(30)

    def stop(self) -> None:
        """Have both daemons stop."""
        self.loop.call_soon_threadsafe(self.stopping.set)


@contextmanager
def running_edge(vocabulary_size: int, *, round_log: Any = None) -> Iterator[RunningEdge]:
    """A pair of table models whose texts end at max_tokens alone."""
    ready: list[RunningEdge] = []
    up = threading.Event()

    async def serve() -> None:
        target = WatchedModel(random_law(vocabulary_size, 1), context_length=8192)
        draft = WatchedModel(random_law(vocabulary_size, 2), context_length=8192)
        vocabulary = TableVocabulary(vocabulary_size)
        async with loopback(target, draft, vocabulary, round_log=round_log) as pair:
            stopping = asyncio.Event()
            ready.append(RunningEdge(pair.edge_address, target, asyncio.get_running_loop(), stopping))
            up.set()
            await stopping.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert up.wait(30), "the pair did not come up"
        yield ready[0]
    finally:
        if ready:
            with contextlib.suppress(RuntimeError):  # a test has stopped it already
                ready[0].stop()
        thread.join(30)
