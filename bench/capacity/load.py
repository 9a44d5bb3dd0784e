"""
A process full of clients of one daemon.

Clients are one of four:
edges that draft as recorded, think besides, send, and wait for the verdict, all the time;
edges of a cloud that writes by itself, with their hints as recorded, or without any;
edges of a tenant that offers, each with its ticks: so many rounds a second over all that take part;
readers of the rival's streams.
A refusal for want of room or of quota is waited out and tried again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

import grpc

from bench.capacity.free_edge import free_edge
from bench.capacity.session import ROUND_TIMEOUT_S, Answer, ReplayedSession
from bench.capacity.texts import RecordedText, random_texts, read_texts
from bench.peers.messages import STREAM, PeerRequest
from thinwire.common import wire
from thinwire.common.door.security import ClientSecurity

EXCESS = 10
"""What a tenant offers above its quota, in quotas."""


@dataclass(frozen=True, slots=True)
class Offer:
    """How much the tenant with the quota offers, and what it does when it is refused."""

    name: str
    quotas: int
    """Offered: so many times the sessions that it has at its quota, each at the same pace."""
    pauses: bool = False
    """Whether the pauses asked for are made, as a real edge does; else only the refusal is waited for."""
    tears: bool = False
    """Attempts come what may: a stream unanswered by the next is torn for a new one."""
    is_random: bool = False
    """Whether each round is a session of its own with the block that takes longest to decode."""


QUOTAS = (
    Offer("at quota", 1, pauses=True),
    Offer("ten times, patient", EXCESS, pauses=True),
    Offer("ten times, hostile", EXCESS),
    Offer("ten times, tearing", EXCESS, tears=True),
)
"""What offering ten quotas does, held against one."""
DECODING = (Offer("alone", 0), Offer("at quota, random payloads", 1, pauses=True, is_random=True))
"""What one quota of the dearest blocks does, held against none."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of monotonic time; the seconds before `counted_s` let the former offer's rounds run out."""

    offer: Offer
    begin_s: float
    counted_s: float
    """What ends from here on counts."""
    end_s: float

    def counts(self, now_s: float) -> bool:
        """Whether what ends now counts."""
        return self.counted_s <= now_s < self.end_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a process full of clients does."""

    texts: Path
    """The recording."""
    numbers: range
    """Of its clients; of a tenant that offers, from 0 and at its quota."""
    token: str | None = field(default=None, repr=False)
    """The tenant's."""
    niceness: int = 0
    """Relative to everybody else's."""
    think_s: float | None = 0.0
    """Beside a block's recorded draft time; None waits for neither."""
    rate: float = 0.0
    """Offer this quota, rounds a second; 0 does not offer."""
    rival: PeerRequest | None = None
    """Read the rival's streams, of such texts; None replays edges."""
    is_hinted: bool | None = None
    """Of edges of a cloud that writes by itself: whether they send hints; None replays rounds."""


@dataclass(slots=True)
class Load:
    """What a process saw."""

    answers: list[Answer] = field(default_factory=list)
    """Of clients that do not offer."""
    counts: Counter[str] = field(default_factory=Counter)
    """
    `texts` that ended, `other_verdicts` (rounds decided otherwise than recorded), and `refusals` of edges
    that do not offer, whatever for.
    """
    slices: list[Counter[str]] = field(default_factory=list)
    """
    Of a tenant that offers, in each slice: `attempts` (repeated ones each time), and of these what became of
    them (`Answer.kind`).
    """


def work(parent: Connection, address: str, job: Job) -> None:
    """The process: say None once each client has had an answer, hear the slices, say what was seen."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    os.nice(job.niceness)
    parent.send(asyncio.run(_run(parent, address, job)))


async def _run(parent: Connection, address: str, job: Job) -> Load:
    texts, load = read_texts(job.texts), Load()
    metadata = wire.call_metadata(ClientSecurity(token=job.token))
    options = [*wire.channel_options(), ("grpc.use_local_subchannel_pool", 1)]
    # No two clients are at the same text at the same time while there are enough.
    numbers = range(EXCESS * len(job.numbers)) if job.rate else job.numbers
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in numbers]
    for channel in channels:
        async with asyncio.timeout(ROUND_TIMEOUT_S):
            await channel.channel_ready()
    numbered = list(zip(channels, numbers, strict=True))
    sessions = [ReplayedSession(channel, metadata, texts, number) for channel, number in numbered]
    if job.is_hinted is not None:
        free = partial(free_edge, counts=load.counts, is_hinted=job.is_hinted)
        clients = [free(channel, metadata, texts, number) for channel, number in numbered]
    elif job.rival is not None:
        clients = [_stream(channel, texts, number, job.rival, load) for channel, number in numbered]
    else:
        clients = [_edge(session, job, load) for session in sessions]
    offers = []
    if job.rate:
        for client in clients:  # one after another, as the quota lets them in
            await anext(client)
        for (channel, number), session in zip(numbered, sessions, strict=True):
            made = random_texts(texts[0], number)
            in_vain = ReplayedSession(channel, metadata, made, in_vain=True)
            offers.append(partial(_offer, session, in_vain, number, job))
    else:
        await asyncio.gather(*map(anext, clients))
    async with asyncio.TaskGroup() as group:
        tasks = [] if job.rate else [group.create_task(_keep(client, load)) for client in clients]
        parent.send(None)
        slices: list[Slice] = await asyncio.to_thread(parent.recv)
        load.slices = [Counter() for _ in slices]
        tasks += [group.create_task(offer(slices, load)) for offer in offers]
        await asyncio.sleep(slices[-1].end_s - time.monotonic())
        for task in tasks:
            task.cancel()
    for session in sessions:
        load.counts.update(session.counts)
    return load


async def _keep(answers: AsyncIterator[Answer], load: Load) -> None:
    async for answer in answers:
        load.answers.append(answer)


async def _edge(session: ReplayedSession, job: Job, load: Load) -> AsyncIterator[Answer]:
    """An edge that does not offer."""
    while True:
        if job.think_s is not None:
            await asyncio.sleep(job.think_s + session.draft_s)
        answer = await session.exchange()
        if answer.pause_s is None:
            yield answer
        else:
            load.counts["refusals"] += 1
            await asyncio.sleep(answer.pause_s)


async def _stream(
    channel: grpc.aio.Channel, texts: Sequence[RecordedText], number: int, asked: PeerRequest, load: Load
) -> AsyncIterator[Answer]:
    """A reader of the rival's streams, one text after another."""
    for turn in count(number):
        request = replace(asked, prompt=texts[turn % len(texts)].prompt, seed=number)
        call = channel.unary_stream(STREAM)(request.to_bytes())
        try:
            before_s = time.monotonic()
            async for _ in call:
                now_s = time.monotonic()
                yield Answer(now_s, now_s - before_s, 1)
                before_s = now_s
        finally:
            call.cancel()
        load.counts["texts"] += 1


async def _offer(
    session: ReplayedSession,
    in_vain: ReplayedSession,
    number: int,
    job: Job,
    slices: Sequence[Slice],
    load: Load,
) -> None:
    """
    One session's ticks; one that is behind them sends as soon as it may.

    Args:
        session: for recorded texts.
        in_vain: for random payloads.
        number: of this session, from 0; ten times as many take part above the quota.
    """
    period_s = len(job.numbers) / job.rate
    for part, counts in zip(slices, load.slices, strict=True):
        offer, sender = part.offer, in_vain if part.offer.is_random else session
        taking_part = len(job.numbers) * offer.quotas
        tick_s = part.begin_s + period_s * number / taking_part if number < taking_part else part.end_s
        due_s = tick_s
        while due_s < part.end_s:
            await asyncio.sleep(due_s - time.monotonic())
            try:
                answer = await sender.exchange(period_s if offer.tears else ROUND_TIMEOUT_S)
            except TimeoutError:
                if not offer.tears:
                    raise
                sender.abandon()
                answer = Answer(time.monotonic(), period_s, 0, "torn")
            if part.counts(answer.at_s):
                counts.update(filter(None, ["attempts", answer.kind]))
            if answer.pause_s is not None and offer.pauses:
                due_s = time.monotonic() + answer.pause_s
            else:
                tick_s += period_s
                due_s = max(tick_s, time.monotonic())
        await asyncio.sleep(part.end_s - time.monotonic())
