"""
What goes down one stream: messages in the order they were put, and the end after them.

A stream has one writer, its own handler, and its end is part of the order: gRPC answers a status that
overtakes a write with TOO_MANY_OPERATIONS, and the peer never hears it.
Whoever puts does not wait for the peer; a peer that takes nothing for `write_timeout_s` loses its stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Any

import grpc

from thinwire.common.errors import DeadlineError, ThinwireError

MAX_WAITING = 8
"""Messages that may wait before `room` has whoever makes them wait; a text or a round is far below it."""


class Outbox:
    """The downlink of one RPC, which nobody else writes to or ends."""

    def __init__(self, context: Any, *, write_timeout_s: float) -> None:
        self._context = context
        self._write_timeout_s = write_timeout_s
        self._waiting: deque[Any] = deque()
        """Put and not yet taken by the peer."""
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[ThinwireError | None] = self._loop.create_future()
        self._stalled: asyncio.Future[None] = self._loop.create_future()
        """Done once the peer has taken nothing for too long."""

    @property
    def is_ending(self) -> bool:
        """Whether the end is decided; what is put from now on is dropped."""
        return self._end.done()

    def put(self, message: Any) -> None:
        """Have one message written after those before it."""
        if not self._end.done():
            self._waiting.append(message)
            self._changed.set()

    def end(self, error: ThinwireError | None = None) -> None:
        """End the stream after what was put, in good order or with an error's status; the first counts."""
        if not self._end.done():
            if error is not None:
                error.forget_origin()
            self._end.set_result(error)
            self._changed.set()

    async def ended(self, within_s: float | None = None) -> None:
        """Wait until the end is decided, or for `within_s`."""
        await asyncio.wait([self._end], timeout=within_s)

    async def room(self) -> None:
        """Wait until few messages wait, or the end is decided; no longer than the peer may take nothing."""
        while len(self._waiting) >= MAX_WAITING and not self._end.done():
            self._changed.clear()
            await self._changed.wait()

    async def write_all(self) -> None:
        """
        Write what is put until the end, or until the stream is gone; called once, by the stream's handler.

        Raises:
            ThinwireError: the end's error; the handler ends the RPC with it.
            DeadlineError: the peer took nothing for too long.
        """
        # Never cancelled: an operation of gRPC's cannot be undone, and a late one is left to it.
        writing = asyncio.create_task(self._write_each())
        # Whoever asked how it went may be gone.
        writing.add_done_callback(lambda task: None if task.cancelled() else task.exception())
        either: tuple[asyncio.Future[Any], ...] = (writing, self._stalled)
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.end()
            self._waiting.clear()
            self._changed.set()
        if not writing.done():
            raise DeadlineError(
                f"the peer took nothing for {self._write_timeout_s:g} s; expected it to read its stream."
            )
        refusal = self._end.result()
        if writing.result() and refusal is not None:
            raise refusal

    async def _write_each(self) -> bool:
        """Write until the end; whether somebody is there to be told how it ended."""
        try:
            # Alone and first: a status that comes while it is under way would be lost.
            await self._timed(self._context.send_initial_metadata(()))
            while self._waiting or not self._end.done():
                if self._waiting:
                    await self._timed(self._context.write(self._waiting[0]))
                    if self._waiting:  # not given up meanwhile
                        self._waiting.popleft()
                    self._changed.set()
                else:
                    self._changed.clear()
                    await self._changed.wait()
        except (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError):
            return False
        return True

    async def _timed(self, operation: Awaitable[Any]) -> None:
        """Wait for gRPC to take something; the stream is given up when that takes too long."""
        timer = self._loop.call_later(self._write_timeout_s, self._stalled.set_result, None)
        try:
            await operation
        finally:
            timer.cancel()
