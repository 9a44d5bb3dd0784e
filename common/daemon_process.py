"""The life of a daemon's process: bind, load the model, serve until a signal, drain."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from common.errors import ConfigError, ThinwireError, TransportError
from common.exit_codes import ExitCode

if TYPE_CHECKING:
    from common.language_model import LanguageModel


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """What both daemons' command lines say of model and address."""

    model: str
    """Folder in Hugging Face format, or hub id."""
    listen: str
    """HOST:PORT; port 0 for any free one."""
    revision: str | None = None
    dtype: str = "float32"
    device: str = "cpu"
    threads: int | None = None
    """Threads of the model; None leaves torch's own choice."""
    port_file: str | None = None
    """Where the bound port is written once the server listens."""

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads is {self.threads}; expected at least 1.")


class Server(Protocol):
    """What a daemon's server can do."""

    async def start(self, listen: str) -> int:
        """Bind and listen; returns the port, TransportError if the address cannot be had."""

    async def stop(self, grace_s: float | None = None) -> None:
        """Drain."""


async def run_daemon(
    server: Server,
    options: DaemonOptions,
    *,
    program: str,
    executor: ThreadPoolExecutor,
    on_loaded: Callable[[LanguageModel], Awaitable[None]],
) -> ExitCode:
    """
    Run one daemon until SIGTERM or SIGINT; errors are printed as one sentence.

    Args:
        server: not started; answers health before the model is there.
        program: name in front of every line said on standard error.
        executor: the model's one thread; it also loads the model.
        on_loaded: hands the model to the server.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    def say(sentence: str) -> None:
        print(f"{program}: {sentence}", file=sys.stderr, flush=True)

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    host = options.listen.rpartition(":")[0]
    if host.strip("[]") not in ("127.0.0.1", "localhost", "::1"):
        say(
            f"WARNING: listening on {host} without encryption or authentication; "
            "anyone who reaches it may use it."
        )
    try:
        port = await server.start(options.listen)
    except TransportError as error:
        say(error.message)
        return ExitCode.CANNOT_LISTEN
    if options.port_file is not None:
        _write_port(options.port_file, port)
    say(f"listening on {host}:{port}, loading {options.model}")
    loading = loop.run_in_executor(executor, _load, options, say)
    stopped: asyncio.Future[Any] = asyncio.ensure_future(stopping.wait())
    waited: set[asyncio.Future[Any]] = {loading, stopped}
    try:
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            # Loading cannot be interrupted and holds nothing that needs an orderly end.
            say("stopped while loading")
            sys.stderr.flush()
            os._exit(ExitCode.OK)
        try:
            model = loading.result()
        except ThinwireError as error:
            say(error.message)
            return ExitCode.USAGE if error.status == "INVALID_ARGUMENT" else ExitCode.MODEL
        await on_loaded(model)
        say(f"serving {model.name} ({model.dtype}, {model.device})")
        await stopped
        say("draining")
        return ExitCode.OK
    finally:
        stopped.cancel()
        await server.stop()


def _load(options: DaemonOptions, say: Callable[[str], None]) -> LanguageModel:
    """Load the model; torch is imported here, so that everything else of the command starts at once."""
    from common.language_model import load_language_model, set_threads

    if options.threads is not None:
        set_threads(options.threads)
    model = load_language_model(
        options.model,
        revision=options.revision,
        dtype=options.dtype,
        device=options.device,
        on_progress=lambda stage: say(f"loading: {stage}"),
    )
    for warning in model.warnings:
        say(warning)
    _ = model.vocabulary.identity  # hashing takes a moment; done here, off the event loop
    return model


def _write_port(path: str, port: int) -> None:
    """Write the bound port so that a reader never sees half of it."""
    partial = f"{path}.partial"
    with open(partial, "w", encoding="ascii") as file:
        file.write(f"{port}\n")
    os.replace(partial, path)
