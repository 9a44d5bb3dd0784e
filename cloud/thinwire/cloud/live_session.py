"""
One session in service: the sans-IO core, its streams, its timer and its work in the model's thread.

Every event is stepped through the core at once, whichever task brought it, and its effects are issued before
anything else can happen to the session:

- a message, and the end of a stream, goes into that stream's outbox, where it keeps its place;
- work on the model's cache goes into the session's one line of work, which is done in the order issued;
- timers are set, and a released session is freed, at once: nothing that frees waits for a peer or for work.

The work survives the stream that asked for it: a verdict reached after the stream tore is kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from thinwire.cloud import events
from thinwire.cloud.account import SessionAccount
from thinwire.cloud.admission import MIN_PAUSE_S, Admission
from thinwire.cloud.batch_queue import PREFILL_CHUNK_TOKENS, Done, PassWork
from thinwire.cloud.batcher import Batcher
from thinwire.cloud.conversation import Conversation
from thinwire.cloud.free_running import FreeRunningSession
from thinwire.cloud.verifier import Verifier
from thinwire.common import wire
from thinwire.common.door.tenants import DEFAULT_TENANT
from thinwire.common.errors import (
    LocalProtocolError,
    ResourceExhaustedError,
    ThinwireError,
)
from thinwire.common.law.speculative import BlockOutcome
from thinwire.common.session.messages import DraftBlock, FreeRun
from thinwire.common.session.statistics import RoundVerified

CLOSE_DECISION_MARGIN = 1e-4
"""
A round whose closest decision was won by less is logged: in float32 a pass in other company can move the
logits by some 1e-7, and such a decision may then fall otherwise.
"""
_log = logging.getLogger(__name__)

_EXPIRY = events.TimerFired()


@dataclass(frozen=True, slots=True)
class _Work:
    effect: events.Prefill | events.Decode | events.Score | events.Write | events.TruncateCache
    issued_s: float
    """A reading of `perf_counter`; a wait for the session's own prompt counts too."""


class LiveSession:
    """
    One session in service.

    Args:
        on_release: called once, when the session is over, with the reason (`ErrorInfo.reason`, or "CLOSED").
        on_exhausted: called when the cache had no room for a round; the session is detached by then.
        admission: the rates that a free-running session is held to; None for no rates.
    """

    def __init__(
        self,
        session: Conversation,
        verifier: Verifier,
        *,
        batcher: Batcher,
        account: SessionAccount,
        tenant: str = DEFAULT_TENANT,
        on_release: Callable[[LiveSession, str], None],
        on_exhausted: Callable[[], None],
        admission: Admission | None = None,
    ) -> None:
        self.session = session
        self._name = session.session_id.hex()[:8]
        self.account = account
        self.reader = wire.CloudStreamReader()
        self._verifier = verifier
        self._batcher = batcher
        self.tenant = tenant
        self._on_release = on_release
        self._on_exhausted = on_exhausted
        self._admission = admission
        self._loop = asyncio.get_running_loop()
        self._streams: dict[int, wire.Outbox] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._line: deque[_Work] = deque()
        """Work on the model's cache, as issued; one piece at a time."""
        self._working: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        """Set once the session is released."""
        self._is_short = False
        """Whether the cache had no room for the round in hand."""
        self._decoding = Done(None, 0, 0)
        self._payload_bytes = 0
        self._reason = "CLOSED"

    def attach(self, stream: wire.Outbox, free_run: FreeRun | None = None) -> int:
        """Give the session to a stream that opened so; returns its epoch, the one after the session's own."""
        epoch = self.session.epoch + 1
        self._streams[epoch] = stream
        self.handle(events.Attached(epoch, free_run))
        return epoch

    def handle(self, event: events.CloudEvent) -> None:
        """Take one event: step it through the core and issue its effects, in their order."""
        try:
            effects = self.session.step(event, self._loop.time())
        except Exception as error:
            # A bug of ours: it ends this session and no other.
            _log.exception("session %s: %s could not be taken", self._name, type(event).__name__)
            effects = self.session.step(events.WorkFailed(internal(error)), self._loop.time())
        for effect in effects:
            self._issue(effect)

    def expire(self) -> None:
        """End the session now, as if its timer had fired."""
        self.handle(events.TimerFired())

    def detach(self, epoch: int) -> None:
        self._streams.pop(epoch, None)

    async def round_decided(self) -> None:
        while self.session.has_work and self._working is not None:
            await asyncio.wait([self._working])

    def _issue(self, effect: events.CloudEffect) -> None:
        """Do one effect at once, or give it its place; nothing here waits."""
        match effect:
            case events.ArmTimer(at_s):
                self._arm(at_s)
            case events.AwaitHint(at_s):
                self._arm(at_s, events.WaitOver())
            case events.Reply(epoch, message):
                self._put(epoch, wire.reply_to_proto(message))
            case events.ReplyClosed(epoch, rounds, committed_length):
                self._reason = "CLOSED"
                self._put(epoch, wire.closed_to_proto(rounds, committed_length))
                self._end_stream(epoch, None)
            case events.Refuse(epoch, error):
                error.forget_origin()
                self._reason = error.reason
                self._end_stream(epoch, error)
            case events.Release():
                self._release()
            case (
                events.Prefill() | events.Decode() | events.Score() | events.Write() | events.TruncateCache()
            ):
                self._line.append(_Work(effect, time.perf_counter()))
                if self._working is None:
                    self._working = self._loop.create_task(self._work_off())

    # --- work on the cache ---------------------------------------------------------------------------------

    async def _work_off(self) -> None:
        try:
            while self._line:
                event = await self._work(self._line.popleft())
                if event is not None:
                    self.handle(event)
                if self._is_short:
                    # Now that the core has let go of the stream, this session is among the abandoned ones.
                    self._is_short = False
                    self._on_exhausted()
        finally:
            self._working = None

    async def _work(self, work: _Work) -> events.CloudEvent | None:
        try:
            match work.effect:
                case events.TruncateCache(length, kept):
                    self._verifier.sequence.truncate(length, kept)
                    return None
                case events.Prefill(token_ids):
                    for start in range(0, len(token_ids), PREFILL_CHUNK_TOKENS):
                        piece = token_ids[start : start + PREFILL_CHUNK_TOKENS]
                        await self._batcher.put(self._verifier.prefilling(piece, cached=start))
                    return None
                case events.Decode(block):
                    return await self._decode(block, work.issued_s)
                case events.Score() as score:
                    return await self._score(score)
                case events.Write() as write:
                    return await self._write(write)
        except LocalProtocolError as error:  # no text comes of a cache that is not what the core believes
            _log.error("session %s: %s", self._name, error.message)
            return events.WorkFailed(error)
        except ThinwireError as error:
            error.forget_origin()
            return events.WorkFailed(error)
        except Exception as error:
            _log.exception("session %s: work failed", self._name)
            return events.WorkFailed(internal(error))

    async def _decode(self, block: DraftBlock, submitted_s: float) -> events.Decoded:
        self.reader.accept(block)
        self._payload_bytes = len(block.payload)
        steps = self._verifier.decoding(block)
        price = self.session.scheme.decoding_tokens(block.draft_length, len(block.payload))
        self._decoding = await self._batcher.decode(
            steps, tenant=self.tenant, submitted_s=submitted_s, is_short=price == 0
        )
        return events.Decoded(block.round, self._decoding.outcome)

    async def _score(self, effect: events.Score) -> events.Scored:
        scoring = await self._passed(self._verifier.scoring(effect))
        outcome = scoring.outcome
        self._note_margin(effect.round, outcome)
        accepted = tuple(token.token_id for token in effect.tokens[: outcome.accepted])
        queue_us = self._decoding.queue_us + scoring.queue_us
        verify_us = self._decoding.work_us + scoring.work_us
        self._batcher.row_price.wrote(1 + outcome.accepted)
        measured = RoundVerified(
            scheme=self.session.scheme.name,
            round=effect.round,
            draft_length=len(effect.tokens),
            accepted=outcome.accepted,
            uplink_payload_bits=8 * self._payload_bytes,
            queue_s=queue_us * 1e-6,
            verify_s=verify_us * 1e-6,
        )
        self.account.verified(measured, self._decoding, scoring)
        return events.Scored(effect.round, accepted, outcome, queue_us=queue_us, verify_us=verify_us)

    async def _write(self, effect: events.Write) -> events.Wrote:
        """One pass of a target that writes by itself, no sooner than its tenant's rate allows."""
        session = self.session
        assert isinstance(session, FreeRunningSession), "a session of rounds writes nothing by itself"
        await self._in_turn(1 + effect.most_rows)
        done = await self._passed(
            self._verifier.writing(effect, lambda: session.hints.rows(effect.most_rows))
        )
        fed, outcome, path = done.outcome
        self._note_margin(session.rounds + 1, outcome)
        if self._admission is not None:
            self._admission.take(self.tenant, tokens=1 + len(fed.token_ids))
        self._batcher.row_price.wrote(1 + outcome.accepted)
        measured = RoundVerified(
            scheme=session.scheme.name,
            round=session.rounds + 1,
            draft_length=len(fed.token_ids),
            accepted=outcome.accepted,
            uplink_payload_bits=8 * session.take_payload_bytes(),
            queue_s=done.queue_us * 1e-6,
            verify_s=done.work_us * 1e-6,
        )
        self.account.verified(measured, Done(None, 0, 0), done)
        written = (*(fed.token_ids[index] for index in path), outcome.next_token_id)
        return events.Wrote(fed, path, written, done.queue_us, done.work_us, outcome.resampled)

    async def _passed(self, work: PassWork) -> Done:
        """The work done in a pass; notes where the cache had no room for it."""
        in_line = self._batcher.put(work)  # it may refuse; the cache has room then
        try:
            return await in_line
        except ResourceExhaustedError:
            self._is_short = True
            raise

    async def _in_turn(self, tokens: int) -> None:
        """Wait until the tenant's rate allows a pass: a writing target is slowed, never refused."""
        while self._admission is not None and not self._over.is_set():
            pause_s = self._admission.pause_s(self.tenant, tokens=tokens)
            if not pause_s:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(max(MIN_PAUSE_S, pause_s)):
                    await self._over.wait()

    def _note_margin(self, number: int, outcome: BlockOutcome) -> None:
        if outcome.decision_margin < CLOSE_DECISION_MARGIN:
            _log.info(
                "session %s round %d: decision margin %.1e", self._name, number, outcome.decision_margin
            )

    # --- streams, the clock, the end -----------------------------------------------------------------------

    def _put(self, epoch: int, response: Any) -> None:
        if (stream := self._streams.get(epoch)) is not None:
            self.account.sent(response.ByteSize())
            stream.put(response)

    def _end_stream(self, epoch: int, error: ThinwireError | None) -> None:
        if (stream := self._streams.get(epoch)) is not None:
            stream.end(error)

    def _arm(self, at_s: float | None, event: events.CloudEvent = _EXPIRY) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if at_s is None else self._loop.call_at(at_s, self.handle, event)

    def _release(self) -> None:
        self._over.set()
        self._arm(None)
        self._line.clear()
        self._verifier.abandon()
        # Not awaited: the thread may be busy with another session.
        self._batcher.between_passes(self._verifier.sequence.close)
        self._on_release(self, self._reason)


def internal(error: BaseException) -> ThinwireError:
    """What the peer may know of a bug of ours."""
    return ThinwireError(f"the cloud failed with {type(error).__name__}.")
