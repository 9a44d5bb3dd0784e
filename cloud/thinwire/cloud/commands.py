"""What the commands of `thinwire-cloud` do, once their arguments are understood."""

from __future__ import annotations

import argparse
import asyncio
import os
import stat
import sys
from collections.abc import Coroutine
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from thinwire.cloud.cli import PROGRAM
from thinwire.cloud.daemon import CloudServer
from thinwire.cloud.settings import CloudSettings
from thinwire.cloud.token_file import add_token, revoke_tokens
from thinwire.common import wire
from thinwire.common.daemon.exit_codes import ExitCode
from thinwire.common.daemon.health_command import health_asked
from thinwire.common.daemon.options import from_arguments
from thinwire.common.daemon.process import run_daemon
from thinwire.common.daemon.settings import DaemonOptions, daemon_options
from thinwire.common.daemon.standard_streams import writing_output
from thinwire.common.door.tenants import Quotas
from thinwire.common.door.whole_file import new_private_file
from thinwire.common.errors import ConfigError
from thinwire.common.observe.log import announce
from thinwire.common.observe.tracing import NO_TRACING, Tracing, start_tracing
from thinwire.common.schemes import load_schemes

if TYPE_CHECKING:
    from thinwire.common.language_model import LanguageModel


def command(arguments: argparse.Namespace) -> int | Coroutine[Any, Any, int]:
    """
    Do what is done at once, which gives the exit code; a command that takes its time is not yet begun.

    Raises:
        ConfigError: a value out of its range, or a file that is not what it should be.
    """
    match arguments.command:
        case "certs":
            return _certs(arguments)
        case "token":
            return _token(arguments)
        case "health":
            return health_asked(arguments, wire.VERIFIER_SERVICE)
    options = daemon_options(arguments, for_pool=True)
    settings = from_arguments(CloudSettings, arguments)
    exporter = os.environ.get("OTEL_TRACES_EXPORTER")
    tracing = start_tracing(PROGRAM, exporter) if options.trace else NO_TRACING
    return _serve(options, settings, tracing)


def _certs(arguments: argparse.Namespace) -> ExitCode:
    from thinwire.cloud.certificates import DESCRIPTION, LOCAL_HOSTS, VALID_DAYS, write_certificates

    paths = write_certificates(Path(arguments.folder), arguments.host)
    hosts = ", ".join(dict.fromkeys((*LOCAL_HOSTS, *arguments.host)))
    with writing_output():
        print(*paths, sep="\n")
        print(f"\n{DESCRIPTION}\nvalid for {VALID_DAYS} days, and for {hosts}; the keys are not encrypted")
    return ExitCode.OK


def _token(arguments: argparse.Namespace) -> ExitCode:
    """Draw or revoke; a new token is all that standard output, or the file of --out, gets."""
    reload = "a running daemon reads the file again on SIGHUP"
    if arguments.revoke:
        if arguments.out is not None:
            raise ConfigError("--revoke and --out are both given; expected one, as no token is drawn.")
        count = revoke_tokens(arguments.tokens, arguments.tenant)
        print(f"{PROGRAM}: {count} tokens of {arguments.tenant} revoked; {reload}", file=sys.stderr)
        return ExitCode.OK
    given = asdict(from_arguments(Quotas, arguments))
    quotas = {name: value for name, value in given.items() if value is not None}
    if arguments.out is None:
        token = add_token(arguments.tokens, arguments.tenant, quotas)
        with writing_output():
            print(token)
        where = "shown this once"
        if _others_can_read(sys.stdout):
            where += " and written where others can read it (better: --out FILE)"
    else:
        with new_private_file(arguments.out) as file:
            print(add_token(arguments.tokens, arguments.tenant, quotas), file=file)
        where = f"in {arguments.out}"
    print(
        f"{PROGRAM}: a token for {arguments.tenant}, {where}; {arguments.tokens} holds its hash, "
        f"and {reload}",
        file=sys.stderr,
    )
    return ExitCode.OK


def _others_can_read(stream: TextIO) -> bool:
    """Whether a stream goes into a file that is not its owner's alone."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):
        return False  # no file at all
    return stat.S_ISREG(mode) and bool(mode & (stat.S_IRGRP | stat.S_IROTH))


async def _serve(options: DaemonOptions, settings: CloudSettings, tracing: Tracing) -> ExitCode:
    server = CloudServer(None, settings=settings, security=options.security, tracing=tracing)

    async def on_loaded(model: LanguageModel) -> None:
        in_models_thread = partial(asyncio.get_running_loop().run_in_executor, server.executor)
        pooled = await in_models_thread(pool_sequences, model, settings)
        announce(PROGRAM, pooled)
        if model.kv_pool is not None:
            server.metrics.watch_kv(model.kv_pool)
        await server.model_loaded(model.served)

    try:
        load_schemes()
        return await run_daemon(
            server,
            options,
            program=PROGRAM,
            executor=server.executor,
            on_loaded=on_loaded,
            metrics=server.metrics,
        )
    finally:
        await asyncio.to_thread(tracing.close)


def pool_sequences(model: LanguageModel, settings: CloudSettings) -> str:
    """
    Set the KV memory of all sessions aside; returns what came of it, in words.

    Raises:
        ConfigError: the settings' bytes hold not even a page.
        ResourceExhaustedError: there is not so much memory.
    """
    context = model.context_length
    model.pool_sequences(sessions=settings.max_sessions, kv_bytes=settings.kv_bytes)
    pool = model.kv_pool
    if pool is None:
        return "every session has a KV cache of its own and is verified by itself"
    how = "together" if model.packs and settings.max_batch_sequences > 1 else "one by one"
    bound = ""
    if model.context_length < context:
        bound = f"; a text has at most {model.context_length} of the model's {context} tokens, the whole pool"
    return (
        f"KV pool of {pool.bytes} bytes, {pool.allocator.pages} pages of {pool.page_bytes} bytes; "
        f"sessions are verified {how}{bound}"
    )
