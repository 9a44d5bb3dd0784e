"""
One generation: an EdgeSession driven by the cloud's messages, the drafter and the clock.

The driver decides nothing about tokens.
Everything that happens becomes an event in one queue; each event is stepped through the session, and the
effects are performed in the order given: drafting in the model's thread, writes on the Verify stream, text to
the client.
Only the next draft, and hints, wait for a client that is slow to read; nothing that frees does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from typing import Protocol

from thinwire.common import wire
from thinwire.common.errors import LocalProtocolError, RemoteProtocolError, ThinwireError, TransportError
from thinwire.common.session.generation import GenerationEvent, GenerationFinished
from thinwire.common.session.messages import Close, CloseReason, Hints, Opened, Verdict, Written
from thinwire.edge import events
from thinwire.edge.cloud_link import CloudLink, CloudStream, FromCloud
from thinwire.edge.conversation import Conversation
from thinwire.edge.drafter import Drafter, DraftingCancelledError
from thinwire.edge.meter import GenerationMeter
from thinwire.edge.settings import EdgeSettings

MAX_EVENTS = 256
"""
Events of one generation that wait to be taken: a cloud that writes by itself is at most 128 tokens ahead of a
client that is slow to read.
"""


class Client(Protocol):
    """Who reads the text."""

    def put(self, event: GenerationEvent) -> None:
        """Hand over an event, after those before it; does not wait."""

    async def room(self) -> None:
        """Wait for a client that is slow to read."""


@dataclass(frozen=True, slots=True)
class _Received:
    stream: CloudStream
    event: events.EdgeEvent
    size_bytes: int
    at_s: float


@dataclass(eq=False)
class GenerationRun:
    """One generation under way: its events, its stream, its timer and the draft in progress."""

    session: Conversation
    drafter: Drafter
    """The generation's own; closed at the end."""
    link: CloudLink
    _: KW_ONLY
    executor: Executor
    """The model's one thread."""
    settings: EdgeSettings
    client: Client
    meter: GenerationMeter
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[events.EdgeEvent | _Received | BaseException] = asyncio.Queue()
        self._writer = wire.EdgeStreamWriter()
        """Of all streams: what it writes depends on what went before."""
        self._stream: CloudStream | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reconnecting: asyncio.Task[None] | None = None
        self._closed = False
        self._finish: events.Finish | None = None

    async def run(self) -> GenerationFinished:
        """
        Make the text; the client is handed its tokens and the end, in order. Returns the end.

        Raises:
            TransportError: the cloud is not there, or lost for good.
            ThinwireError: the cloud refused, or a model failed.
            asyncio.CancelledError: the client went away; both sides are freed before it is raised.
        """
        try:
            finish = await self._until_finish()
            if finish.error is not None:
                raise finish.error
            finished = GenerationFinished(finish.reason, finish.text, self.meter.statistics())
            self.client.put(finished)  # before the clean-up: the client need not wait for the cloud's Closed
            return finished
        finally:
            # A cancelled task must still say Close to the cloud; the shield lets a second cancel pass by.
            await asyncio.shield(asyncio.ensure_future(self._clean_up()))

    async def _until_finish(self) -> events.Finish:
        await self.link.connect()
        self._open_stream()
        await self._step(events.Connected())
        while self._finish is None:
            item = await self._events.get()
            if isinstance(item, BaseException):
                raise item
            if not isinstance(item, _Received):
                await self._step(item)
            elif item.stream is self._stream:  # otherwise of a stream already given up
                self.meter.received(item.event, item.size_bytes, item.at_s)
                await self._step(item.event)
        return self._finish

    async def _step(self, event: events.EdgeEvent) -> None:
        for effect in self.session.step(event, self._loop.time()):
            await self._perform(effect)

    async def _clean_up(self) -> None:
        """Free everything, here and at the cloud, however the run ended."""
        self.drafter.cancel()
        self._arm(None)
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        closing = self._loop.run_in_executor(self.executor, self.drafter.close)
        if self._stream is not None:
            if not self._closed:
                self._say_close()
            await self._stream.finished(self.settings.close_timeout_s)
        await closing

    def _say_close(self) -> None:
        """Let the session end itself; a session that already failed is closed by hand."""
        effects: list[events.EdgeEffect] = []
        with suppress(LocalProtocolError):
            effects = self.session.step(events.Cancelled(), self._loop.time())
        for effect in effects:
            if isinstance(effect, events.Send):
                self._send(effect)
        if not self._closed:
            self._send(events.Send(Close(CloseReason.FAILED)))

    async def _perform(self, effect: events.EdgeEffect) -> None:
        match effect:
            case events.Send(message):
                if isinstance(message, Hints):
                    await self.client.room()  # what is not acknowledged is not written far ahead
                self._send(effect)
            case events.Draft():
                await self.client.room()
                self._draft(effect)
            case events.CutDraft(attempt):
                self.drafter.cut(attempt)
            case events.Emit(tokens):
                self.meter.emitted(self._loop.time())
                self.client.put(tokens)
            case events.Decided():
                self.meter.decided(effect)
            case events.Passed() | events.Hinted():
                self.meter.counted(effect)
            case events.TruncateCache(length):
                self.drafter.truncate(length)
            case events.ArmTimer(at_s):
                self._arm(at_s)
            case events.Reconnect(attempt, pause_s):
                if self._stream is not None:
                    self._stream.abandon()
                    self._stream = None
                self._reconnecting = asyncio.create_task(self._reconnect(attempt, pause_s))
            case events.Finish():
                self.meter.finished(self._loop.time())
                self._finish = effect

    # --- the link ----------------------------------------------------------------------------------------

    def _open_stream(self) -> None:
        self._stream = self.link.open_stream(self._received)

    def _received(self, stream: CloudStream, message: FromCloud, size_bytes: int) -> None:
        """Turn what came down `stream` into an event; the end after our own Close is none."""
        event: events.EdgeEvent
        match message:
            case Opened():
                event = events.OpenedReceived(message)
            case Verdict():
                event = events.VerdictReceived(message)
            case Written():
                event = events.WrittenReceived(message)
            case ThinwireError():
                # Only the link itself may come back; a status that the cloud chose would be chosen again.
                kind = events.LinkLost if type(message) is TransportError else events.Refused
                event = kind(message)
        if self._closed:
            return
        if self._events.qsize() >= MAX_EVENTS:
            stream.abandon()
            event = events.Refused(RemoteProtocolError(f"{MAX_EVENTS} messages wait; expected fewer."))
        self._events.put_nowait(_Received(stream, event, size_bytes, self._loop.time()))

    def _send(self, effect: events.Send) -> None:
        assert self._stream is not None, "a Send effect before a stream"
        message = effect.message
        self._closed = self._closed or isinstance(message, Close)
        request = self._writer.to_proto(message)
        self.meter.sent(message, request.ByteSize(), self._loop.time())
        self._stream.send(request, last=self._closed)

    async def _reconnect(self, attempt: int, asked_s: float | None) -> None:
        """Wait what the cloud asked for and up to half more, or back off; connect, and say how it went."""
        if asked_s is None:
            doubled_s = self.settings.backoff_s * 2 ** min(attempt - 1, 20)
            longest_s = min(self.settings.max_backoff_s, doubled_s)
            pause_s = longest_s * random.uniform(0.5, 1.0)
        else:
            pause_s = asked_s * random.uniform(1.0, 1.5)
        try:
            await self.sleep(pause_s)
            await self.link.connect()
        except ThinwireError as error:
            self._events.put_nowait(events.LinkLost(error))
            return
        except Exception as error:  # a bug of ours: nobody awaits this task
            self._events.put_nowait(error)
            return
        self._open_stream()
        self._events.put_nowait(events.Connected())

    # --- drafting and the clock --------------------------------------------------------------------------

    def _draft(self, effect: events.Draft) -> None:
        future = self._loop.run_in_executor(self.executor, self.drafter.draft, effect)
        future.add_done_callback(lambda done: self._drafted(effect.attempt, done))

    def _drafted(self, attempt: int, done: asyncio.Future[events.DraftedBlock]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._events.put_nowait(events.Drafted(attempt, done.result()))
        elif isinstance(error, ThinwireError):
            self._events.put_nowait(events.DraftFailed(error))
        elif not isinstance(error, DraftingCancelledError):
            self._events.put_nowait(error)

    def _arm(self, at_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = (
            None if at_s is None else self._loop.call_at(at_s, self._events.put_nowait, events.TimerFired())
        )
