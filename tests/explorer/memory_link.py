"""
Verify streams without gRPC: what a stub and a servicer see of one, with chance in every hop.

Messages keep their order each way; how late they arrive, and when a write returns, is chance.
Like gRPC, a stream takes one operation of a kind at a time, and a status that overtakes a write is lost; here
it is an error at once (`Misused`).
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any

import grpc

from thinwire.edge.cloud_link import CloudStream

Verify = Callable[[AsyncIterator[Any], Any], Coroutine[Any, Any, None]]
LONGEST_HOP_S = 0.02


class Misused(Exception):  # noqa: N818 - what gRPC answers with TOO_MANY_OPERATIONS
    """Two operations at once on one stream."""


class _Pipe:
    """One direction of one stream: in order, each message as late as chance has it; ends once."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._arrived: deque[Any] = deque()
        self._news = asyncio.Event()
        self._last_s = 0.0
        self.end: Any = None
        """What the reader gets at the end; set once."""

    def send(self, message: Any) -> None:
        self._later(lambda: self._arrived.append(message))

    def close(self, end: Any) -> None:
        self._later(lambda: self.cut(end))

    def cut(self, end: Any) -> None:
        """End now; what is still on its way is lost to the reader only if it had not arrived."""
        if self.end is None:
            self.end = end
        self._news.set()

    async def read(self) -> Any:
        """The next message; the end once there are no more."""
        while not self._arrived:
            if self.end is not None:
                return self.end
            self._news.clear()
            await self._news.wait()
        return self._arrived.popleft()

    def _later(self, action: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        hop_s = self._chance.choice((0.0, 0.0, self._chance.uniform(0.0, LONGEST_HOP_S)))
        self._last_s = max(self._last_s + 1e-9, loop.time() + hop_s)

        def arrive() -> None:
            if self.end is None:
                action()
                self._news.set()

        loop.call_at(self._last_s, arrive)


class MemoryContext:
    """
    What the servicer sees of a stream.

    Args:
        call: the other end.
        chance: says how late an operation returns.
        heard: messages that the peer takes; a write behind them never returns.
    """

    def __init__(self, call: MemoryCall, chance: random.Random, *, heard: int | None) -> None:
        self._call = call
        self._chance = chance
        self._heard = heard
        self._busy = False
        self.status: tuple[Any, str, Any] | None = None

    def peer(self) -> str:
        """Always the same."""
        return "ipv4:127.0.0.1:1"

    def invocation_metadata(self) -> tuple[Any, ...]:
        """None."""
        return ()

    async def send_initial_metadata(self, metadata: Any) -> None:
        """An operation like others."""
        await self._operation()

    async def write(self, response: Any) -> None:
        """The message is on its way at once; that it was taken is told as late as chance has it."""
        if self._call.is_over:
            raise grpc.aio.UsageError("the stream is over")
        if self._heard == 0:
            await self._call.gone.wait()
        if self._heard is not None:
            self._heard -= 1
        self._call.down.send(response)
        await self._operation()

    async def abort(self, code: Any, details: str, trailing_metadata: Any = ()) -> None:
        """End with a status."""
        if self._busy:
            raise Misused("a status beside a write")
        self.status = (code, details, trailing_metadata)
        raise grpc.aio.AbortError

    async def _operation(self) -> None:
        if self._busy:
            raise Misused("two writes at once")
        self._busy = True
        try:
            await dawdle(self._chance)
        finally:
            self._busy = False


class MemoryCall:
    """What a stub sees of a stream; the servicer's handler runs in a task of its own."""

    def __init__(self, verify: Verify, chance: random.Random, *, heard: int | None = None) -> None:
        self._chance = chance
        self.up, self.down = _Pipe(chance), _Pipe(chance)
        self._context = MemoryContext(self, chance, heard=heard)
        self.is_over = False
        self.gone = asyncio.Event()
        """Set once the servicer knows that nobody is there."""
        self.handler = asyncio.get_running_loop().create_task(self._handle(verify))
        self.misuse: BaseException | None = None

    async def write(self, request: Any) -> None:
        """Send up."""
        if self.down.end is not None or self.is_over:
            raise asyncio.InvalidStateError("the call is over")
        self.up.send(request)
        await dawdle(self._chance)

    async def done_writing(self) -> None:
        """Half-close."""
        self.up.close(grpc.aio.EOF)

    async def read(self) -> Any:
        """The next answer, or EOF; AioRpcError for a status that is none of OK."""
        answer = await self.down.read()
        if isinstance(answer, grpc.aio.AioRpcError):
            raise answer
        return answer

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (answer := await self.read()) is not grpc.aio.EOF:
            yield answer

    def cancel(self) -> bool:
        """The stub gives the stream up; the servicer is told as late as chance has it."""
        self.cut(cloud_notices_s=self._chance.choice((0.0, 0.01, 0.3)))
        return True

    def cut(self, *, cloud_notices_s: float) -> None:
        """The link breaks: this end notices now, the servicer later; what was on its way up still arrives."""
        if self.down.end is None:
            self.down.cut(_rpc_error(grpc.StatusCode.UNAVAILABLE, "the link was cut"))
        asyncio.get_running_loop().call_later(cloud_notices_s, self._cloud_notices)

    def _cloud_notices(self) -> None:
        self.is_over = True
        self.gone.set()
        self.up.cut(grpc.aio.EOF)
        self.handler.cancel()

    async def _requests(self) -> AsyncIterator[Any]:
        while (request := await self.up.read()) is not grpc.aio.EOF:
            yield request

    async def _handle(self, verify: Verify) -> None:
        end: Any = grpc.aio.EOF
        try:
            with suppress(grpc.aio.AbortError):
                await verify(self._requests(), self._context)
            if self._context.status is not None:
                end = _rpc_error(*self._context.status)
        except asyncio.CancelledError:
            end = _rpc_error(grpc.StatusCode.CANCELLED, "cancelled")
        except Misused as misuse:
            self.misuse = misuse
            end = _rpc_error(grpc.StatusCode.UNKNOWN, str(misuse))
        self.is_over = True
        self.down.close(end)


class MemoryLink:
    """
    An edge's link, as `edge.cloud_link.CloudLink`, to whichever cloud there is.

    Args:
        verify: the servicer's method as it is now; a restart changes it.
        chance: decides how late everything is.
    """

    def __init__(self, verify: Callable[[], Verify], chance: random.Random) -> None:
        self._verify = verify
        self._chance = chance
        self.calls: list[MemoryCall] = []

    async def connect(self) -> None:
        """The cloud is always there."""
        await dawdle(self._chance)

    def call(self, *, heard: int | None = None) -> MemoryCall:
        """A new stream, of which the edge takes all messages or the first ones."""
        self.calls.append(MemoryCall(self._verify(), self._chance, heard=heard))
        return self.calls[-1]

    def open_stream(self, receive: Any) -> CloudStream:
        """A new stream, as the edge sees it."""
        return CloudStream(self.call(), "memory", receive)


async def dawdle(chance: random.Random) -> None:
    """Let others go first: not at all, for some turns, or for some time."""
    match chance.randrange(4):
        case 0:
            return
        case 1 | 2:
            for _ in range(chance.randrange(1, 4)):
                await asyncio.sleep(0)
        case 3:
            await asyncio.sleep(chance.uniform(0.0, 3 * LONGEST_HOP_S))


def _rpc_error(code: Any, details: str, trailing_metadata: Any = ()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing_metadata), details)
