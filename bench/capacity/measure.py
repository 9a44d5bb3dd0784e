"""One cell of the table: so many edges for so many seconds against one daemon."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.command import CommandError
from thinwire.edge.demo import Daemon

MAX_PROCESSES = 2
"""Load generator processes: the machine's cores are shared with the daemon."""
START_TIMEOUT_S = 120.0
END_TIMEOUT_S = 60.0
LEAD_S = 0.3
"""Between telling the load generators of the beginning and the beginning."""


class MeasuredDaemon(Daemon):
    """A daemon whose memory is looked at."""

    @property
    def rss_bytes(self) -> int:
        """Resident memory of the process now."""
        assert self._process is not None, "started"
        with open(f"/proc/{self._process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that the process has taken."""
        assert self._process is not None, "started"
        with open(f"/proc/{self._process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def reload(self) -> None:
        """Have it read its token file again."""
        self._signal(signal.SIGHUP)


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
        return 1e3 * self.cpu_s / self.tokens if self.tokens else float("nan")

    @property
    def percentiles_ms(self) -> tuple[float, float]:
        """(p50, p95) of a round; NaN before any."""
        if len(self.round_s) < 2:
            return (float("nan"), float("nan"))
        cuts = statistics.quantiles(self.round_s, n=20, method="inclusive")
        return 1e3 * cuts[9], 1e3 * cuts[18]

    def to_json(self) -> str:
        """One line, without its newline."""
        values = {name: value for name, value in asdict(self).items() if name != "round_s"}
        p50_ms, p95_ms = self.percentiles_ms
        return json.dumps(
            {
                **values,
                "rounds": len(self.round_s),
                "round_p50_ms": p50_ms,
                "round_p95_ms": p95_ms,
                "tokens_per_s": self.tokens_per_s,
                "cpu_ms_per_token": self.cpu_ms_per_token,
            }
        )


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
    processes = [
        await _start(way, last - first, first, edges, texts, tokens, seconds)
        for first, last in zip(firsts, [*firsts[1:], edges], strict=True)
    ]
    try:
        for process in processes:
            await line_of(process, START_TIMEOUT_S)
        begin_s = time.monotonic() + LEAD_S
        begin = f"{begin_s}\n".encode()
        for process in processes:
            assert process.stdin is not None, "a pipe"
            process.stdin.write(begin)
            await process.stdin.drain()
        await asyncio.sleep(begin_s - time.monotonic())
        cpu_before_s = way.daemon.cpu_s
        await asyncio.sleep(begin_s + seconds - time.monotonic())
        cell.cpu_s += way.daemon.cpu_s - cpu_before_s
        lines = [await line_of(process, END_TIMEOUT_S) for process in processes]
    finally:
        for process in processes:
            if process.returncode is None:
                process.terminate()
            await process.wait()
    cell.seconds += seconds
    for line in lines:
        seen = json.loads(line)
        for name in ("tokens", "round_s", "texts", "other_verdicts", "refusals"):
            setattr(cell, name, getattr(cell, name) + seen[name])


async def _start(
    way: Way, edges: int, first: int, all_edges: int, texts: Path, tokens: int, seconds: float
) -> asyncio.subprocess.Process:
    arguments: list[Any] = [
        *("--address", await way.daemon.address(), "--texts", texts, "--edges", edges, "--first", first),
        *("--seconds", seconds, "--tokens", tokens, "--together", all_edges if way.streamed else 0),
    ]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.capacity.replay",
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=64 * 1024 * 1024,
    )


async def line_of(process: asyncio.subprocess.Process, timeout_s: float) -> bytes:
    """
    The next line a load generator prints.

    Raises:
        TimeoutError: none came in time.
        CommandError: it ended without one.
    """
    assert process.stdout is not None, "a pipe"
    async with asyncio.timeout(timeout_s):
        line = await process.stdout.readline()
    if not line:
        raise CommandError("a load generator ended without a result; its own words are above.")
    return line
