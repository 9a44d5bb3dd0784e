"""`thinwire.Client`: texts of one edge, for programs without an event loop and for notebooks."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import weakref
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import AbstractContextManager
from typing import Any, TypeVar, Unpack

from thinwire.common.errors import DeadlineError, TransportError
from thinwire.common.session.generation import EdgeStatus, GenerationEvent
from thinwire.edge.client import (
    AsyncClient,
    ClientOptions,
    GeneratedText,
    GenerationOptions,
    generation_request,
)
from thinwire.edge.settings import DEFAULT_EDGE

T = TypeVar("T")

_MARGIN_S = 30.0
"""Beyond the deadlines that the loop keeps itself: for a thread that is stuck, or gone after a fork."""


class _LoopThread:
    """
    An event loop in a thread of its own, so that it works beside one that is running already.

    Args:
        client: closed when the loop ends, which is at `stop`, when nobody holds this any more, or at exit.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._loop = asyncio.new_event_loop()
        stopping = asyncio.Event()
        thread = threading.Thread(
            target=_serve, args=(self._loop, stopping, client), name="thinwire-client", daemon=True
        )
        thread.start()
        self.stop = weakref.finalize(self, _stop, self._loop, stopping, thread)

    def check_open(self) -> None:
        """RuntimeError if the loop has ended."""
        if not self.stop.alive:
            raise RuntimeError("the client is closed; expected an open one.")

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Have the loop run it; RuntimeError if it has ended."""
        if not self.stop.alive:
            coroutine.close()
        self.check_open()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """
        What it returns or raises; an interrupt of the wait (Ctrl-C) cancels it.

        Raises:
            RuntimeError: as `submit`.
            TransportError: the client was closed meanwhile.
            DeadlineError: it took longer than `timeout_s` and the margin.
        """
        future = self.submit(coroutine)
        try:
            return future.result(timeout_s + _MARGIN_S)
        except concurrent.futures.CancelledError:
            raise TransportError("the client was closed before the text had ended.") from None
        except TimeoutError:
            raise DeadlineError(f"the client's thread did nothing for {timeout_s + _MARGIN_S:g} s.") from None
        finally:
            future.cancel()


def _serve(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event, client: AsyncClient) -> None:
    async def until_stopped() -> None:
        async with client:
            await stopping.wait()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(until_stopped())


def _stop(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(stopping.set)
    if thread is not threading.current_thread():  # where a collection of garbage may happen to run
        thread.join(_MARGIN_S)


class Generation(GeneratedText, AbstractContextManager["Generation"]):
    """
    One text, made while it is iterated; each piece is text that is final, and all pieces are `text`.

    Leaving the iteration early, or the `with`, cancels the text.
    """

    def __init__(
        self, events: AsyncGenerator[GenerationEvent, None], loop: _LoopThread, timeout_s: float
    ) -> None:
        super().__init__(events)
        self._loop = loop
        self._timeout_s = timeout_s

    def __iter__(self) -> Generator[str, None, None]:
        return self._once(self._iterate())

    def _iterate(self) -> Generator[str, None, None]:
        try:
            while (event := self._loop.call(_next(self._events), self._timeout_s)) is not None:
                for piece in self._take(event):
                    yield piece
                    self._loop.check_open()
        except GeneratorExit:
            if self._loop.stop.alive:
                self._loop.submit(_close(self._events))  # no wait: the garbage collector may come here

    def close(self) -> None:
        """Cancel the text, unless it has ended; in the thread that iterates."""
        if (pieces := self._iteration()) is not None:
            pieces.close()

    def __exit__(self, *_: object) -> None:
        self.close()


async def _next(events: AsyncGenerator[GenerationEvent, None]) -> GenerationEvent | None:
    return await anext(events, None)


async def _close(events: AsyncGenerator[GenerationEvent, None]) -> None:
    await events.aclose()


class Client(AbstractContextManager["Client"]):
    """
    An edge; connects with the first call, and serves any number of threads and texts at once.

    Use it as `with Client(...) as client:`, or call `close()`; one that is forgotten is closed with its last
    reference, or when the program ends.

    Args:
        address: HOST:PORT.
        options: `ClientOptions`.

    Raises:
        ConfigError: an option out of its range, or a file that is not what it should be.
    """

    def __init__(self, address: str = DEFAULT_EDGE, **options: Unpack[ClientOptions]) -> None:
        self._client = AsyncClient(address, **options)
        self._loop = _LoopThread(self._client)

    def generate(self, prompt: str, **options: Unpack[GenerationOptions]) -> Generation:
        """
        A text that continues the prompt; nothing is sent before it is iterated.

        Raises:
            ConfigError: a value out of its range; said here, where nothing was sent yet.
        """
        events = self._client.events(generation_request(prompt, **options))
        return Generation(events, self._loop, self._client.event_timeout_s)

    def complete(self, prompt: str, **options: Unpack[GenerationOptions]) -> Generation:
        """
        The same, once it is whole.

        Raises:
            ThinwireError: what ended it instead; `reason` and `status` say why.
        """
        generation = self.generate(prompt, **options)
        for _ in generation:
            pass
        return generation

    def status(self, *, timeout_s: float = 10.0) -> EdgeStatus:
        """
        What the edge and its cloud serve.

        Raises:
            ThinwireError: the edge does not answer, or refuses.
        """
        return self._loop.call(self._client.status(timeout_s=timeout_s), timeout_s)

    def close(self) -> None:
        """End every text that is being made, and the connection; a second call does nothing."""
        self._loop.stop()

    def __exit__(self, *_: object) -> None:
        self.close()
