"""
`python -m bench.capacity.tenant_load`: all edges of one tenant, in one process.

It says "warm" once each of its sessions has had a verdict, waits for a line with the slices of the whole
measurement (`bench.capacity.slices`), works until the last is over, and prints what it saw as a line of JSON.

A steady tenant's sessions draft as recorded, think besides, send, and wait for the verdict, in every slice.
A tenant that offers gives each session its ticks: so many rounds a second over all that take part.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc

from bench.capacity.random_payloads import RandomPayloads
from bench.capacity.replay import LostRefusalError, answer, refusal_of, request_of
from bench.capacity.slices import EXCESS, Offer, Slice, from_line
from bench.capacity.texts import RecordedText, read_texts
from thinwire.common import wire
from thinwire.common.door.security import ClientSecurity
from thinwire.common.errors import QuotaExceededError, ResourceExhaustedError, SessionNotFoundError
from thinwire.common.session.messages import Close, CloseReason, Opened, Verdict

ROUND_TIMEOUT_S = 30.0
"""For one round with its Open; the cloud's refusal of a burst comes sooner."""


@dataclass(slots=True)
class Counts:
    """What one slice saw of a tenant that offers."""

    attempts: int = 0
    """Rounds sent, repeated ones each time."""
    admitted: int = 0
    quota_refusals: int = 0
    other_refusals: int = 0
    """For want of room; those of which the reason was lost, and sessions forgotten, are in neither."""
    torn: int = 0
    """Streams given up before an answer."""


@dataclass(slots=True)
class Load:
    """What a process saw."""

    rounds: list[tuple[float, float]] = field(default_factory=list)
    """Of a steady tenant: (monotonic second of the verdict, seconds from sending to verdict)."""
    slices: list[Counts] = field(default_factory=list)
    """Of a tenant that offers; nothing of a steady one."""
    refusals: int = 0
    """Of a steady tenant, whatever for."""


class ForgottenSessionError(ResourceExhaustedError):
    """The cloud has let go of a session while its refused round waited; its text begins anew."""


class ReplayedSession:
    """
    One session after another of recorded texts, a round at a time, resumed on a new stream after a refusal.

    Args:
        channel: to the cloud.
        metadata: with the tenant's token.
        texts: taken in turn.
        first: number of the first text.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        metadata: tuple[tuple[str, str], ...],
        texts: list[RecordedText],
        first: int,
    ) -> None:
        self._stub = wire.VerifierStub(channel)
        self._metadata = metadata
        self._texts = texts
        self._turn = first
        self._session_id = b""
        self._round = 0
        """Index of the round to send next."""
        self._call: Any = None

    @property
    def draft_s(self) -> float:
        """What the next round took to draft."""
        return self._text.rounds[self._round].draft_s

    async def exchange(self) -> tuple[float, float]:
        """
        Send the next round, on a stream opened where there is none, and wait for its verdict.

        Returns:
            the monotonic seconds of its sending and of its verdict.

        Raises:
            ForgottenSessionError: another text begins at the next call.
            ResourceExhaustedError: refused; the same round comes again at the next call.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ROUND_TIMEOUT_S):
                if self._call is None:
                    await self._open()
                sent_s = loop.time()
                await self._call.write(request_of(self._text.rounds[self._round].request))
                verdict = wire.message_from_cloud(await answer(self._call))
                heard_s = loop.time()
                assert isinstance(verdict, Verdict), verdict
                await self._proceed(verdict)
                return sent_s, heard_s
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise await self._refusal(error) from None

    @property
    def _text(self) -> RecordedText:
        return self._texts[self._turn % len(self._texts)]

    async def _open(self) -> None:
        self._call = self._stub.Verify(metadata=self._metadata)
        request = request_of(self._text.open)
        if self._session_id:
            request.open.session_id = self._session_id
            del request.open.prompt_token_ids[:]
        await self._call.write(request)
        opened = wire.message_from_cloud(await answer(self._call))
        assert isinstance(opened, Opened), opened
        self._session_id = opened.session_id

    async def _proceed(self, verdict: Verdict) -> None:
        """To the next round, or after the last one that can follow to the next text."""
        recorded = self._text.rounds[self._round]
        self._round += 1
        same = (verdict.accepted, verdict.next_token_id) == (recorded.accepted, recorded.next_token_id)
        if same and self._round < len(self._text.rounds):
            return
        call, self._call = self._call, None
        self._begin_anew()
        try:
            await call.write(wire.EdgeStreamWriter().to_proto(Close(CloseReason.FINISHED)))
            await answer(call)
        finally:
            call.cancel()

    def _begin_anew(self) -> None:
        self._turn += 1
        self._round, self._session_id = 0, b""

    async def _refusal(self, error: Exception) -> ResourceExhaustedError:
        """The refusal that ended the stream; raises what is none."""
        if not isinstance(
            error, grpc.aio.AioRpcError
        ):  # a write found the stream ended; the reading says why
            try:
                await answer(self._call)
            except grpc.aio.AioRpcError as found:
                error = found
        if not isinstance(error, grpc.aio.AioRpcError):
            raise error
        self.abandon()
        try:
            return refusal_of(error)
        except SessionNotFoundError as forgotten:
            self._begin_anew()
            return ForgottenSessionError(forgotten.message, retry_after_s=0.0)

    def abandon(self) -> None:
        """Let go of the stream."""
        if self._call is not None:
            self._call.cancel()
            self._call = None


async def _steady(session: ReplayedSession, load: Load, *, end_s: float, think_s: float, draft: bool) -> None:
    loop = asyncio.get_running_loop()
    while loop.time() < end_s:
        await asyncio.sleep(think_s + (session.draft_s if draft else 0.0))
        try:
            sent_s, heard_s = await session.exchange()
            load.rounds.append((heard_s, heard_s - sent_s))
        except ResourceExhaustedError as refused:
            load.refusals += 1
            await asyncio.sleep(_pause_s(refused))


async def _offer(
    session: ReplayedSession,
    payloads: RandomPayloads,
    slices: list[Slice],
    load: Load,
    *,
    number: int,
    sessions: int,
    rate: float,
) -> None:
    """
    One session's ticks; one that is behind them sends as soon as it may.

    Args:
        session: for recorded texts.
        payloads: for random ones.
        number: of this session, from 0.
        sessions: that take part at the quota; ten times as many above it.
        rate: the quota, rounds a second.
    """
    loop = asyncio.get_running_loop()
    period_s = sessions / rate
    for part, counts in zip(slices, load.slices, strict=True):
        taking_part = sessions * part.offer.factor
        tick_s = part.begin_s + period_s * number / taking_part if number < taking_part else part.end_s
        due_s = tick_s
        while due_s < part.end_s:
            await asyncio.sleep(due_s - loop.time())
            longest_s = period_s if part.offer is Offer.TEARING else ROUND_TIMEOUT_S
            sender = payloads if part.offer is Offer.RANDOM_PAYLOADS else session
            refused = await _attempt(sender, part, counts, longest_s)
            if refused is not None and part.offer.is_paused:
                due_s = loop.time() + _pause_s(refused)
            else:
                tick_s += period_s
                due_s = max(tick_s, loop.time())
        await asyncio.sleep(part.end_s - loop.time())


async def _attempt(
    session: ReplayedSession | RandomPayloads, part: Slice, counts: Counts, longest_s: float
) -> ResourceExhaustedError | None:
    """Send a round and count what becomes of it; it is given up after `longest_s`."""
    refused: ResourceExhaustedError | None = None
    torn = False
    try:
        async with asyncio.timeout(longest_s):
            await session.exchange()
    except ResourceExhaustedError as error:
        refused = error
    except TimeoutError:
        if part.offer is not Offer.TEARING:
            raise
        session.abandon()
        torn = True
    if part.counts(asyncio.get_running_loop().time()):
        counts.attempts += 1
        counts.admitted += refused is None and not torn
        counts.quota_refusals += isinstance(refused, QuotaExceededError)
        counts.other_refusals += refused is not None and is_for_want_of_room(refused)
        counts.torn += torn
    return refused


def is_for_want_of_room(refused: ResourceExhaustedError) -> bool:
    """Neither a quota's, nor of a session forgotten, nor one of which the reason was lost."""
    return not isinstance(refused, QuotaExceededError | LostRefusalError | ForgottenSessionError)


def _pause_s(refused: ResourceExhaustedError) -> float:
    """As the edge makes it."""
    return refused.retry_after_s * random.uniform(1.0, 1.5)


async def _warm_up(session: ReplayedSession) -> None:
    """Until there is a verdict."""
    while True:
        try:
            await session.exchange()
            return
        except ResourceExhaustedError as refused:
            await asyncio.sleep(_pause_s(refused))


async def _run(arguments: argparse.Namespace) -> Load:
    texts = read_texts(arguments.texts)
    token = arguments.token_file.read_text(encoding="ascii").strip()
    metadata = wire.call_metadata(ClientSecurity(token=token))
    options = [*wire.channel_options(), ("grpc.use_local_subchannel_pool", 1)]
    count = arguments.sessions * (EXCESS if arguments.rate else 1)
    channels = [grpc.aio.insecure_channel(arguments.address, options=options) for _ in range(count)]
    sessions = [ReplayedSession(channel, metadata, texts, number) for number, channel in enumerate(channels)]
    for session in sessions:
        await _warm_up(session)
    print("warm", flush=True)
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    slices = from_line(line)
    load = Load(slices=[Counts() for _ in slices])
    async with asyncio.TaskGroup() as group:
        for number, session in enumerate(sessions):
            payloads = RandomPayloads(channels[number], metadata, texts[0], number)
            group.create_task(_work(session, payloads, slices, load, number, arguments))
    for session in sessions:
        session.abandon()
    return load


async def _work(
    session: ReplayedSession,
    payloads: RandomPayloads,
    slices: list[Slice],
    load: Load,
    number: int,
    arguments: argparse.Namespace,
) -> None:
    if arguments.rate:
        sessions, rate = arguments.sessions, arguments.rate
        await _offer(session, payloads, slices, load, number=number, sessions=sessions, rate=rate)
    else:
        think_s, draft = arguments.think_ms / 1e3, not arguments.back_to_back
        await _steady(session, load, end_s=slices[-1].end_s, think_s=think_s, draft=draft)


def main() -> int:
    """Run until the measurement is over."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m bench.capacity.tenant_load", description=__doc__
    )
    add = parser.add_argument
    add("--address", required=True, metavar="HOST:PORT")
    add("--texts", required=True, type=Path)
    add("--token-file", required=True, type=Path)
    add("--sessions", required=True, type=int, help="steady ones, or those that offer exactly the quota")
    add("--rate", type=float, default=0.0, help="the quota, rounds a second; 0 for a steady tenant")
    add("--think-ms", type=float, default=0.0, help="of a steady tenant, beside the drafting")
    add("--back-to-back", action="store_true", help="of a steady tenant: no drafting")
    print(json.dumps(asdict(asyncio.run(_run(parser.parse_args())))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
