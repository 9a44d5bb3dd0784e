"""SIGHUP: the token file is read by another thread than the one that serves."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from security.credentials import Tokens
from thinwire.common.daemon.exit_codes import ExitCode
from thinwire.common.daemon.process import run_daemon
from thinwire.common.daemon.settings import DaemonOptions
from thinwire.common.door.security import ServerSecurity
from thinwire.common.door.tenants import Access


class WatchedAccess(Access):
    """Tells who read its file again."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.was_read = threading.Event()
        self.reader: threading.Thread | None = None

    def reload(self) -> int:
        """As it does."""
        tenants = super().reload()
        self.reader = threading.current_thread()
        self.was_read.set()
        return tenants


class HangsUp:
    """A server that gets SIGHUP once it listens, and stops when the file has been read."""

    def __init__(self, access: WatchedAccess) -> None:
        self._access = access

    async def start(self, listen: str) -> int:
        """No port."""
        os.kill(os.getpid(), signal.SIGHUP)
        return 1

    async def stop(self, grace_s: float | None = None) -> None:
        """Once the file has been read."""
        assert await asyncio.to_thread(self._access.was_read.wait, 10)


async def test_the_token_file_is_read_again_off_the_event_loop(tmp_path: Path) -> None:
    """A disk that takes its time holds up no round."""
    tokens = Tokens(tmp_path / "tokens.json")
    tokens.add("acme")
    access = WatchedAccess(str(tokens.path))
    later = tokens.add("late")
    options = DaemonOptions(str(tmp_path / "nonesuch"), "127.0.0.1:0", security=ServerSecurity(access=access))
    with ThreadPoolExecutor(1) as executor:
        code = await run_daemon(
            HangsUp(access), options, program="daemon", executor=executor, on_loaded=lambda model: None
        )

    assert code is ExitCode.MODEL
    assert access.authenticate(later).tenant == "late"
    assert access.reader is not threading.main_thread()
