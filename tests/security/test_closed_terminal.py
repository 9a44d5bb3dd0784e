"""A daemon with tokens on a terminal that is closed, and SIGHUPs that are not the terminal's."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from security.credentials import Tokens
from thinwire.common.daemon.controlling_terminal import HANG_UP_S, ControllingTerminal

ROOT = Path(__file__).resolve().parents[2]
ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
AGAIN = "the tokens were read again"


class Daemon:
    """One with tokens, as the session leader of a terminal of its own; its log is a file."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, master: int) -> None:
        self.process = process
        self._log = log
        self._master = master

    async def says(self, part: str) -> None:
        """Wait until the log has it."""
        async with asyncio.timeout(60):
            while part not in self._log.read_text():
                assert self.process.returncode is None, f"it ended before {part!r}: {self._log.read_text()}"
                await asyncio.sleep(0.01)

    def hang_up(self) -> None:
        """Close the terminal."""
        os.close(self._master)


@asynccontextmanager
async def daemon(folder: Path, *before: str) -> AsyncIterator[Daemon]:
    """A cloud that serves; killed if it has not ended by itself."""
    tokens = Tokens(folder / "tokens.json")
    tokens.add("acme")
    command = (
        *(
            *before,
            sys.executable,
            "-m",
            "thinwire.cloud",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--threads",
            "1",
        ),
        *("--tokens", str(tokens.path), "--log-format", "text"),
    )
    master, terminal = pty.openpty()
    with open(folder / "log", "wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", ON_TERMINAL, *command),
            stdin=terminal,
            stdout=terminal,
            stderr=log,
            start_new_session=True,
            cwd=ROOT,
        )
    os.close(terminal)
    started = Daemon(process, folder / "log", master)
    try:
        await started.says("serving")
        yield started
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_closed_terminal_ends_a_daemon_with_tokens(tmp_path: Path) -> None:
    """In good order; before that a SIGHUP has the tokens read again, on a terminal too."""
    async with daemon(tmp_path) as cloud:
        cloud.process.send_signal(signal.SIGHUP)
        await cloud.says(AGAIN)
        cloud.hang_up()
        code = await asyncio.wait_for(cloud.process.wait(), 30)

    assert code == 0
    assert (tmp_path / "log").read_text().splitlines()[-1] == "thinwire-cloud: draining"


async def test_nohup_keeps_a_daemon_whose_terminal_is_closed(tmp_path: Path) -> None:
    """A SIGHUP still has the tokens read again, that of the hang-up too."""
    async with daemon(tmp_path, "/usr/bin/nohup") as cloud:
        cloud.hang_up()
        await cloud.says(AGAIN)
        cloud.process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(cloud.process.wait(), 30)

    assert code == 0


@pytest.mark.parametrize("seen_at_once", [True, False])
async def test_only_a_signal_that_comes_with_the_hang_up_is_the_terminals(seen_at_once: bool) -> None:
    """A job that its shell disowned lives on, and may be sent SIGHUPs much later."""
    now = 100.0
    master, terminal = pty.openpty()
    watched = ControllingTerminal(terminal, asyncio.get_running_loop(), clock=lambda: now)
    try:
        before = watched.hangs_up()
        os.close(master)
        with_it = seen_at_once and watched.hangs_up()
        await asyncio.sleep(0.05)  # a turn of the loop, which tells
        now += HANG_UP_S
        later = watched.hangs_up()
    finally:
        watched.close()
        os.close(terminal)

    assert (before, with_it, later) == (False, seen_at_once, False)
