"""The process of `thinwire edge`: bind, load the model, serve until a signal, drain."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import ThinwireError, TransportError
from common.telemetry import RoundLog
from edge.daemon import EdgeServer, ModelShown
from edge.exit_codes import ExitCode
from edge.settings import EdgeSettings

if TYPE_CHECKING:
    from common.language_model import LanguageModel


@dataclass(frozen=True, slots=True)
class EdgeOptions:
    """What the command line says of one edge daemon."""

    model: str
    cloud: str
    listen: str
    revision: str | None
    dtype: str
    device: str
    threads: int | None
    port_file: str | None
    round_log: str | None
    settings: EdgeSettings


async def serve(options: EdgeOptions) -> ExitCode:
    """Run one edge daemon until SIGTERM or SIGINT; errors are printed as one sentence."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        round_log = RoundLog(options.round_log) if options.round_log is not None else None
    except OSError as error:
        _say(f"the round log {options.round_log!r} cannot be opened ({error.strerror}).")
        return ExitCode.USAGE
    executor = ThreadPoolExecutor(1, thread_name_prefix="draft-model")
    server = EdgeServer(
        None,
        vocabulary=None,
        cloud_address=options.cloud,
        settings=options.settings,
        executor=executor,
        round_log=round_log,
    )
    try:
        port = await server.start(options.listen)
    except TransportError as error:
        _say(error.message)
        return ExitCode.CANNOT_LISTEN
    if options.port_file is not None:
        _write_port(options.port_file, port)
    _say(f"listening on {options.listen.rpartition(':')[0]}:{port}, loading {options.model}")
    code = await _serve_model(server, options, executor, stopping)
    await server.stop()
    if round_log is not None:
        round_log.close()
    return code


async def _serve_model(
    server: EdgeServer, options: EdgeOptions, executor: ThreadPoolExecutor, stopping: asyncio.Event
) -> ExitCode:
    """Load in the model's thread, then serve until told to stop."""
    loading = asyncio.get_running_loop().run_in_executor(executor, _load, options)
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({loading, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            # Loading cannot be interrupted and holds nothing that needs an orderly end.
            _say("stopped while loading")
            sys.stderr.flush()
            os._exit(ExitCode.OK)
        try:
            model = loading.result()
        except ThinwireError as error:
            _say(error.message)
            return ExitCode.USAGE if error.status == "INVALID_ARGUMENT" else ExitCode.MODEL
        shown = ModelShown(model.name, model.dtype, model.device)
        await server.model_loaded(model, vocabulary=model.vocabulary, shown=shown)
        _say(f"serving {model.name} ({model.dtype}, {model.device}); the cloud is {options.cloud}")
        await stopped
        _say("draining")
        return ExitCode.OK
    finally:
        stopped.cancel()


def _load(options: EdgeOptions) -> LanguageModel:
    """Load the draft model; torch is imported here, so that everything else of the command starts at once."""
    from common.language_model import load_language_model, set_threads

    if options.threads is not None:
        set_threads(options.threads)
    model = load_language_model(
        options.model,
        revision=options.revision,
        dtype=options.dtype,
        device=options.device,
        on_progress=lambda stage: _say(f"loading: {stage}"),
    )
    for warning in model.warnings:
        _say(warning)
    _ = model.vocabulary.identity  # hashing takes a moment; done here, off the event loop
    return model


def _write_port(path: str, port: int) -> None:
    """Write the bound port so that a reader never sees half of it."""
    partial = f"{path}.partial"
    with open(partial, "w", encoding="ascii") as file:
        file.write(f"{port}\n")
    os.replace(partial, path)


def _say(sentence: str) -> None:
    print(f"thinwire edge: {sentence}", file=sys.stderr, flush=True)
