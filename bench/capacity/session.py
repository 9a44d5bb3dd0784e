"""One text after another, replayed as it was recorded."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle, islice
from typing import Any, NamedTuple

import grpc

from bench.capacity.texts import RecordedRound, RecordedText, request_of
from thinwire.common import wire
from thinwire.common.errors import QuotaExceededError, ResourceExhaustedError, SessionNotFoundError
from thinwire.common.session.messages import Close, CloseReason, Opened, Verdict, Written

ROUND_TIMEOUT_S = 30.0
"""For one round with its Open; the cloud's refusal of a burst comes sooner."""
LOST_STATUS_PAUSE_S = 0.1
"""Before the next attempt after a refusal whose own pause was lost."""
Metadata = tuple[tuple[str, str], ...]


class Answer(NamedTuple):
    """What came of a round, or one token of a stream."""

    at_s: float
    """Monotonic."""
    took_s: float
    """Of an edge from a round's sending to its verdict; of a stream from one token to the next."""
    tokens: int
    """Of the output."""
    kind: str = "admitted"
    """As which it counts; see `refusal_of`, and `torn` where it was given up."""
    pause_s: float | None = None
    """To wait before the next attempt; None unless it was refused."""


class ReplayedSession:
    """
    One session after another of recorded texts, a round at a time, resumed on a new stream after a refusal.

    Args:
        channel: to the cloud.
        metadata: with the tenant's token, where the cloud asks for one.
        texts: taken in turn.
        first: number of the first text.
        in_vain: each block is one that the cloud decodes and then cannot use.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        metadata: Metadata,
        texts: Sequence[RecordedText],
        first: int = 0,
        *,
        in_vain: bool = False,
    ) -> None:
        self._stub = wire.VerifierStub(channel)
        self._metadata = metadata
        self._texts = islice(cycle(texts), first % len(texts), None)
        self._in_vain = in_vain
        self._call: Any = None
        self.counts: Counter[str] = Counter()
        """`texts` that ended, and `other_verdicts`: rounds decided otherwise than recorded."""
        self._begin_text()

    @property
    def draft_s(self) -> float:
        """What the next round took to draft."""
        return self._next.draft_s

    async def exchange(self, timeout_s: float = ROUND_TIMEOUT_S) -> Answer:
        """
        Send the next round, on a stream opened where there is none, and wait for its verdict.

        After a refusal the same round comes again at the next call, unless its session was forgotten: then
        another text begins.

        Raises:
            TimeoutError: no verdict in time.
            ThinwireError: the stream ended, and not with a refusal.
        """
        sent_s = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                if self._call is None:
                    await self._open()
                sent_s = time.monotonic()
                verdict = await self._ask(request_of(self._next.request))
                heard_s = time.monotonic()
                assert isinstance(verdict, Verdict), verdict
                await self._proceed(verdict)
                return Answer(heard_s, heard_s - sent_s, verdict.accepted + 1)
        except grpc.aio.AioRpcError as error:
            self.abandon()
            heard_s = time.monotonic()
            if self._in_vain and self._session_id and error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                self._begin_text()
                return Answer(heard_s, heard_s - sent_s, 0)
            kind, retry_after_s = refusal_of(error)
            if error.code() is grpc.StatusCode.NOT_FOUND:
                self._begin_text()
            pause_s = retry_after_s * random.uniform(1.0, 1.5)  # as the edge makes it
            return Answer(heard_s, heard_s - sent_s, 0, kind, pause_s)

    def abandon(self) -> None:
        """Let go of the stream."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    @property
    def _next(self) -> RecordedRound:
        return self._text.rounds[self._round]

    def _begin_text(self) -> None:
        self._text = next(self._texts)
        self._round, self._session_id = 0, b""

    async def _open(self) -> None:
        self._call = self._stub.Verify(metadata=self._metadata)
        request = request_of(self._text.open)
        if self._session_id:
            request.open.session_id = self._session_id
            del request.open.prompt_token_ids[:]
        opened = await self._ask(request)
        assert isinstance(opened, Opened), opened
        self._session_id = opened.session_id

    async def _ask(self, request: Any) -> Opened | Verdict | Written | None:
        """The cloud's answer; AioRpcError where the stream has ended."""
        # A write that finds the stream ended: the reading says why.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(request)
        response = await self._call.read()
        if response is grpc.aio.EOF:
            raise ConnectionError("the stream ended in good order; expected an answer")
        return wire.message_from_cloud(response)

    async def _proceed(self, verdict: Verdict) -> None:
        """To the next round, or after the last one that can follow to the next text."""
        recorded = self._next
        self._round += 1
        same = (verdict.accepted, verdict.next_token_id) == (recorded.accepted, recorded.next_token_id)
        self.counts["other_verdicts"] += not same
        if same and self._round < len(self._text.rounds):
            return
        self.counts["texts"] += 1
        self._begin_text()
        await self._ask(wire.EdgeStreamWriter().to_proto(Close(CloseReason.FINISHED)))
        self.abandon()


def refusal_of(error: grpc.aio.AioRpcError) -> tuple[str, float]:
    """
    As which a refusal that ended a stream counts, and the seconds that it asks to wait.

    `quota_refusals`; `other_refusals`, for want of room; or nothing, where it is not known to be either.
    That is a session that the cloud has let go of while its refused round waited, or a status that gRPC has
    forgotten because a write of ours crossed it: it gives INTERNAL, without details, in its place, and a
    cloud that means INTERNAL gives a reason.

    Raises:
        ThinwireError: what ended it was no refusal.
    """
    if error.code() is grpc.StatusCode.INTERNAL and wire.reason_of(error) is None:
        return "", LOST_STATUS_PAUSE_S
    match ended_by := wire.error_from_rpc(error):
        case SessionNotFoundError():
            return "", 0.0
        case QuotaExceededError():
            return "quota_refusals", ended_by.retry_after_s
        case ResourceExhaustedError():
            return "other_refusals", ended_by.retry_after_s
    raise ended_by from None
