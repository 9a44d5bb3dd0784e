"""
`make run`: a cloud and an edge as two processes on loopback, one completion, and nothing left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from rich.console import Console

from thinwire.common import demo_pair, wire
from thinwire.common.daemon.exit_codes import ExitCode
from thinwire.common.daemon.launcher import Daemon, DaemonDiedError

DEFAULT_PROMPT = '''\
def read_lines(path, encoding="utf-8"):
    """Return the lines of a text file, without their line ends.

    Empty lines and lines that start with "#" are left out.
    """
    with open(path, encoding=encoding) as'''
"""
The bundled pair writes Python. Cut within a line: after the docstring's last line the target ends the text
two times in five.
"""

_WHAT_IT_WAS = """
The text is that of the bundled demonstration pair: a target model of 10 M parameters, which writes what looks
like Python, and a draft model of 1.5 M (demo-pair/thinwire_demo_pair/MODEL_CARD.md).
What each figure is: docs/operations.md, Output.
What they come to on thin links, and when all this is worth having: docs/results.md."""


async def run_demo(
    generate: Callable[[str], Awaitable[int]], *, pair: str | None, console: Console, quiet: bool = False
) -> int:
    """
    Start both daemons, generate, stop both; returns the exit code.

    Args:
        generate: streams one completion from the edge at the address given; returns the exit code.
        pair: folder with draft/ and target/; None for the bundled pair.
        console: progress, what pair it was, and errors go here; when quiet, only errors.
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

    `models` is the folder with target/ and draft/. Returns the edge's HOST:PORT; DaemonDiedError if one ends.
    """
    # Nobody else's cloud: every scheme may be tried.
    serve = ("thinwire.cloud", "serve", "--allow-dense-f16", "--log-format", "text")
    cloud.start(*serve, "--model", str(models / "target"), "--threads", str(target_threads()))
    edge.start(
        *("thinwire.edge", "edge", "--log-format", "text", "--cloud", await cloud.address()),
        *("--model", str(models / "draft"), "--threads", "1"),
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
        keep_on(cloud, core)
        keep_on(edge, core)
    return await edge.address()


def keep_on(daemon: Daemon, core: int) -> None:
    """Have the threads it has now, and those that they will start, run on this core alone."""
    seen: set[str] = set()
    # A thread takes the core of the one that starts it: until there is none that was started meanwhile.
    while threads := set(os.listdir(f"/proc/{daemon.pid}/task")) - seen:
        for thread in threads:
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setaffinity(int(thread), {core})
        seen |= threads


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
    """Threads of a target model beside its edge: one for every core but one."""
    return max(1, (os.cpu_count() or 1) - 1)
