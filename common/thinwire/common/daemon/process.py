"""The life of a daemon's process: bind, load the model, serve until a signal, drain."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from thinwire.common.daemon.controlling_terminal import controlling_terminal
from thinwire.common.daemon.exit_codes import ExitCode
from thinwire.common.daemon.metrics_listener import metrics_listener
from thinwire.common.daemon.options import as_typed
from thinwire.common.daemon.settings import DaemonOptions
from thinwire.common.door.security import KeyPair
from thinwire.common.door.tenants import Access
from thinwire.common.door.whole_file import replace_file, usable_file
from thinwire.common.errors import ConfigError, ThinwireError
from thinwire.common.observe.log import announce, logging_to
from thinwire.common.observe.metrics import CONTENT_TYPE, Metrics

if TYPE_CHECKING:
    from thinwire.common.language_model import LanguageModel, Vocabulary

_DAY_S = 86_400.0
Say = Callable[..., None]
"""Takes a sentence and, unless it is INFO, its level."""
Load = Callable[["DaemonOptions", Say], tuple[Any, str]]
"""Makes what is served, and says what it is."""


class Server(Protocol):
    """What a daemon's server can do."""

    async def start(self, listen: str) -> int:
        """Bind and listen; returns the port, TransportError or ConfigError if the address cannot be had."""

    async def stop(self, grace_s: float | None = None) -> None:
        """Drain."""


async def run_daemon(
    server: Server,
    options: DaemonOptions,
    *,
    program: str,
    executor: ThreadPoolExecutor,
    on_loaded: Callable[[Any], Awaitable[None]],
    metrics: Metrics | None = None,
    warnings: Sequence[str] = (),
    load: Load | None = None,
) -> ExitCode:
    """
    Run one daemon until SIGTERM or SIGINT; what becomes of it is logged, errors as one sentence.

    Args:
        server: not started; answers health before the model is there.
        program: name in front of every sentence said on standard error.
        executor: the model's one thread; it also loads the model.
        on_loaded: hands the model to the server; a ThinwireError of its own ends the daemon too.
        metrics: the server's, for `options.metrics_listen`.
        load: what is loaded in place of the model, such as its tokenizer alone.
    """
    async with AsyncExitStack() as stack:
        log = logging_to(
            sys.stderr, format_=options.log_format, exception_messages=options.log_exception_messages
        )
        stack.enter_context(log)
        say: Say = partial(announce, program)
        for warning in warnings:
            say(warning, logging.WARNING)
        stopping = await _signals(options.security.access, say, stack)
        security = options.security
        failure = ExitCode.CANNOT_LISTEN
        try:
            protection = security.described(options.listen)
            for warning in security.warnings(options.listen):
                say(warning, logging.WARNING)
            if security.key_pair is not None:
                stack.callback(asyncio.create_task(_watch_certificate(security.key_pair, say)).cancel)
            if options.metrics_listen is not None:
                at = options.metrics_listen
                if metrics is None:
                    raise ConfigError(
                        f"--metrics-listen is {at}, but this daemon has no metrics; expected none."
                    )
                page = metrics_listener(at, metrics.render, content_type=CONTENT_TYPE)
                say(f"metrics on port {await stack.enter_async_context(page)}, path /metrics")
            port = await server.start(options.listen)
            stack.push_async_callback(server.stop)
            failure = ExitCode.MODEL
            if options.port_file is not None:
                _write_port(options.port_file, port)
            host = options.listen.rpartition(":")[0]
            say(f"listening on {host}:{port} ({protection}), loading {options.model}")
            model, serving = await _loaded(load or _load_model, options, say, executor, stopping)
            await on_loaded(model)
        except ThinwireError as error:
            say(as_typed(error, options.option_names), logging.ERROR)
            return ExitCode.USAGE if error.status == "INVALID_ARGUMENT" else failure
        say(f"serving {serving}")
        await stopping.wait()
        say("draining")
        return ExitCode.OK


async def _signals(access: Access, say: Say, stack: AsyncExitStack) -> asyncio.Event:
    """Set at SIGTERM and SIGINT; at SIGHUP the tokens are read again, where there are any."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if access.is_required:
        terminal = await stack.enter_async_context(controlling_terminal())

        def hang_up() -> None:
            if terminal is not None and terminal.hangs_up():
                stopping.set()  # as without tokens, where the signal ends the process
            else:
                # Off the event loop, since the file may be on a disk that takes its time.
                loop.run_in_executor(None, _read_tokens, access, say)

        loop.add_signal_handler(signal.SIGHUP, hang_up)
    return stopping


async def _loaded(
    load: Load, options: DaemonOptions, say: Say, executor: ThreadPoolExecutor, stopping: asyncio.Event
) -> tuple[Any, str]:
    """What is loaded; a signal that comes first ends the process."""
    loading = asyncio.get_running_loop().run_in_executor(executor, load, options, say)
    stopped = asyncio.ensure_future(stopping.wait())
    waited: set[asyncio.Future[Any]] = {loading, stopped}
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not loading.done():
        # Loading cannot be interrupted and holds nothing that needs an orderly end.
        say("stopped while loading")
        sys.stderr.flush()
        os._exit(ExitCode.OK)
    return loading.result()


def load_model(options: DaemonOptions, say: Say) -> LanguageModel:
    """
    Load the model as `load_language_model`, and set all objects there are aside from the garbage collector.

    torch is imported here, so that everything else of the command starts at once.
    """
    from thinwire.common.language_model import load_language_model, set_threads

    if options.threads is not None:
        set_threads(options.threads)
    model = load_language_model(
        options.model,
        revision=options.revision,
        tokenizer_path=options.tokenizer,
        dtype=options.dtype,
        device=options.device,
        for_pool=options.for_pool,
        on_progress=lambda stage: say(f"loading: {stage}"),
    )
    for warning in model.warnings:
        say(warning, logging.WARNING)
    _settle(model.vocabulary)
    return model


def load_tokenizer(options: DaemonOptions, say: Say) -> tuple[Vocabulary, str]:
    """The tokenizer that a model would have, without any weights, and what is said of it."""
    from thinwire.common.language_model import load_vocabulary

    say("loading: tokenizer")
    name, vocabulary = load_vocabulary(
        options.model, revision=options.revision, tokenizer_path=options.tokenizer
    )
    _settle(vocabulary)
    return vocabulary, f"the tokenizer of {name}, without a model"


def _load_model(options: DaemonOptions, say: Say) -> tuple[LanguageModel, str]:
    model = load_model(options, say)
    return model, f"{model.name} ({model.dtype}, {model.device})"


def _settle(vocabulary: Vocabulary) -> None:
    """Set all objects that are there aside from the garbage collector."""
    _ = vocabulary.identity  # hashing takes a moment; done here, off the event loop
    # What is there now stays: a full collection need not walk through the libraries in mid-round.
    gc.collect()
    gc.freeze()
    # Once more: a full collection is put off until a quarter as many objects are new as the last one left.
    gc.collect()


async def _watch_certificate(pair: KeyPair, say: Say) -> None:
    """Warn of its end once a day, from the start on; for as long as the daemon runs."""
    while True:
        warning = pair.expiry_warning(datetime.now(UTC))
        if warning is not None:
            say(warning, logging.WARNING)
        await asyncio.sleep(_DAY_S)


def _read_tokens(access: Access, say: Say) -> None:
    """Read the file again; one that is not good changes nothing."""
    try:
        say(f"the tokens were read again: {access.reload()} tenants")
    except ConfigError as error:
        say(f"the tokens stay as they were: {error.message}", logging.ERROR)


def _write_port(path: str, port: int) -> None:
    """Write the bound port so that a reader never sees half of it; ConfigError if it cannot be written."""
    with usable_file("port_file", path, "written"):
        replace_file(path, f"{port}\n", mode=0o666)
