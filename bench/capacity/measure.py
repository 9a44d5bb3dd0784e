"""What is measured of a daemon while processes full of clients are at work, and how that is summed up."""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.capacity.load import Job, Load, work
from bench.capacity.slices import Offer, Slice
from bench.command import CommandError
from bench.grid.summaries import percentile
from thinwire.common.daemon.launcher import Daemon

START_TIMEOUT_S = 120.0
END_TIMEOUT_S = 60.0
LEAD_S = 0.3
"""Between telling the processes of the beginning and the beginning."""


class MeasuredDaemon(Daemon):
    """A daemon whose memory and time are looked at."""

    @property
    def rss_bytes(self) -> int:
        """Resident memory of the process now."""
        return int(self._proc("statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that the process has taken."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def reload(self) -> None:
        """Have it read its token file again."""
        self.signal(signal.SIGHUP)

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self.pid}/{name}").read_text(encoding="ascii")


@asynccontextmanager
async def at_work(daemon: MeasuredDaemon, jobs: Sequence[Job]) -> AsyncIterator[list[Connection]]:
    """
    One process for each job, all warm; ended at the end.

    Raises:
        CommandError: one ended without a result, or took too long.
    """
    address = await daemon.address()
    context = multiprocessing.get_context("spawn")
    ends = [context.Pipe() for _ in jobs]
    processes = [
        context.Process(target=work, args=(theirs, address, job))
        for (_, theirs), job in zip(ends, jobs, strict=True)
    ]
    try:
        for process, (_, theirs) in zip(processes, ends, strict=True):
            await asyncio.to_thread(process.start)
            theirs.close()
        for ours, _ in ends:
            await asyncio.to_thread(_heard, ours, START_TIMEOUT_S)
        yield [ours for ours, _ in ends]
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


async def measure_slices(
    daemon: MeasuredDaemon, processes: Sequence[Connection], slices: Sequence[Slice]
) -> tuple[list[Load], list[float]]:
    """What each process saw, and the daemon's seconds of CPU in the counted seconds of each slice."""
    for process in processes:
        process.send(slices)
    cpu_s = []
    for part in slices:
        await asyncio.sleep(part.counted_s - time.monotonic())
        before_s = daemon.cpu_s
        await asyncio.sleep(part.end_s - time.monotonic())
        cpu_s.append(daemon.cpu_s - before_s)
    return [await asyncio.to_thread(_heard, process, END_TIMEOUT_S) for process in processes], cpu_s


def lone_slice(seconds: float) -> Slice:
    """One slice that begins in a moment."""
    begin_s = time.monotonic() + LEAD_S
    return Slice(Offer.AT_QUOTA, begin_s, begin_s, begin_s + seconds)


class Seen:
    """
    What was seen in some slices of time.

    Args:
        label: what they have in common, for the line.
    """

    def __init__(self, **label: Any) -> None:
        self.label = label
        self.seconds = 0.0
        self.cpu_s = 0.0
        """Of the daemon's process."""
        self.tokens = 0
        """Output tokens of all clients that do not offer."""
        self.round_s: list[list[float]] = []
        """Seconds of their answers (`Load.answers`), by slice."""
        self.counts: Counter[str] = Counter()
        """Sums of what else the processes count."""

    def add(self, part: Slice, loads: Sequence[Load], cpu_s: float, *counts: Mapping[str, int]) -> None:
        """One slice more."""
        answers = [answer for load in loads for answer in load.within(part)]
        self.seconds += part.end_s - part.counted_s
        self.cpu_s += cpu_s
        self.tokens += sum(tokens for _, tokens in answers)
        self.round_s.append([took_s for took_s, _ in answers])
        for one in counts:
            self.counts.update(one)

    @property
    def rounds(self) -> int:
        """Answers."""
        return sum(map(len, self.round_s))

    @property
    def tokens_per_s(self) -> float:
        """Output tokens a second."""
        return self.tokens / self.seconds

    @property
    def cpu_ms_per_token(self) -> float:
        """What the daemon's process spends on an output token; NaN before any."""
        return 1e3 * self.cpu_s / self.tokens if self.tokens else math.nan

    @property
    def percentiles_ms(self) -> tuple[float, float]:
        """(p50, p95) of a round, all slices together."""
        every_s = [one for part in self.round_s for one in part]
        return 1e3 * percentile(every_s, 0.5), 1e3 * percentile(every_s, 0.95)

    @property
    def p95_ms_by_slice(self) -> list[float]:
        """One a slice."""
        return [1e3 * percentile(part, 0.95) for part in self.round_s]

    def to_json(self) -> str:
        """One line, without its newline."""
        names = (
            *("seconds", "tokens", "cpu_s", "rounds"),
            *("tokens_per_s", "cpu_ms_per_token", "p95_ms_by_slice"),
        )
        values = {**self.label, **self.counts, **{name: getattr(self, name) for name in names}}
        values["round_p50_ms"], values["round_p95_ms"] = self.percentiles_ms
        return json.dumps(values)


def append_lines(out: Path | None, found: Iterable[Seen]) -> None:
    """Append one JSON line each to a file, where one is wanted."""
    if out is not None:
        with out.open("a", encoding="utf-8") as file:
            file.writelines(one.to_json() + "\n" for one in found)


def say(sentence: str) -> None:
    """Progress, beside the tables on standard output."""
    print(f"bench.capacity: {sentence}", file=sys.stderr, flush=True)
