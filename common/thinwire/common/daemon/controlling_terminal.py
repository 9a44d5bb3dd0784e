"""
Whether a SIGHUP says that the terminal has hung up, or comes from somebody who wants a file read again.

The kernel sends one to the foreground when a terminal is closed, and a shell hands it to its jobs; a handler
in Python does not learn whose it was.
But that a terminal hangs up can be seen: the SIGHUPs of that moment are the terminal's, all others are not.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

HANG_UP_S = 5.0
"""Seconds after a hang-up in which its SIGHUPs come, those that a shell hands on among them."""


class ControllingTerminal:
    """The terminal, an open descriptor, that the process was started from; `loop` tells of the hang-up."""

    def __init__(
        self, terminal: int, loop: asyncio.AbstractEventLoop, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._hung_up_s: float | None = None
        self._poll = select.epoll()
        self._poll.register(terminal, 0)  # of no event but the hang-up, which is always told
        loop.add_reader(self._poll.fileno(), self._look)

    def hangs_up(self) -> bool:
        """Whether a SIGHUP that came just now is the terminal's."""
        self._look()
        return self._hung_up_s is not None and self._clock() - self._hung_up_s < HANG_UP_S

    def close(self) -> None:
        """Watch it no longer."""
        self._loop.remove_reader(self._poll.fileno())
        self._poll.close()

    def _look(self) -> None:
        if self._hung_up_s is None and self._poll.poll(0):
            self._hung_up_s = self._clock()
            self._loop.remove_reader(self._poll.fileno())


@asynccontextmanager
async def controlling_terminal() -> AsyncIterator[ControllingTerminal | None]:
    """
    The process's own while the context lasts.

    None for a process that has none, like a service; for one that was told to outlive it (`nohup`, by which
    SIGHUP is ignored); and where a hang-up cannot be watched (outside Linux).
    """
    descriptor = None
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and hasattr(select, "epoll"):
        flags = os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK
        with suppress(OSError):
            # In a thread: opening a device is no question that an event loop may wait for.
            descriptor = await asyncio.to_thread(os.open, "/dev/tty", flags)
    if descriptor is None:
        yield None
        return
    terminal = ControllingTerminal(descriptor, asyncio.get_running_loop())
    try:
        yield terminal
    finally:
        terminal.close()
        os.close(descriptor)
