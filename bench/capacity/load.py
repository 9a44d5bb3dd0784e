"""
`python -m bench.capacity.load`: a process full of clients of one daemon.

It says "warm" once each client has had an answer, waits for a line with the slices of the measurement
(`bench.capacity.slices`), works until the last is over, and prints what it saw as a line of JSON.

Clients are one of three:
edges that draft as recorded, think besides, send, and wait for the verdict, all the time;
edges of a tenant that offers (`--rate`), each with its ticks: so many rounds a second over all of them;
readers of the rival's streams (`--together`).
A refusal for want of room or of quota is waited out and tried again.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import grpc
import msgspec

from bench.capacity.random_payloads import RandomPayloads
from bench.capacity.session import (
    ROUND_TIMEOUT_S,
    ForgottenSessionError,
    LostRefusalError,
    ReplayedSession,
)
from bench.capacity.slices import EXCESS, Offer, Slice
from bench.capacity.texts import read_texts
from bench.peers.messages import BATCHED, STREAM, PeerRequest
from thinwire.common import wire
from thinwire.common.door.security import ClientSecurity
from thinwire.common.errors import QuotaExceededError, ResourceExhaustedError


class Counts(msgspec.Struct):
    """What one slice saw of a tenant that offers."""

    attempts: int = 0
    """Rounds sent, repeated ones each time."""
    admitted: int = 0
    quota_refusals: int = 0
    other_refusals: int = 0
    """For want of room; those of which the reason was lost, and sessions forgotten, are in neither."""
    torn: int = 0
    """Streams given up before an answer."""


class Load(msgspec.Struct):
    """What a process saw."""

    answers: list[tuple[float, float, int]] = []
    """
    (monotonic second of the answer, seconds that it took, output tokens) of clients that do not offer.

    Of an edge from a round's sending to its verdict; of a stream from one token to the next.
    """
    texts: int = 0
    other_verdicts: int = 0
    """Rounds decided otherwise than when they were recorded."""
    refusals: int = 0
    """Of edges that do not offer, whatever for; tried again."""
    slices: list[Counts] = []
    """Of a tenant that offers."""

    def within(self, part: Slice) -> list[tuple[float, int]]:
        """(seconds that it took, output tokens) of the answers that count for a slice."""
        return [(took_s, tokens) for now_s, took_s, tokens in self.answers if part.counts(now_s)]


async def _steady(
    session: ReplayedSession, load: Load, warm: asyncio.Event, *, think_s: float, draft: bool
) -> None:
    """An edge that does not offer."""
    while True:
        await asyncio.sleep(think_s + (session.draft_s if draft else 0.0))
        try:
            sent_s, heard_s, tokens = await session.exchange()
            load.answers.append((heard_s, heard_s - sent_s, tokens))
            warm.set()
        except ResourceExhaustedError as refused:
            load.refusals += 1
            await asyncio.sleep(_pause_s(refused))


async def _read_streams(
    channel: grpc.aio.Channel, requests: list[PeerRequest], load: Load, warm: asyncio.Event
) -> None:
    """A reader of the rival's streams, one text after another."""
    loop = asyncio.get_running_loop()
    turn = 0
    while True:
        call = channel.unary_stream(STREAM)(requests[turn % len(requests)].to_bytes())
        try:
            before_s = loop.time()
            async for _ in call:
                now_s = loop.time()
                load.answers.append((now_s, now_s - before_s, 1))
                before_s = now_s
                warm.set()
            load.texts += 1
            turn += 1
        finally:
            call.cancel()


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
    token = arguments.token_file.read_text(encoding="ascii").strip() if arguments.token_file else None
    metadata = wire.call_metadata(ClientSecurity(token=token))
    options = [*wire.channel_options(), ("grpc.use_local_subchannel_pool", 1)]
    rate, count = arguments.rate, arguments.clients * (EXCESS if arguments.rate else 1)
    channels = [grpc.aio.insecure_channel(arguments.address, options=options) for _ in range(count)]
    for channel in channels:
        async with asyncio.timeout(ROUND_TIMEOUT_S):
            await channel.channel_ready()
    # No two clients are at the same text at the same time while there are enough.
    numbered = list(enumerate(channels, arguments.first))
    sessions = [ReplayedSession(channel, metadata, texts, number) for number, channel in numbered]
    load, warm = Load(), [asyncio.Event() for _ in channels]
    slices: asyncio.Future[list[Slice]] = asyncio.get_running_loop().create_future()

    async def offer(number: int, session: ReplayedSession) -> None:
        payloads = RandomPayloads(channels[number], metadata, texts[0], number)
        told = await slices
        await _offer(session, payloads, told, load, number=number, sessions=arguments.clients, rate=rate)

    work: list[Coroutine[Any, Any, None]]
    if arguments.together:
        work = [
            _read_streams(channel, _requests(texts, number, arguments), load, event)
            for (number, channel), event in zip(numbered, warm, strict=True)
        ]
    elif rate:
        for session, event in zip(sessions, warm, strict=True):
            await _warm_up(session)
            event.set()
        work = [offer(number, session) for number, session in enumerate(sessions)]
    else:
        think_s, draft = arguments.think_ms / 1e3, not arguments.back_to_back
        work = [
            _steady(session, load, event, think_s=think_s, draft=draft)
            for session, event in zip(sessions, warm, strict=True)
        ]
    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(one) for one in work]
        await _measured(warm, slices, load)
        for client in clients:
            client.cancel()
    load.texts += sum(session.finished_texts for session in sessions)
    load.other_verdicts = sum(session.other_verdicts for session in sessions)
    return load


def _requests(texts: list[Any], number: int, arguments: argparse.Namespace) -> list[PeerRequest]:
    """The texts of the rival, as many as are recorded, beginning with that number."""
    return [
        PeerRequest(
            way=BATCHED,
            prompt=texts[(number + turn) % len(texts)].prompt,
            max_tokens=arguments.tokens,
            temperature=1.0,
            seed=number,
            together=arguments.together,
        )
        for turn in range(len(texts))
    ]


async def _measured(warm: list[asyncio.Event], told: asyncio.Future[list[Slice]], load: Load) -> None:
    """Warm up, learn of the slices, and wait until they are over."""
    loop = asyncio.get_running_loop()
    for event in warm:
        await event.wait()
    print("warm", flush=True)
    line = await loop.run_in_executor(None, sys.stdin.readline)
    slices = msgspec.json.decode(line, type=list[Slice])
    load.slices = [Counts() for _ in slices]
    told.set_result(slices)
    await asyncio.sleep(slices[-1].end_s - loop.time())


def main() -> int:
    """Run until the measurement is over."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m bench.capacity.load", description=__doc__
    )
    add = parser.add_argument
    add("--address", required=True, metavar="HOST:PORT")
    add("--texts", required=True, type=Path)
    add("--clients", required=True, type=int, help="of this process; of a tenant that offers, at its quota")
    add("--first", type=int, default=0, help="number of the first of them")
    add("--token-file", type=Path, help="the tenant's")
    add("--rate", type=float, default=0.0, help="offer this quota, rounds a second")
    add("--think-ms", type=float, default=0.0, help="beside the drafting")
    add("--back-to-back", action="store_true", help="no drafting")
    add("--together", type=int, default=0, help="read the rival's streams, so many together")
    add("--tokens", type=int, default=0, help="of each text of the rival")
    load = asyncio.run(_run(parser.parse_args()))
    print(msgspec.json.encode(load).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
