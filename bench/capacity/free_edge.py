"""
An edge of a cloud that writes by itself: its messages as recorded, or none, beside what comes down.

Each message goes up once the edge holds as many tokens as the recorded one held, and as long after that as it
did then. So drafts take what they took alone, and a cloud that writes more slowly than the recorded one is
sent no more guesses than it was.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from itertools import cycle, islice
from typing import Any

import grpc

from bench.capacity.session import ROUND_TIMEOUT_S, Answer, Metadata
from bench.capacity.texts import RecordedText, request_of
from thinwire.common import wire
from thinwire.common.session.hit_rate import PROBE_TOKENS
from thinwire.common.session.messages import Close, CloseReason, Hints, Opened, Written


class _Held:
    """Tokens that the edge holds, and when each number was reached."""

    def __init__(self, length: int) -> None:
        self.length = length
        self._reached_s = {length: time.monotonic()}
        self._more = asyncio.Event()

    def add(self, tokens: int) -> None:
        """More came down."""
        now_s = time.monotonic()
        self._reached_s |= dict.fromkeys(range(self.length + 1, self.length + tokens + 1), now_s)
        self.length += tokens
        self._more.set()

    async def reached_s(self, length: int) -> float:
        """When so many were there, once they are."""
        while length > self.length:
            self._more.clear()
            await self._more.wait()
        return self._reached_s[length]


async def free_edge(
    channel: grpc.aio.Channel,
    metadata: Metadata,
    texts: Sequence[RecordedText],
    number: int,
    counts: Counter[str],
    *,
    is_hinted: bool,
) -> AsyncIterator[Answer]:
    """
    One text after another.

    Args:
        channel, metadata: to the cloud.
        texts: of scheme coupled, taken in turn.
        number: of the first text.
        counts: `texts` that ended, and `other_verdicts`: tokens that are not the recorded ones.
        is_hinted: sends what was recorded; else it only acknowledges, as an edge without a draft model.

    Yields:
        an answer a message down: what a pass wrote, and the seconds since the message before.

    Raises:
        TimeoutError: nothing came in time.
        AioRpcError: the cloud ended the stream.
    """
    for text in islice(cycle(texts), number % len(texts), None):
        call: Any = wire.VerifierStub(channel).Verify(metadata=metadata)
        opening = request_of(text.open)
        held = _Held(len(opening.open.prompt_token_ids))
        first, end = held.length, held.length + len(text.tokens)
        await call.write(opening)
        lock = asyncio.Lock()  # a write that is cancelled would cancel its stream
        sending = asyncio.create_task(_send(call, lock, text, held, is_hinted))
        before_s = time.monotonic()
        try:
            while held.length < end:
                async with asyncio.timeout(ROUND_TIMEOUT_S):
                    response = await call.read()
                if response is grpc.aio.EOF:
                    raise ConnectionError("the stream ended in good order; expected the text's end")
                message = wire.message_from_cloud(response)
                if isinstance(message, Opened):
                    continue
                assert isinstance(message, Written), message
                place, now_s = held.length - first, time.monotonic()
                came = message.token_ids
                counts["other_verdicts"] += came != text.tokens[place : place + len(came)]
                held.add(len(came))
                yield Answer(now_s, now_s - before_s, len(came))
                before_s = now_s
            async with lock, asyncio.timeout(ROUND_TIMEOUT_S):
                sending.cancel()
                await call.write(wire.EdgeStreamWriter().to_proto(Close(CloseReason.FINISHED)))
                await call.read()
            counts["texts"] += 1
        finally:
            sending.cancel()
            call.cancel()


async def _send(call: Any, lock: asyncio.Lock, text: RecordedText, held: _Held, is_hinted: bool) -> None:
    """What goes up beside what comes down; a stream that has ended is the reader's to tell."""
    writer = wire.EdgeStreamWriter()
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        for hint in text.hints if is_hinted else ():
            due_s = await held.reached_s(hint.held_length) + hint.after_s
            await asyncio.sleep(due_s - time.monotonic())
            async with lock:
                await call.write(request_of(hint.request))
        while not is_hinted:
            await held.reached_s(held.length + PROBE_TOKENS)
            empty = Hints(held_length=held.length, ahead=0, draft_length=0, payload=b"")
            async with lock:
                await call.write(writer.to_proto(empty))
