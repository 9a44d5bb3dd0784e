"""What goes wrong in a fault campaign: a relay that fails, daemons that die."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from loopback import CuttableLink
from thinwire.common.daemon.launcher import Daemon

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
_ROOT = Path(__file__).parents[2]
_PATHS = os.pathsep.join([*map(str, (_ROOT, _ROOT / "tests")), os.environ.get("PYTHONPATH", "")])


class FaultyLink(CuttableLink):
    """
    A relay that delays every chunk, and can cut, stall, or refuse.

    Args:
        delay_s: added to every chunk, each way.
    """

    def __init__(self, delay_s: float) -> None:
        super().__init__()
        self._delay_s = delay_s
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def stall(self, seconds: float) -> None:
        """Hold back everything for a while; connections stay."""
        self._flowing.clear()
        await asyncio.sleep(seconds)
        self._flowing.set()

    async def refuse(self, seconds: float) -> None:
        """Cut, and let no new connection through for a while."""
        self.down = True
        self.cut()
        await asyncio.sleep(seconds)
        self.down = False

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction of one connection."""
        while data := await reader.read(65536):
            await asyncio.sleep(self._delay_s)
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        writer.close()


class Process(Daemon):
    """
    A daemon that can be killed, stopped and started again on its port.

    Args:
        name: of its log.
        folder: for it.
        service: whose health tells that it serves.
        command: behind `python -m`.
    """

    def __init__(self, name: str, folder: Path, service: str, *command: str) -> None:
        super().__init__(name, folder, stop_timeout_s=STOP_TIMEOUT_S)
        self._service = service
        self._command = command

    async def up(self) -> str:
        """Start, and wait until it is SERVING; returns HOST:PORT."""
        self.start(*self._command, environment={"PYTHONPATH": _PATHS})
        async with asyncio.timeout(START_TIMEOUT_S):
            return await self.serving(self._service)

    async def down(self) -> None:
        """SIGTERM, and wait for the drain."""
        self.terminate()
        code = await self.stopped()
        assert code == 0, f"the {self.name} daemon ended with {code}"


class Storm:
    """
    A seeded row of faults, one at a time.

    Args:
        link: between edge and cloud.
        cloud, edge: running.
        seed: of the row.
        pause_s: mean pause between two faults.
        hold_s: the longest stall; the longest refusal is three quarters of it.
    """

    def __init__(
        self, link: FaultyLink, cloud: Process, edge: Process, *, seed: int, pause_s: float, hold_s: float
    ) -> None:
        self._link, self._cloud, self._edge = link, cloud, edge
        self._random = random.Random(seed)
        self._pause_s = pause_s
        self._hold_s = hold_s
        self.counts: Counter[str] = Counter()
        """Faults by name."""
        self._over = asyncio.Event()

    def calm(self) -> None:
        """The fault under way is the last; both daemons are there when `rage` returns."""
        self._over.set()

    async def rage(self) -> None:
        """One fault after the other, until `calm`; a daemon that was taken down is brought back."""
        faults: list[tuple[str, float, Callable[[], Awaitable[None]]]] = [
            ("cut", 4, self._cut),
            ("short stall", 3, lambda: self._link.stall(self._random.uniform(0.05, 0.3))),
            ("long stall", 2, lambda: self._link.stall(self._random.uniform(0.25, 1.0) * self._hold_s)),
            ("refused", 2, lambda: self._link.refuse(self._random.uniform(0.1, 0.75) * self._hold_s)),
            ("cloud killed", 2, self._kill_cloud),
            ("cloud restarted", 2, self._restart_cloud),
            ("edge killed", 1, self._kill_edge),
        ]
        # Each kind once, then by weight: a short campaign has met them all.
        row = self._random.sample(faults, len(faults))
        while not self._over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), self._random.expovariate(1 / self._pause_s))
                return
            name, _, act = row.pop() if row else self._random.choices(faults, [f[1] for f in faults])[0]
            await act()
            self.counts[name] += 1

    async def _cut(self) -> None:
        self._link.cut()

    async def _kill_cloud(self) -> None:
        await self._cloud.killed()
        await self._cloud.up()

    async def _restart_cloud(self) -> None:
        await self._cloud.down()
        await self._cloud.up()

    async def _kill_edge(self) -> None:
        await self._edge.killed()
        await self._edge.up()
