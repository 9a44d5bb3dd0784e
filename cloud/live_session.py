"""
One session in service: the sans-IO core, its streams, its timer and its work in the model's thread.

Every event is stepped through the core and the effects are performed in the order given.
The work survives the stream that asked for it: a verdict reached after the stream tore is kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import grpc

from cloud.events import (
    ArmTimer,
    Attached,
    CloudEffect,
    CloudEvent,
    Decode,
    Decoded,
    Prefill,
    Refuse,
    Release,
    Reply,
    ReplyClosed,
    Score,
    Scored,
    TimerFired,
    TruncateCache,
    WorkFailed,
)
from cloud.session import CloudSession
from cloud.verifier import PREFILL_CHUNK_TOKENS, Verifier
from common import wire
from common.errors import ThinwireError
from common.messages import DraftBlock

_log = logging.getLogger(__name__)
_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


class _Timing(NamedTuple):
    """Microseconds that one piece of work waited for the model's thread and took in it."""

    queue_us: int
    work_us: int


class SessionStream:
    """One Verify stream of a session; `ended` holds the error that ends it, None for a good end."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._writing = asyncio.Lock()
        self.ended: asyncio.Future[ThinwireError | None] = asyncio.get_running_loop().create_future()

    async def write(self, response: Any) -> None:
        """Write unless the stream is gone; whoever reads it notices that."""
        async with self._writing:
            with suppress(grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError):
                await self._context.write(response)

    def end(self, error: ThinwireError | None) -> None:
        """Have the stream's handler end it."""
        if not self.ended.done():
            self.ended.set_result(error)


class LiveSession:
    """
    One session in service.

    Args:
        session: the core.
        verifier: its work in the model's thread.
        executor: that thread.
        on_release: called once, when the session is over, with the reason (`ErrorInfo.reason`, or "CLOSED").
    """

    def __init__(
        self,
        session: CloudSession,
        verifier: Verifier,
        *,
        executor: Executor,
        on_release: Callable[[CloudSession, str], None],
    ) -> None:
        self.session = session
        self.reader = wire.CloudStreamReader()
        self._verifier = verifier
        self._executor = executor
        self._on_release = on_release
        self._loop = asyncio.get_running_loop()
        self._streams: dict[int, SessionStream] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # A round may arrive while the prompt is being fed: one piece of work at a time, as asked for.
        self._working = asyncio.Lock()
        self._decoding = _Timing(0, 0)
        self._reason = "CLOSED"

    def attach(self, stream: SessionStream) -> int:
        """Give the session to a stream; returns its epoch, the one after the session's own."""
        epoch = self.session.epoch + 1
        self._streams[epoch] = stream
        self.handle(Attached(epoch))
        return epoch

    def handle(self, event: CloudEvent) -> asyncio.Task[None]:
        """
        Take one event.

        Returns:
            the effects in the making; they go on whatever becomes of the stream that brought the event.
        """
        # The step itself is done at once, so that events keep their order; only the effects run in the task.
        task = self._loop.create_task(self._perform_all(self._step(event)))
        self._tasks.add(task)
        task.add_done_callback(self._performed)
        return task

    def expire(self) -> asyncio.Task[None]:
        """End the session now, as if its timer had fired."""
        return self.handle(TimerFired())

    def detach(self, epoch: int) -> None:
        """Forget a stream that is gone."""
        self._streams.pop(epoch, None)

    def _step(self, event: CloudEvent) -> list[CloudEffect]:
        """Take one event; timers are set at once, or one behind a slow write would undo a later event's."""
        others: list[CloudEffect] = []
        for effect in self.session.step(event, self._loop.time()):
            if isinstance(effect, ArmTimer):
                self._arm(effect.at_s)
            else:
                others.append(effect)
        return others

    async def _perform_all(self, effects: list[CloudEffect]) -> None:
        pending = list(effects)
        while pending:
            event = await self._perform(pending.pop(0))
            if event is not None:
                pending += self._step(event)

    def _performed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is None:
            return
        # A bug of ours: it ends this session and no other.
        _log.error("session %s: an effect failed", self._name, exc_info=task.exception())
        self.handle(WorkFailed(_internal(task.exception())))

    @property
    def _name(self) -> str:
        return self.session.session_id.hex()[:8]

    async def _perform(self, effect: CloudEffect) -> CloudEvent | None:
        """Do one effect; work gives back the event it ends in."""
        match effect:
            case Reply(epoch, message):
                await self._write(epoch, wire.reply_to_proto(message))
            case ReplyClosed(epoch, rounds, committed_length):
                await self._write(epoch, wire.closed_to_proto(rounds, committed_length))
                self._end_stream(epoch, None)
            case Refuse(epoch, error):
                self._reason = error.reason
                self._end_stream(epoch, error)
            case TruncateCache(length):
                self._verifier.truncate(length)
            case Release():
                self._release()
            case Prefill() | Decode() | Score():
                return await self._work(effect)
        return None

    async def _work(self, effect: Prefill | Decode | Score) -> CloudEvent | None:
        submitted = time.perf_counter()
        try:
            async with self._working:
                match effect:
                    case Prefill(token_ids):
                        for start in range(0, len(token_ids), PREFILL_CHUNK_TOKENS):
                            piece = token_ids[start : start + PREFILL_CHUNK_TOKENS]
                            await self._in_thread(submitted, self._verifier.prefill, piece)
                        return None
                    case Decode(block):
                        return await self._decode(submitted, block)
                    case Score():
                        return await self._score(submitted, effect)
        except ThinwireError as error:
            return WorkFailed(error)
        except Exception as error:
            _log.exception("session %s: work failed", self._name)
            return WorkFailed(_internal(error))

    async def _decode(self, submitted: float, block: DraftBlock) -> Decoded:
        self.reader.accept(block)
        tokens, self._decoding = await self._in_thread(submitted, self._verifier.decode, block)
        return Decoded(block.round, tokens)

    async def _score(self, submitted: float, effect: Score) -> Scored:
        outcome, scoring = await self._in_thread(submitted, self._verifier.score, effect)
        accepted = tuple(token.token_id for token in effect.tokens[: outcome.accepted])
        return Scored(
            effect.round,
            accepted,
            outcome,
            queue_us=self._decoding.queue_us + scoring.queue_us,
            verify_us=self._decoding.work_us + scoring.work_us,
        )

    async def _in_thread(
        self, submitted: float, work: Callable[[_Given], _Result], given: _Given
    ) -> tuple[_Result, _Timing]:
        """Do `work` in the model's thread; its wait counts from `submitted`, a reading of `perf_counter`."""

        def timed() -> tuple[_Result, _Timing]:
            begun = time.perf_counter()
            result = work(given)
            ended = time.perf_counter()
            return result, _Timing(round((begun - submitted) * 1e6), round((ended - begun) * 1e6))

        return await self._loop.run_in_executor(self._executor, timed)

    async def _write(self, epoch: int, response: Any) -> None:
        stream = self._streams.get(epoch)
        if stream is not None:
            await stream.write(response)

    def _end_stream(self, epoch: int, error: ThinwireError | None) -> None:
        stream = self._streams.get(epoch)
        if stream is not None:
            stream.end(error)

    def _arm(self, at_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if at_s is None else self._loop.call_at(at_s, self.expire)

    def _release(self) -> None:
        self._arm(None)
        self._verifier.abandon()
        # Submitted, not awaited: the thread may be busy with another session.
        self._executor.submit(self._verifier.close)
        self._on_release(self.session, self._reason)


def _internal(error: BaseException | None) -> ThinwireError:
    """What the peer may know of a bug of ours."""
    return ThinwireError(f"the cloud failed with {type(error).__name__}.")
