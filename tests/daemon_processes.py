"""Daemons as processes beside a test: on loopback, with one thread, ended with their context."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from thinwire.common.daemon import launcher

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.02


class Daemon(launcher.Daemon):
    """One whose log is read on line by line."""

    _read = 0
    """Characters of the log that `says` has gone past."""

    async def says(self, part: str) -> str:
        """The next line of its log with this part."""
        while True:
            ended = self.returncode is not None
            for line in self.log[self._read :].splitlines(keepends=True):
                if line.endswith("\n"):
                    self._read += len(line)
                    if part in line:
                        return line
            assert not ended, f"the daemon ended before it said {part!r}: {self.log}"
            await asyncio.sleep(POLL_S)


async def started(folder: Path, *arguments: str, listen: str = "127.0.0.1:0", **environment: str) -> Daemon:
    """`python -m ARGUMENTS`, whose last part names its log and port file; whoever asks ends it."""
    name = arguments[0].rpartition(".")[2]
    daemon = Daemon(name, folder, listen=listen, stop_timeout_s=STOP_TIMEOUT_S)
    daemon.start(*arguments, "--threads", "1", environment={"HF_HUB_OFFLINE": "1", **environment})
    return daemon


@asynccontextmanager
async def daemon(folder: Path, *arguments: str, **options: str) -> AsyncIterator[Daemon]:
    """One that has said where it listens, as `started`."""
    process = await started(folder, *arguments, **options)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await process.says("listening on")
        yield process
    finally:
        await stopped(process)


async def stopped(process: Daemon) -> int | None:
    """Its exit code after SIGTERM, if it still runs."""
    process.terminate()
    return await process.stopped()
