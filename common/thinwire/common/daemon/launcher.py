"""
A daemon as a child process: started, awaited by its health, read, stopped or killed.

A daemon runs in a process group of its own, so that Ctrl-C reaches the parent alone, which then stops it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import thinwire
from thinwire.common import wire
from thinwire.common.door.security import ClientSecurity

STOP_TIMEOUT_S = 5.0
"""How long a daemon may take to stop after SIGTERM before it is killed."""
_PLAINTEXT = ClientSecurity(insecure_plaintext=True)
_POLL_S = 0.02
_LAST_LOG_LINES = 15


class DaemonDiedError(Exception):
    """A daemon ended before it was serving; the message ends in its last log lines."""


@dataclass(eq=False)
class Daemon:
    """
    One daemon as a child process, with its log and its port in `folder`, which the caller makes and removes.

    What waits is a coroutine; a caller without an event loop runs it with `asyncio.run`.

    """

    name: str
    """For messages and file names."""
    folder: Path
    _: KW_ONLY
    listen: str = "127.0.0.1:0"
    """HOST:PORT. A daemon that is started again keeps the port that it had."""
    popen: Callable[..., subprocess.Popen[Any]] = subprocess.Popen
    """Starts the process as `subprocess.Popen` does."""
    stop_timeout_s: float = STOP_TIMEOUT_S
    """How long it may take to stop before it is killed."""

    def __post_init__(self) -> None:
        self._log = self.folder / f"{self.name}.log"
        self._port_file = self.folder / f"{self.name}.port"
        self._process: subprocess.Popen[Any] | None = None

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Start `python -m ARGUMENTS --listen HOST:PORT --port-file FILE`; its output is added to the log."""
        self._port_file.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = self.popen(
                [
                    *(sys.executable, "-m", *arguments),
                    *("--listen", self.listen, "--port-file", str(self._port_file)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "PYTHONPATH": _import_path(),
                    "PYTHONUNBUFFERED": "1",
                    # Importing torch leaves a cache folder in the temporary folder; it goes with ours.
                    "TMPDIR": str(self._log.parent),
                    **(environment or {}),
                },
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Id of its process, which is also its process group."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    async def address(self) -> str:
        """HOST:PORT to dial, once the daemon has bound it; DaemonDiedError if it ended instead."""
        while not self._port_file.exists():
            self.check()
            await asyncio.sleep(_POLL_S)
        port = self._port_file.read_text().strip()
        host = self.listen.rpartition(":")[0]
        self.listen = f"{host}:{port}"
        return f"{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"

    async def serving(self, service: str, security: ClientSecurity = _PLAINTEXT) -> str:
        """HOST:PORT, once its health is SERVING; DaemonDiedError if it ended instead."""
        address = await self.address()
        async with wire.open_channel(address, security) as channel:
            while not await wire.is_serving(channel, service, timeout_s=1.0):
                self.check()
                await asyncio.sleep(_POLL_S)
        return address

    @property
    def returncode(self) -> int | None:
        """Its exit code; None while it runs, or was never started."""
        return None if self._process is None else self._process.poll()

    def check(self) -> None:
        """Hold that it runs; DaemonDiedError if it has ended."""
        if self.returncode is not None:
            lines = "\n".join(f"  {line}" for line in self.log.splitlines()[-_LAST_LOG_LINES:])
            raise DaemonDiedError(
                f"the {self.name} daemon ended with exit code {self.returncode}; its last log lines:\n{lines}"
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process group, if it still runs."""
        if self._process is not None and self.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def terminate(self) -> None:
        """Ask the daemon to drain and stop."""
        self.signal(signal.SIGTERM)

    async def ended(self) -> int | None:
        """Its exit code, once it has ended by itself; None if it was never started."""
        while self._process is not None and self.returncode is None:
            await asyncio.sleep(_POLL_S)
        return self.returncode

    async def stopped(self) -> int | None:
        """Its exit code, once it has ended after `terminate`; it is killed after the stop timeout."""
        try:
            async with asyncio.timeout(self.stop_timeout_s):
                return await self.ended()
        except TimeoutError:
            return await self.killed()

    async def killed(self) -> int | None:
        """Its exit code after SIGKILL."""
        self.signal(signal.SIGKILL)
        return await self.ended()


def _import_path() -> str:
    """Where `thinwire` is imported from, first in the children's path."""
    roots = [str(Path(folder).resolve().parent) for folder in thinwire.__path__]
    return os.pathsep.join(filter(None, [*roots, os.environ.get("PYTHONPATH", "")]))
