"""
`make run`: a cloud and an edge as two processes on loopback, one completion, and nothing left behind.

The daemons run in process groups of their own, so that Ctrl-C reaches this process alone, which
then stops them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console

import thinwire
from thinwire.common import demo_pair, wire
from thinwire.common.daemon.exit_codes import ExitCode

DEFAULT_PROMPT = '''\
def read_lines(path, encoding="utf-8"):
    """Return the lines of a text file, without their line ends.

    Empty lines and lines that start with "#" are left out.
    """
    with open(path, encoding=encoding) as'''
"""
The bundled pair writes Python. Cut within a line: behind the docstring's last line the target ends the text
two times in five.
"""

_WHAT_IT_WAS = """
The text is that of the bundled demonstration pair: a target model of 10 M parameters, which writes what looks
like Python, and a draft model of 1.5 M (demo-pair/thinwire_demo_pair/MODEL_CARD.md).
What each figure is: docs/operations.md, Output.
What they come to on thin links, and when all this is worth having: docs/results.md."""

STOP_TIMEOUT_S = 5.0
"""How long a daemon may take to stop after SIGTERM before it is killed."""
_POLL_S = 0.02
_LAST_LOG_LINES = 15


class DaemonDiedError(Exception):
    """A daemon ended before it was serving."""


class Daemon:
    """
    One daemon as a child process, with its log and its port in `folder`.

    Args:
        name: "cloud" or "edge", for messages and file names.
        folder: exists; the caller removes it.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        self._port_file = folder / f"{name}.port"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *arguments: str) -> None:
        """Start `python -m NAME ARGUMENTS` on any free loopback port."""
        environment = {
            **os.environ,
            "PYTHONPATH": _import_path(),
            "PYTHONUNBUFFERED": "1",
            # Importing torch leaves a cache folder in the temporary folder; it goes with ours.
            "TMPDIR": str(self._log.parent),
        }
        command = [
            sys.executable,
            "-m",
            *arguments,
            "--listen",
            "127.0.0.1:0",
            "--port-file",
            str(self._port_file),
            "--log-format",
            "text",
        ]
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    async def address(self) -> str:
        """
        HOST:PORT, once the daemon has bound it.

        Raises:
            DaemonDiedError: it ended instead.
        """
        while not self._port_file.exists():
            self._check_alive()
            await asyncio.sleep(_POLL_S)
        return f"127.0.0.1:{self._port_file.read_text().strip()}"

    async def serving(self, service: str) -> None:
        """
        Wait until its health is SERVING.

        Raises:
            DaemonDiedError: it ended instead.
        """
        async with grpc.aio.insecure_channel(await self.address(), options=wire.channel_options()) as channel:
            while not await wire.is_serving(channel, service, timeout_s=1.0):
                self._check_alive()
                await asyncio.sleep(_POLL_S)

    def keep_on(self, core: int) -> None:
        """Have the threads it has now, and those that they will start, run on this core alone."""
        assert self._process is not None, "not started"
        seen: set[str] = set()
        # A thread takes the core of the one that starts it: until there is none that was started meanwhile.
        while threads := set(os.listdir(f"/proc/{self._process.pid}/task")) - seen:
            for thread in threads:
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    os.sched_setaffinity(int(thread), {core})
            seen |= threads

    def terminate(self) -> None:
        """Ask the daemon to drain and stop."""
        self._signal(signal.SIGTERM)

    async def stopped(self) -> None:
        """Wait until the daemon has ended; kill it after the stop timeout."""
        if self._process is None:
            return
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self._process.wait()

    def _check_alive(self) -> None:
        if self._process is not None and self._process.returncode is not None:
            raise DaemonDiedError(
                f"the {self.name} daemon ended with exit code {self._process.returncode}; "
                f"its last log lines:\n"
                f"{self._last_log_lines()}"
            )

    def _last_log_lines(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LOG_LINES:]
        return "\n".join(f"  {line}" for line in lines)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


async def run_demo(
    generate: Callable[[str], Awaitable[int]], *, pair: str | None, console: Console, quiet: bool = False
) -> int:
    """
    Start both daemons, generate, stop both.

    Args:
        generate: streams one completion from the edge at the address given; returns the exit code.
        pair: folder with draft/ and target/; None for the bundled pair.
        console: progress, what pair it was, and errors go here.
        quiet: only errors do.

    Returns:
        the exit code.
    """
    models = Path(pair) if pair is not None else demo_pair.target_path().parent
    for role in ("target", "draft"):
        if not (models / role / "config.json").is_file():
            console.print(
                f"thinwire: no {role} model in {models}; expected the folder {role}/ there.", highlight=False
            )
            return ExitCode.MODEL
    task = asyncio.current_task()
    assert task is not None, "runs in a task"
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    with tempfile.TemporaryDirectory(prefix="thinwire-") as folder:
        cloud, edge = Daemon("cloud", Path(folder)), Daemon("edge", Path(folder))
        try:
            address = await _told(serve_pair(cloud, edge, models), None if quiet else console)
            code = await generate(address)
            if pair is None and not quiet:
                console.print(_WHAT_IT_WAS, markup=False, highlight=False, soft_wrap=True)
            return code
        except DaemonDiedError as error:
            console.print(f"thinwire: {error}", markup=False, highlight=False)
            return ExitCode.MODEL
        finally:
            # Another Ctrl-C must not leave a daemon behind; stopping is bounded.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, lambda: None)
            edge.terminate()
            cloud.terminate()
            await asyncio.gather(edge.stopped(), cloud.stopped())


async def _told(serving: Coroutine[Any, Any, str], console: Console | None) -> str:
    """Wait until both serve, and say so: on a terminal with a spinner, elsewhere in plain lines alone."""
    if console is None:
        return await serving
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    with console.status("loading both models ...") if console.is_terminal else contextlib.nullcontext():
        console.print("thinwire: starting a cloud and an edge on this machine", highlight=False)
        address = await serving
    console.print(
        f"thinwire: both have loaded their models, {loop.time() - begun_s:.1f} s\n", highlight=False
    )
    return address


async def serve_pair(cloud: Daemon, edge: Daemon, models: Path) -> str:
    """
    Start both side by side, wait until both serve, and let them share a core where that is faster.

    Args:
        cloud: not started.
        edge: not started.
        models: folder with target/ and draft/.

    Returns:
        the edge's HOST:PORT.

    Raises:
        DaemonDiedError: one of them ended instead.
    """
    serve = ("thinwire.cloud", "serve", "--allow-dense-f16")  # nobody else's cloud: every scheme may be tried
    await cloud.start(*serve, "--model", str(models / "target"), "--threads", str(target_threads()))
    address = await cloud.address()
    await edge.start(
        "thinwire.edge", "edge", "--model", str(models / "draft"), "--cloud", address, "--threads", "1"
    )
    waiting = [
        asyncio.ensure_future(cloud.serving(wire.VERIFIER_SERVICE)),
        asyncio.ensure_future(edge.serving(wire.GENERATOR_SERVICE)),
    ]
    try:
        await asyncio.gather(*waiting)
    finally:
        for future in waiting:
            future.cancel()
    core = shared_core()
    if core is not None:  # only now: loading took both cores
        cloud.keep_on(core)
        edge.keep_on(core)
    return await edge.address()


def shared_core() -> int | None:
    """
    The core for both daemons of one text, None where they are better left alone.

    They take turns, so that of two cores each would sleep half the time, and a core that has slept is slower
    (docs/decisions/0010-one-core-for-two-that-take-turns.md).
    """
    if not hasattr(os, "sched_getaffinity") or target_threads() > 1:
        return None
    return max(os.sched_getaffinity(0))


def target_threads() -> int:
    """Of a target model beside its edge: one for every core but one."""
    return max(1, (os.cpu_count() or 1) - 1)


def _import_path() -> str:
    """Where `thinwire` is imported from, first in the children's path."""
    roots = [str(Path(folder).resolve().parent) for folder in thinwire.__path__]
    return os.pathsep.join(filter(None, [*roots, os.environ.get("PYTHONPATH", "")]))
