"""One cell of the table: so many edges for so many seconds against one daemon."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from bench.capacity.load import Load
from bench.capacity.slices import Offer, Slice
from bench.command import CommandError
from thinwire.edge.demo import Daemon

MAX_PROCESSES = 2
"""Load generator processes: the machine's cores are shared with the daemon."""
START_TIMEOUT_S = 120.0
END_TIMEOUT_S = 60.0
LEAD_S = 0.3
"""Between telling the load generators of the beginning and the beginning."""


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
        self._signal(signal.SIGHUP)

    def _proc(self, name: str) -> str:
        assert self._process is not None, "started"
        return Path(f"/proc/{self._process.pid}/{name}").read_text(encoding="ascii")


class LoadProcess:
    """A load generator (`bench.capacity.load`) that is warm."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self, timeout_s: float) -> bytes:
        """
        The next line it prints.

        Raises:
            TimeoutError: none came in time.
            CommandError: it ended without one.
        """
        assert self._process.stdout is not None, "a pipe"
        async with asyncio.timeout(timeout_s):
            line = await self._process.stdout.readline()
        if not line:
            raise CommandError("a load generator ended without a result; its own words are above.")
        return line

    async def told(self, slices: Sequence[Slice]) -> Load:
        """What it saw in these slices."""
        assert self._process.stdin is not None, "a pipe"
        self._process.stdin.write(msgspec.json.encode(slices) + b"\n")
        await self._process.stdin.drain()
        line = await self.line(slices[-1].end_s - time.monotonic() + END_TIMEOUT_S)
        return msgspec.json.decode(line, type=Load)


@asynccontextmanager
async def load_processes(
    daemon: MeasuredDaemon, texts: Path, *commands: Sequence[object]
) -> AsyncIterator[list[LoadProcess]]:
    """
    One load generator for each command, all warm; stopped at the end.

    Args:
        daemon: whom to ask.
        texts: the recording.
        commands: options of `bench.capacity.load`; a first word "nice=N" sets the niceness.
    """
    address = await daemon.address()
    processes = []
    try:
        for command in commands:
            words = [str(word) for word in command]
            niceness = words.pop(0).removeprefix("nice=") if words[0].startswith("nice=") else "0"
            processes.append(
                await asyncio.create_subprocess_exec(
                    *("nice", "-n", niceness, sys.executable, "-m", "bench.capacity.load"),
                    *("--address", address, "--texts", str(texts), *words),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    limit=64 * 1024 * 1024,
                )
            )
        loads = [LoadProcess(process) for process in processes]
        for load in loads:
            await load.line(START_TIMEOUT_S)
        yield loads
    finally:
        for process in processes:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def measure_slices(
    daemon: MeasuredDaemon, loads: Sequence[LoadProcess], slices: Sequence[Slice]
) -> tuple[list[Load], list[float]]:
    """What each process saw, and the daemon's seconds of CPU in the counted seconds of each slice."""
    told = [asyncio.ensure_future(load.told(slices)) for load in loads]
    try:
        cpu_s = []
        for part in slices:
            await asyncio.sleep(part.counted_s - time.monotonic())
            before_s = daemon.cpu_s
            await asyncio.sleep(part.end_s - time.monotonic())
            cpu_s.append(daemon.cpu_s - before_s)
        return list(await asyncio.gather(*told)), cpu_s
    finally:
        for one in told:
            one.cancel()


def lone_slice(seconds: float) -> Slice:
    """One slice that begins in a moment."""
    begin_s = time.monotonic() + LEAD_S
    return Slice(Offer.AT_QUOTA, begin_s, begin_s, begin_s + seconds)


def percentiles_ms(round_s: Sequence[float]) -> tuple[float, float]:
    """(p50, p95); NaN for fewer than two."""
    if len(round_s) < 2:
        return math.nan, math.nan
    p50_s, p95_s = np.quantile(round_s, (0.5, 0.95))
    return 1e3 * float(p50_s), 1e3 * float(p95_s)


class Line(Protocol):
    """One line of a result."""

    def to_json(self) -> str:
        """The line, without its newline."""


def append_lines(out: Path | None, found: Iterable[Line]) -> None:
    """Append one JSON line each to a file, where one is wanted."""
    if out is not None:
        with out.open("a", encoding="utf-8") as file:
            file.writelines(one.to_json() + "\n" for one in found)


@dataclass(frozen=True, slots=True)
class Way:
    """One of the ways that are compared."""

    name: str
    daemon: MeasuredDaemon
    streamed: bool = False
    """The rival's streams instead of edges."""


@dataclass(slots=True)
class Cell:
    """What so many edges saw together, over all slices of time that were given to them."""

    way: str
    edges: int
    paced_ms: float
    seconds: float = 0.0
    tokens: int = 0
    cpu_s: float = 0.0
    """Of the daemon's process."""
    round_s: list[float] = field(default_factory=list, repr=False)
    """From a round's sending to its verdict; of a stream, from one token to the next."""
    texts: int = 0
    other_verdicts: int = 0
    refusals: int = 0

    @property
    def tokens_per_s(self) -> float:
        """Output tokens of all edges a second."""
        return self.tokens / self.seconds

    @property
    def cpu_ms_per_token(self) -> float:
        """What the daemon's process spends on an output token; NaN before any."""
        return 1e3 * self.cpu_s / self.tokens if self.tokens else math.nan

    def to_json(self) -> str:
        """One line, without its newline."""
        values = asdict(self)
        values["rounds"] = len(values.pop("round_s"))
        values["round_p50_ms"], values["round_p95_ms"] = percentiles_ms(self.round_s)
        values |= {"tokens_per_s": self.tokens_per_s, "cpu_ms_per_token": self.cpu_ms_per_token}
        return json.dumps(values)

    def add(self, part: Slice, loads: Sequence[Load], cpu_s: float) -> None:
        """What a slice saw."""
        self.seconds += part.end_s - part.counted_s
        self.cpu_s += cpu_s
        for load in loads:
            seen = load.within(part)
            self.round_s += [took_s for took_s, _ in seen]
            self.tokens += sum(tokens for _, tokens in seen)
            self.texts += load.texts
            self.other_verdicts += load.other_verdicts
            self.refusals += load.refusals


async def measure(way: Way, cell: Cell, texts: Path, *, tokens: int, seconds: float) -> None:
    """
    One slice of time for one cell.

    Args:
        way: whom to ask.
        cell: what is seen is added to it.
        texts: the recording.
        tokens: of each text.
        seconds: of measurement, once every edge has had an answer.

    Raises:
        CommandError: a load generator ended without a result.
    """
    edges = cell.edges
    count = min(edges, MAX_PROCESSES)
    firsts = [edges * n // count for n in range(count)]
    rival = ("--together", edges, "--tokens", tokens) if way.streamed else ()
    commands = [
        ("--clients", last - first, "--first", first, *rival)
        for first, last in zip(firsts, [*firsts[1:], edges], strict=True)
    ]
    async with load_processes(way.daemon, texts, *commands) as loads:
        part = lone_slice(seconds)
        seen, (cpu_s,) = await measure_slices(way.daemon, loads, [part])
    cell.add(part, seen, cpu_s)
