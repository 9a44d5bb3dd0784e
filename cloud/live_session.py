"""
One session in service: the sans-IO core, its streams, its timer and its work in the model's thread.

Every event is stepped through the core and the effects are performed in the order given.
The work survives the stream that asked for it: a verdict reached after the stream tore is kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import grpc

from cloud.account import SessionAccount
from cloud.admission import after_holding, held_back_s
from cloud.batch_queue import Item, PassWork
from cloud.batcher import Batcher, Done, done_at_once
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
from cloud.session import CLOSE_DECISION_MARGIN, CloudSession
from cloud.verifier import PREFILL_CHUNK_TOKENS, Verifier
from common import wire
from common.errors import QuotaExceededError, ResourceExhaustedError, ThinwireError
from common.messages import DraftBlock
from common.tenants import DEFAULT_TENANT

SHORT_PAYLOAD_BYTES = 256
"""A payload up to this size is decoded at once, in less time than it takes to wake another thread."""
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
            with suppress(grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError):
                await self._context.write(response)

    def end(self, error: ThinwireError | None) -> None:
        """Have the stream's handler end it."""
        if not self.ended.done():
            self.ended.set_result(error)

    async def next_request(self, requests: AsyncIterator[Any]) -> Any:
        """The next request; None when there is none, or when the stream is to end first."""
        reading = asyncio.ensure_future(anext(requests, None))
        try:
            await asyncio.wait({reading, self.ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not reading.done():
                reading.cancel()
                with suppress(asyncio.CancelledError):
                    await reading
        return None if reading.cancelled() else reading.result()

    async def end_held_back(self, refusal: QuotaExceededError) -> None:
        """End with a round's refusal once part of its pause is over, or earlier with what comes first."""
        held_s = held_back_s(refusal)
        await asyncio.wait([self.ended], timeout=held_s)
        self.end(after_holding(refusal, held_s))


class LiveSession:
    """
    One session in service.

    Args:
        session: the core.
        verifier: its work in the model's thread.
        batcher: that thread and its queue.
        account: what it uses is written down here.
        tenant: whose it is.
        on_release: called once, when the session is over, with the reason (`ErrorInfo.reason`, or "CLOSED").
        on_exhausted: called when the cache had no room for a round; the session is detached by then.
    """

    def __init__(
        self,
        session: CloudSession,
        verifier: Verifier,
        *,
        batcher: Batcher,
        account: SessionAccount,
        tenant: str = DEFAULT_TENANT,
        on_release: Callable[[CloudSession, str], None],
        on_exhausted: Callable[[], None],
    ) -> None:
        self.session = session
        self.account = account
        self.reader = wire.CloudStreamReader()
        self._verifier = verifier
        self._batcher = batcher
        self._tenant = tenant
        self._on_release = on_release
        self._on_exhausted = on_exhausted
        self._loop = asyncio.get_running_loop()
        self._streams: dict[int, SessionStream] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # A round may arrive while the prompt is being fed: one piece of work at a time, as asked for.
        self._working = asyncio.Lock()
        self._decoding = Done(None, 0, 0)
        self._payload_bytes = 0
        self._reason = "CLOSED"

    def reserve(self) -> None:
        """
        Set cache memory aside for the prompt; comes before the first `attach`.

        Raises:
            ResourceExhaustedError: there is not so much.
        """
        self._verifier.reserve(len(self.session.open.prompt_token_ids))

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
                self._reason = "CLOSED"
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
        submitted_s = time.perf_counter()  # a wait for the session's own prompt counts too
        try:
            async with self._working:
                match effect:
                    case Prefill(token_ids):
                        for start in range(0, len(token_ids), PREFILL_CHUNK_TOKENS):
                            piece = token_ids[start : start + PREFILL_CHUNK_TOKENS]
                            await self._in_line(self._verifier.prefilling(piece))
                        return None
                    case Decode(block):
                        return await self._decode(block, submitted_s)
                    case Score():
                        return await self._score(effect)
        except ThinwireError as error:
            return WorkFailed(error)
        except Exception as error:
            _log.exception("session %s: work failed", self._name)
            return WorkFailed(_internal(error))

    async def _decode(self, block: DraftBlock, submitted_s: float) -> Decoded:
        self.reader.accept(block)
        self._payload_bytes = len(block.payload)
        decode = partial(self._verifier.decode, block)
        if len(block.payload) <= SHORT_PAYLOAD_BYTES:
            self._decoding = done_at_once(decode)
        else:
            self._decoding = await self._batcher.decode(decode, submitted_s=submitted_s)
        return Decoded(block.round, self._decoding.outcome)

    async def _score(self, effect: Score) -> Scored:
        in_line = self._in_line(self._verifier.scoring(effect))
        try:
            scoring = await in_line
        except ResourceExhaustedError:
            # Once the core has let go of the stream, so that this session counts among the abandoned ones.
            self._loop.call_soon(self._on_exhausted)
            raise
        outcome = scoring.outcome
        if outcome.decision_margin < CLOSE_DECISION_MARGIN:
            _log.info(
                "session %s round %d: decision margin %.1e", self._name, effect.round, outcome.decision_margin
            )
        accepted = tuple(token.token_id for token in effect.tokens[: outcome.accepted])
        queue_us = self._decoding.queue_us + scoring.queue_us
        verify_us = self._decoding.work_us + scoring.work_us
        self.account.verified(
            session=self.session.session_id.hex(),
            round_number=effect.round,
            drafted=len(effect.tokens),
            accepted=outcome.accepted,
            payload_bytes=self._payload_bytes,
            decoding=self._decoding,
            scoring=scoring,
        )
        return Scored(effect.round, accepted, outcome, queue_us=queue_us, verify_us=verify_us)

    def _in_line(self, work: PassWork) -> asyncio.Future[Done]:
        return self._batcher.put(Item(self._tenant, self.session.session_id, work))

    async def _write(self, epoch: int, response: Any) -> None:
        stream = self._streams.get(epoch)
        if stream is not None:
            self.account.sent(response.ByteSize())
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
        # Not awaited: the thread may be busy with another session.
        self._batcher.between_passes(self._verifier.close)
        self._on_release(self.session, self._reason)


def _internal(error: BaseException | None) -> ThinwireError:
    """What the peer may know of a bug of ours."""
    return ThinwireError(f"the cloud failed with {type(error).__name__}.")
