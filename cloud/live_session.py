"""
One session in service: the sans-IO core, its streams, its timer and its work in the model's thread.

Every event is stepped through the core and the effects are performed in the order given.
The work survives the stream that asked for it: a verdict reached after the stream tore is kept for the resume.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any

import grpc

from common import wire
from common.errors import ThinwireError
from common.messages import DraftBlock
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

_log = logging.getLogger(__name__)


class SessionStream:
    """One Verify stream of a session; `ended` holds the error that ends it, None for a good end."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._writing = asyncio.Lock()
        self.ended: asyncio.Future[ThinwireError | None] = asyncio.get_running_loop().create_future()

    async def write(self, response: Any) -> None:
        """Write unless the stream is gone; whoever reads it notices that."""
        async with self._writing:
            with suppress(grpc.RpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
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
        on_release: called once, when the session is over.
    """

    def __init__(
        self,
        session: CloudSession,
        verifier: Verifier,
        *,
        executor: Executor,
        on_release: Callable[[CloudSession], None],
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
        self._decoding_us = 0

    async def attach(self, stream: SessionStream, epoch: int) -> None:
        """Give the session to a stream, under the epoch after the session's own."""
        self._streams[epoch] = stream
        await self.handle(Attached(epoch))

    async def handle(self, event: CloudEvent) -> None:
        """Take one event; the effects go on even if the caller's stream is cancelled meanwhile."""
        await asyncio.shield(self._spawn(event))

    def expire(self) -> None:
        """End the session now, as if its timer had fired."""
        self._spawn(TimerFired())

    def detach(self, epoch: int) -> None:
        """Forget a stream that is gone."""
        self._streams.pop(epoch, None)

    def _spawn(self, event: CloudEvent) -> asyncio.Task[None]:
        # The step itself is done at once, so that events keep their order; only the effects run in the task.
        effects = self.session.step(event, self._loop.time())
        task = self._loop.create_task(self._perform_all(effects))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _perform_all(self, effects: list[CloudEffect]) -> None:
        pending = list(effects)
        while pending:
            event = await self._perform(pending.pop(0))
            if event is not None:
                pending += self.session.step(event, self._loop.time())

    async def _perform(self, effect: CloudEffect) -> CloudEvent | None:
        """Do one effect; work gives back the event it ends in."""
        match effect:
            case Reply(epoch, message):
                await self._write(epoch, wire.reply_to_proto(message))
            case ReplyClosed(epoch, rounds, committed_length):
                await self._write(epoch, wire.closed_to_proto(rounds, committed_length))
                self._end_stream(epoch, None)
            case Refuse(epoch, error):
                self._end_stream(epoch, error)
            case ArmTimer(at_s):
                self._arm(at_s)
            case TruncateCache(length):
                self._verifier.truncate(length)
            case Release():
                self._release()
            case Prefill() | Decode() | Score():
                return await self._work(effect)
        return None

    async def _work(self, effect: Prefill | Decode | Score) -> CloudEvent | None:
        try:
            match effect:
                case Prefill(token_ids):
                    for start in range(0, len(token_ids), PREFILL_CHUNK_TOKENS):
                        piece = token_ids[start : start + PREFILL_CHUNK_TOKENS]
                        await self._loop.run_in_executor(self._executor, self._verifier.prefill, piece)
                    return None
                case Decode(block):
                    return await self._decode(block)
                case Score():
                    return await self._score(effect)
        except ThinwireError as error:
            return WorkFailed(error)
        except Exception as error:
            _log.exception("session %s: work failed", self.session.session_id.hex()[:8])
            return WorkFailed(ThinwireError(f"the cloud failed with {type(error).__name__}."))

    async def _decode(self, block: DraftBlock) -> Decoded:
        self.reader.accept(block)

        def decode() -> tuple[Any, int]:
            begun = time.perf_counter()
            return self._verifier.decode(block), _microseconds_since(begun)

        tokens, self._decoding_us = await self._loop.run_in_executor(self._executor, decode)
        return Decoded(block.round, tokens)

    async def _score(self, effect: Score) -> Scored:
        submitted = time.perf_counter()

        def score() -> tuple[Any, int, int]:
            waited, begun = _microseconds_since(submitted), time.perf_counter()
            outcome = self._verifier.score(effect)
            return outcome, waited, _microseconds_since(begun)

        outcome, queue_us, score_us = await self._loop.run_in_executor(self._executor, score)
        accepted = tuple(token.token_id for token in effect.tokens[: outcome.accepted])
        return Scored(effect.round, accepted, outcome, queue_us, self._decoding_us + score_us)

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
        # Submitted, not awaited: the thread may be busy with another session, and the id is gone already.
        with suppress(RuntimeError):  # the executor is shut down when the daemon ends
            self._executor.submit(self._verifier.close)
        self._on_release(self.session)


def _microseconds_since(begun: float) -> int:
    return round((time.perf_counter() - begun) * 1e6)
