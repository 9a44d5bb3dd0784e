"""What is measured of a daemon while processes full of clients are at work, and how that is summed up."""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.capacity.daemons import MeasuredDaemon
from bench.capacity.load import QUOTAS, Job, Load, Offer, Slice, work
from bench.capacity.session import Answer
from bench.command import CommandError
from bench.grid.summaries import percentile
from bench.peers import messages
from bench.peers.messages import PeerRequest

RIVAL = "transformers, batched"
MAX_PROCESSES = 2
"""Full of clients: the machine's cores are shared with the daemon."""
START_TIMEOUT_S = 120.0
END_TIMEOUT_S = 60.0
LEAD_S = 0.3
"""Between telling the processes of the beginning and the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    texts: int = 12
    """Recorded."""
    tokens: int = 96
    """Of each text."""
    edges: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    paced_ms: tuple[float, ...] = (0.0, 50.0)
    offers: tuple[Offer, ...] = QUOTAS[:1]
    """Of the tenant with the quota; the one that the others are held against first."""
    slices: int
    """Of time for each cell or offer; these take turns, so that what else the machine does meets all."""
    settle_s: float = 0.0
    """Before the counted seconds of each slice."""
    seconds: float
    """Counted of each slice."""
    threads: int = 1
    """Of the target, in every daemon."""
    niceness: int = 15
    """
    Of the limited tenant's process, relative to the cloud's: its edges are elsewhere, and what they compute
    must not take the cloud's time.
    """


def schedule(plan: Plan, begin_s: float) -> list[Slice]:
    """
    Every offer once a cycle, in turn, every second cycle backwards, so that what else the machine does meets
    all of them and a drift none more than another.
    """
    slices = []
    for cycle in range(plan.slices):
        for offer in plan.offers if cycle % 2 == 0 else reversed(plan.offers):
            counted_s = begin_s + plan.settle_s
            slices.append(Slice(offer, begin_s, counted_s, counted_s + plan.seconds))
            begin_s = slices[-1].end_s
    return slices


async def measure(
    daemon: MeasuredDaemon, jobs: Sequence[Job], plan: Plan
) -> tuple[list[Slice], list[Load], list[float]]:
    """
    One process for each job, from warming up to the end of the last slice.

    Returns:
        the slices, what each process saw, and the daemon's seconds of CPU in the counted ones of each slice.

    Raises:
        CommandError: a process ended without a result, or took too long.
    """
    address = await daemon.address()
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in jobs]
    processes = [
        context.Process(target=work, args=(theirs, address, job))
        for (_, theirs), job in zip(pipes, jobs, strict=True)
    ]
    try:
        for process, (_, theirs) in zip(processes, pipes, strict=True):
            await asyncio.to_thread(process.start)
            theirs.close()
        for ours, _ in pipes:
            await asyncio.to_thread(_heard, ours, START_TIMEOUT_S)
        slices = schedule(plan, time.monotonic() + LEAD_S)
        for ours, _ in pipes:
            ours.send(slices)
        cpu_s = []
        for part in slices:
            await asyncio.sleep(part.counted_s - time.monotonic())
            before_s = daemon.cpu_s
            await asyncio.sleep(part.end_s - time.monotonic())
            cpu_s.append(daemon.cpu_s - before_s)
        return slices, [await asyncio.to_thread(_heard, ours, END_TIMEOUT_S) for ours, _ in pipes], cpu_s
    finally:
        for process in processes:
            if process.pid is not None:
                process.terminate()
                await asyncio.to_thread(process.join)


def _heard(connection: Connection, timeout_s: float) -> Any:
    """The next word of a process."""
    try:
        if connection.poll(timeout_s):
            return connection.recv()
    except EOFError:
        pass
    raise CommandError("a load generator ended without a result; its own words are above.")


class Seen:
    """What was seen in some slices of time; `label` is what they have in common."""

    def __init__(self, **label: Any) -> None:
        self._label = label
        self._seconds = 0.0
        self._cpu_s = 0.0
        self._answers: list[list[Answer]] = []
        self._counts: Counter[str] = Counter()

    def add(self, part: Slice, loads: Sequence[Load], cpu_s: float, *counts: Mapping[str, int]) -> None:
        """One slice more, the daemon's seconds of CPU in it, and what else the processes count."""
        self._seconds += part.end_s - part.counted_s
        self._cpu_s += cpu_s
        answers = chain(*(load.answers for load in loads))
        self._answers.append([answer for answer in answers if part.counts(answer.at_s)])
        for one in counts:
            self._counts.update(one)

    def line(self) -> dict[str, Any]:
        """
        The label, the counts and the figures.

        `tokens` are all output tokens of clients that do not offer and `rounds` their answers, with p50 and
        p95 over all slices; what the daemon's process spends on a token is NaN before any.
        """
        tokens = sum(answer.tokens for answers in self._answers for answer in answers)
        by_slice_ms = [[1e3 * answer.took_s for answer in answers] for answers in self._answers]
        every_ms = list(chain(*by_slice_ms))
        return {
            **self._label,
            **self._counts,
            "seconds": self._seconds,
            "tokens": tokens,
            "cpu_s": self._cpu_s,
            "rounds": len(every_ms),
            "tokens_per_s": tokens / self._seconds,
            "cpu_ms_per_token": 1e3 * self._cpu_s / tokens if tokens else math.nan,
            "p95_ms_by_slice": [percentile(part, 0.95) for part in by_slice_ms],
            "round_p50_ms": percentile(every_ms, 0.5),
            "round_p95_ms": percentile(every_ms, 0.95),
        }


@dataclass(frozen=True, slots=True)
class Way:
    """One way to serve many edges."""

    daemon: str
    """Its name among those that serve."""
    job: Callable[[int], Callable[..., Job]]
    """What a process of its clients does, by the number of edges; `numbers` are still to be given."""


def rival(plan: Plan, edges: int) -> PeerRequest:
    """What each of so many clients asks of transformers' batched `generate`."""
    return PeerRequest(messages.BATCHED, "", plan.tokens, 1.0, 0, together=edges)


async def measure_ways(
    plan: Plan,
    daemons: Mapping[str, MeasuredDaemon],
    ways: Mapping[str, Way],
    paced_ms: float,
    out: Path | None,
) -> AsyncIterator[tuple[int, list[dict[str, Any]]]]:
    """Lines of each number of edges, the most first, so that the memory they take is all fresh."""
    for edges in sorted(plan.edges, reverse=True):
        row = {way: Seen(way=way, edges=edges, paced_ms=paced_ms) for way in ways}
        for _ in range(plan.slices):
            for name, seen in row.items():
                way, count = ways[name], min(edges, MAX_PROCESSES)
                shares = (range(edges * n // count, edges * (n + 1) // count) for n in range(count))
                jobs = [way.job(edges)(numbers=numbers) for numbers in shares]
                (part,), loads, (cpu_s,) = await measure(daemons[way.daemon], jobs, replace(plan, slices=1))
                seen.add(part, loads, cpu_s, *(load.counts for load in loads))
        fresh = [seen.line() for seen in row.values()]
        speeds = ", ".join(f"{line['way']} {line['tokens_per_s']:.0f} tokens/s" for line in fresh)
        say(f"{edges} edges: {speeds}")
        append_lines(out, fresh)
        yield edges, fresh


def append_lines(out: Path | None, lines: Iterable[Mapping[str, Any]]) -> None:
    """Append one JSON line each to a file, where one is wanted."""
    if out is not None:
        with out.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)


def say(sentence: str) -> None:
    """Progress, beside the tables on standard output."""
    print(f"bench.capacity: {sentence}", file=sys.stderr, flush=True)
