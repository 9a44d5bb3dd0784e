"""One text after another, replayed as it was recorded."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle, islice
from typing import Any

import grpc

from bench.capacity.texts import RecordedRound, RecordedText, request_of
from thinwire.common import wire
from thinwire.common.errors import ResourceExhaustedError, SessionNotFoundError
from thinwire.common.session.messages import Close, CloseReason, Opened, Verdict

ROUND_TIMEOUT_S = 30.0
"""For one round with its Open; the cloud's refusal of a burst comes sooner."""
LOST_STATUS_PAUSE_S = 0.1
"""Before the next attempt after a refusal whose own pause was lost."""
Metadata = tuple[tuple[str, str], ...]
Answer = tuple[float, float, int]
"""(monotonic second of the answer, seconds that it took, output tokens)."""


class NoRefusalError(ResourceExhaustedError):
    """
    Waited out like a refusal, but neither for want of room nor of quota, as far as is known.

    Either gRPC has lost what a refusal was for, or the cloud has let go of a session while its refused round
    waited, whose text begins anew.
    """


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

        Raises:
            NoRefusalError: refused, or forgotten, and then another text begins at the next call.
            ResourceExhaustedError: refused; the same round comes again at the next call.
            TimeoutError: no verdict in time.
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
                return heard_s, heard_s - sent_s, verdict.accepted + 1
        except grpc.aio.AioRpcError as error:
            self.abandon()
            if self._in_vain and self._session_id and error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                self._begin_text()
                return time.monotonic(), time.monotonic() - sent_s, 0
            try:
                refused = refusal_of(error)
            except SessionNotFoundError as forgotten:
                self._begin_text()
                refused = NoRefusalError(forgotten.message, retry_after_s=0.0)
            raise refused from None

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

    async def _ask(self, request: Any) -> Opened | Verdict | None:
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


def refusal_of(error: grpc.aio.AioRpcError) -> ResourceExhaustedError:
    """
    The refusal that ended a stream.

    gRPC forgets a status that a write of ours crosses and gives INTERNAL, without details, in its place: a
    refusal too, since a cloud that means INTERNAL gives a reason.

    Raises:
        ThinwireError: what ended it was no refusal.
    """
    if error.code() is grpc.StatusCode.INTERNAL and wire.reason_of(error) is None:
        return NoRefusalError(error.details() or "INTERNAL", retry_after_s=LOST_STATUS_PAUSE_S)
    ended_by = wire.error_from_rpc(error)
    if not isinstance(ended_by, ResourceExhaustedError):
        raise ended_by from None
    return ended_by
