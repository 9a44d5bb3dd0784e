"""Daemons of a measurement: started together, looked at, ended."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bench.peers.messages import SERVICE
from thinwire.common import wire
from thinwire.common.daemon.launcher import Daemon

CLOUD, PEERS, EDGE = "bench.grid.cloud", "bench.peers", "thinwire.edge"
SERVICES = {CLOUD: wire.VERIFIER_SERVICE, PEERS: SERVICE, EDGE: wire.GENERATOR_SERVICE}


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

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self.pid}/{name}").read_text(encoding="ascii")


@asynccontextmanager
async def serving(
    folder: Path, commands: Mapping[str, Sequence[str]]
) -> AsyncIterator[dict[str, MeasuredDaemon]]:
    """
    Daemons that serve, by name, ended at the end.

    Args:
        folder: of their logs and ports; exists.
        commands: by name; a module of `SERVICES` and its arguments.

    Raises:
        DaemonDiedError: one ended before it served.
    """
    daemons = {name: MeasuredDaemon(name, folder) for name in commands}
    try:
        for name, daemon in daemons.items():
            daemon.start(*commands[name])
        for name, daemon in daemons.items():
            await daemon.serving(SERVICES[commands[name][0]])
        yield daemons
    finally:
        for daemon in daemons.values():
            daemon.terminate()
        await asyncio.gather(*(daemon.stopped() for daemon in daemons.values()))
