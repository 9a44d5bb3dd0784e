"""
A process full of clients of one daemon.

Clients are one of three:
edges that draft as recorded, think besides, send, and wait for the verdict, all the time;
edges of a tenant that offers, each with its ticks: so many rounds a second over all that take part;
readers of the rival's streams.
A refusal for want of room or of quota is waited out and tried again.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc

from bench.capacity.random_payloads import random_texts
from bench.capacity.session import ROUND_TIMEOUT_S, ForgottenSessionError, LostRefusalError, ReplayedSession
from bench.capacity.slices import EXCESS, Offer, Slice
from bench.capacity.texts import RecordedText, read_texts
from bench.peers.messages import BATCHED, STREAM, PeerRequest
from thinwire.common import wire
from thinwire.common.door.security import ClientSecurity
from thinwire.common.errors import QuotaExceededError, ResourceExhaustedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a process full of clients does."""

    texts: Path
    """The recording."""
    clients: int
    """How many; of a tenant that offers, at its quota."""
    first: int = 0
    """Number of the first of them."""
    token: str | None = field(default=None, repr=False)
    """The tenant's."""
    niceness: int = 0
    """Relative to everybody else's."""
    drafts: bool = True
    """Whether a block's recorded draft time is waited for."""
    think_s: float = 0.0
    """Beside the drafting."""
    rate: float = 0.0
    """Offer this quota, rounds a second; 0 does not offer."""
    together: int = 0
    """Read the rival's streams, so many together; 0 replays edges."""
    tokens: int = 0
    """Of each text of the rival."""


@dataclass(slots=True)
class Load:
    """What a process saw."""

    answers: list[tuple[float, float, int]] = field(default_factory=list)
    """
    (monotonic second of the answer, seconds that it took, output tokens) of clients that do not offer.

    Of an edge from a round's sending to its verdict; of a stream from one token to the next.
    """
    counts: Counter[str] = field(default_factory=Counter)
    """
    `texts` that ended, `other_verdicts` (rounds decided otherwise than recorded), and `refusals` of edges
    that do not offer, whatever for.
    """
    slices: list[Counter[str]] = field(default_factory=list)
    """Of a tenant that offers, what became of its rounds in each slice (`_attempt`)."""

    def within(self, part: Slice) -> list[tuple[float, int]]:
        """(seconds that it took, output tokens) of the answers that count for a slice."""
        return [(took_s, tokens) for now_s, took_s, tokens in self.answers if part.counts(now_s)]


def work(parent: Connection, address: str, job: Job) -> None:
    """
    The process: say None once each client has had an answer, hear the slices, say what was seen in them.

    Args:
        parent: to say and hear.
        address: HOST:PORT of the daemon.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    os.nice(job.niceness)
    parent.send(asyncio.run(_run(parent, address, job)))


async def _run(parent: Connection, address: str, job: Job) -> Load:
    texts = read_texts(job.texts)
    metadata = wire.call_metadata(ClientSecurity(token=job.token))
    options = [*wire.channel_options(), ("grpc.use_local_subchannel_pool", 1)]
    count = job.clients * (EXCESS if job.rate else 1)
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(count)]
    for channel in channels:
        async with asyncio.timeout(ROUND_TIMEOUT_S):
            await channel.channel_ready()
    # No two clients are at the same text at the same time while there are enough.
    numbered = list(enumerate(channels, job.first))
    sessions = [ReplayedSession(channel, metadata, texts, number) for number, channel in numbered]
    load, warm = Load(), [asyncio.Event() for _ in channels]
    told: asyncio.Future[list[Slice]] = asyncio.get_running_loop().create_future()

    async def offer(number: int) -> None:
        text = random_texts(texts[0], number) if number < job.clients else texts
        in_vain = ReplayedSession(channels[number], metadata, text, 0, in_vain=True)
        await _offer(sessions[number], in_vain, await told, load, number=number, job=job)

    clients: list[Coroutine[Any, Any, None]]
    if job.together:
        clients = [
            _read_streams(channel, texts, number, job, load, event.set)
            for (number, channel), event in zip(numbered, warm, strict=True)
        ]
    elif job.rate:
        for session, event in zip(sessions, warm, strict=True):
            await _steady(session, Load(), event.set, job, until=event.is_set)
        clients = [offer(number) for number in range(count)]
    else:
        clients = [
            _steady(session, load, event.set, job) for session, event in zip(sessions, warm, strict=True)
        ]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client) for client in clients]
        for event in warm:
            await event.wait()
        parent.send(None)
        slices: list[Slice] = await asyncio.to_thread(parent.recv)
        load.slices = [Counter() for _ in slices]
        told.set_result(slices)
        await asyncio.sleep(slices[-1].end_s - asyncio.get_running_loop().time())
        for task in tasks:
            task.cancel()
    for session in sessions:
        load.counts.update(session.counts)
    return load


async def _steady(
    session: ReplayedSession,
    load: Load,
    answered: Callable[[], None],
    job: Job,
    *,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """An edge that does not offer."""
    while not until():
        if not job.rate:
            await asyncio.sleep(job.think_s + (session.draft_s if job.drafts else 0.0))
        try:
            sent_s, heard_s, tokens = await session.exchange()
            load.answers.append((heard_s, heard_s - sent_s, tokens))
            answered()
        except ResourceExhaustedError as refused:
            load.counts["refusals"] += 1
            await asyncio.sleep(_pause_s(refused))


async def _read_streams(
    channel: grpc.aio.Channel,
    texts: list[RecordedText],
    number: int,
    job: Job,
    load: Load,
    answered: Callable[[], None],
) -> None:
    """A reader of the rival's streams, one text after another."""
    loop = asyncio.get_running_loop()
    turn = number
    while True:
        prompt = texts[turn % len(texts)].prompt
        asked = PeerRequest(BATCHED, prompt, job.tokens, 1.0, number, together=job.together)
        call = channel.unary_stream(STREAM)(asked.to_bytes())
        try:
            before_s = loop.time()
            async for _ in call:
                now_s = loop.time()
                load.answers.append((now_s, now_s - before_s, 1))
                before_s = now_s
                answered()
            load.counts["texts"] += 1
            turn += 1
        finally:
            call.cancel()


async def _offer(
    session: ReplayedSession,
    in_vain: ReplayedSession,
    slices: list[Slice],
    load: Load,
    *,
    number: int,
    job: Job,
) -> None:
    """
    One session's ticks; one that is behind them sends as soon as it may.

    Args:
        session: for recorded texts.
        in_vain: for random payloads.
        number: of this session, from 0; ten times as many take part above the quota.
    """
    loop = asyncio.get_running_loop()
    period_s = job.clients / job.rate
    for part, counts in zip(slices, load.slices, strict=True):
        taking_part = job.clients * part.offer.factor
        tick_s = part.begin_s + period_s * number / taking_part if number < taking_part else part.end_s
        due_s = tick_s
        while due_s < part.end_s:
            await asyncio.sleep(due_s - loop.time())
            longest_s = period_s if part.offer is Offer.TEARING else ROUND_TIMEOUT_S
            sender = in_vain if part.offer is Offer.RANDOM_PAYLOADS else session
            refused = await _attempt(sender, part, counts, longest_s)
            if refused is not None and part.offer.is_paused:
                due_s = loop.time() + _pause_s(refused)
            else:
                tick_s += period_s
                due_s = max(tick_s, loop.time())
        await asyncio.sleep(part.end_s - loop.time())


async def _attempt(
    session: ReplayedSession, part: Slice, counts: Counter[str], longest_s: float
) -> ResourceExhaustedError | None:
    """
    Send a round and count what becomes of it; it is given up after `longest_s`.

    Args:
        counts: `attempts` (repeated ones each time), of these `admitted`, `torn` (given up before an answer),
            `quota_refusals`, and `other_refusals`, for want of room; refusals of which the reason was lost,
            and of sessions forgotten, are in none of them.
    """
    refused: ResourceExhaustedError | None = None
    ended = "admitted"
    try:
        async with asyncio.timeout(longest_s):
            await session.exchange()
    except ResourceExhaustedError as error:
        refused, ended = error, "quota_refusals"
        if not isinstance(error, QuotaExceededError):
            ended = "other_refusals" if is_for_want_of_room(error) else ""
    except TimeoutError:
        if part.offer is not Offer.TEARING:
            raise
        session.abandon()
        ended = "torn"
    if part.counts(asyncio.get_running_loop().time()):
        counts.update(["attempts", *filter(None, [ended])])
    return refused


def is_for_want_of_room(refused: ResourceExhaustedError) -> bool:
    """Neither a quota's, nor of a session forgotten, nor one of which the reason was lost."""
    return not isinstance(refused, QuotaExceededError | LostRefusalError | ForgottenSessionError)


def _pause_s(refused: ResourceExhaustedError) -> float:
    """As the edge makes it."""
    return refused.retry_after_s * random.uniform(1.0, 1.5)
