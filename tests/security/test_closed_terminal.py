"""A daemon with tokens on a terminal that is closed, and SIGHUPs that are not the terminal's."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from daemon_processes import Daemon
from security.credentials import Tokens
from thinwire.common.daemon.controlling_terminal import HANG_UP_S, ControllingTerminal

ON_TERMINAL = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)
"""What is started under nohup ignores SIGHUP, and so would the daemon."""
AGAIN = "the tokens were read again"


@asynccontextmanager
async def daemon(folder: Path, *before: str) -> AsyncIterator[tuple[Daemon, Callable[[], None]]]:
    """
    A cloud with tokens that serves, as the session leader of a terminal of its own; killed at the end.

    Yields:
        the daemon, and what closes its terminal.
    """
    tokens = Tokens(folder / "tokens.json")
    tokens.add("acme")
    master, terminal = pty.openpty()

    def popen(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        leader = [sys.executable, "-c", ON_TERMINAL, *before, *command]
        return subprocess.Popen(leader, **{**options, "stdin": terminal, "stdout": terminal, "cwd": folder})

    cloud = Daemon("cloud", folder, popen=popen)
    cloud.start(
        "thinwire.cloud", "serve", "--threads", "1", "--tokens", str(tokens.path), "--log-format", "text"
    )
    os.close(terminal)
    try:
        async with asyncio.timeout(60):
            await cloud.says("serving")
        yield cloud, partial(os.close, master)
    finally:
        await cloud.killed()


async def test_a_closed_terminal_ends_a_daemon_with_tokens(tmp_path: Path) -> None:
    """In good order; before that a SIGHUP has the tokens read again, on a terminal too."""
    async with daemon(tmp_path) as (cloud, hang_up), asyncio.timeout(60):
        cloud.signal(signal.SIGHUP)
        await cloud.says(AGAIN)
        hang_up()
        code = await cloud.ended()

    assert code == 0
    assert cloud.log.splitlines()[-1] == "thinwire-cloud: draining"


async def test_nohup_keeps_a_daemon_whose_terminal_is_closed(tmp_path: Path) -> None:
    """A SIGHUP still has the tokens read again, that of the hang-up too."""
    async with daemon(tmp_path, "/usr/bin/nohup") as (cloud, hang_up), asyncio.timeout(60):
        hang_up()
        await cloud.says(AGAIN)
        cloud.terminate()
        code = await cloud.ended()

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
