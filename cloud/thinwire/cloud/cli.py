"""`thinwire-cloud`: the command line of the cloud daemon, and of its certificates and tokens."""

from __future__ import annotations

import argparse
import asyncio
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from thinwire.cloud.daemon import CloudServer
from thinwire.cloud.settings import CloudSettings
from thinwire.cloud.token_file import add_token, revoke_tokens
from thinwire.common import demo_pair, wire
from thinwire.common.daemon.arguments import add_daemon_arguments, add_trace_argument, daemon_options
from thinwire.common.daemon.command_parser import CommandParser, as_typed, option_names
from thinwire.common.daemon.exit_codes import EXIT_CODES_HELP, ExitCode
from thinwire.common.daemon.health_command import add_health_command, health
from thinwire.common.daemon.process import DaemonOptions, run_daemon
from thinwire.common.daemon.standard_streams import OutputError, prepare_streams, writing_output
from thinwire.common.door.security_arguments import dialling_security
from thinwire.common.door.whole_file import new_private_file
from thinwire.common.errors import ConfigError
from thinwire.common.observe.log import Announcer
from thinwire.common.observe.tracing import NO_TRACING, Tracing, start_tracing
from thinwire.common.release import version

if TYPE_CHECKING:
    from thinwire.common.language_model import LanguageModel

DEFAULT_LISTEN = "127.0.0.1:7071"
PROGRAM = "thinwire-cloud"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    prepare_streams()
    try:
        with writing_output():  # --help does
            arguments = make_parser().parse_args(argv)
        if arguments.command == "certs":
            return _certs(arguments)
        if arguments.command == "token":
            return _token(arguments)
        if arguments.command == "health":
            return asyncio.run(_health(arguments))
        options = daemon_options(arguments)
        settings = CloudSettings(
            max_sessions=arguments.max_sessions,
            max_queued_rounds=arguments.max_queued_rounds,
            max_batch_sequences=arguments.max_batch_sequences,
            max_batch_tokens=arguments.max_batch_tokens,
            kv_bytes=arguments.kv_bytes,
            resume_ttl_s=arguments.resume_ttl,
            idle_ttl_s=arguments.idle_ttl,
            write_timeout_s=arguments.write_timeout,
            drain_grace_s=arguments.drain_grace,
            allow_dense_f16=arguments.allow_dense_f16,
            max_unopened_per_peer=arguments.max_unopened_per_peer,
        )
        exporter = os.environ.get("OTEL_TRACES_EXPORTER")
        tracing = start_tracing(PROGRAM, exporter) if arguments.trace else NO_TRACING
    except ConfigError as error:
        print(f"{PROGRAM}: {as_typed(error, option_names(arguments))}", file=sys.stderr)
        return ExitCode.USAGE
    except OutputError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return ExitCode.FAILED
    except BrokenPipeError:
        return ExitCode.OK
    return asyncio.run(_serve(options, settings, tracing))


def _certs(arguments: argparse.Namespace) -> ExitCode:
    """Make a development authority and both pairs."""
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
        print(f"thinwire-cloud: {count} tokens of {arguments.tenant} revoked; {reload}", file=sys.stderr)
        return ExitCode.OK
    given = {name: getattr(arguments, name) for name in ("max_sessions", "rounds_per_s", "tokens_per_s")}
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
        f"thinwire-cloud: a token for {arguments.tenant}, {where}; {arguments.tokens} holds its hash, "
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


async def _health(arguments: argparse.Namespace) -> ExitCode:
    """Ask a cloud whether it serves."""
    security = dialling_security(arguments, os.environ)
    code, sentence = await health(
        arguments.health_address, wire.VERIFIER_SERVICE, security, timeout_s=arguments.timeout
    )
    with writing_output():
        print(sentence)
    return code


async def _serve(options: DaemonOptions, settings: CloudSettings, tracing: Tracing) -> ExitCode:
    server = CloudServer(None, settings=settings, security=options.security, tracing=tracing)

    async def on_loaded(model: LanguageModel) -> None:
        in_models_thread = partial(asyncio.get_running_loop().run_in_executor, server.executor)
        pooled = await in_models_thread(pool_sequences, model, settings)
        Announcer(PROGRAM)(pooled)
        if model.kv_pool is not None:
            server.metrics.watch_kv(model.kv_pool)
        await server.model_loaded(model.served)

    try:
        return await run_daemon(
            server,
            replace(options, for_pool=True),
            program=PROGRAM,
            executor=server.executor,
            on_loaded=on_loaded,
            metrics=server.metrics,
        )
    finally:
        await asyncio.to_thread(tracing.close)


def pool_sequences(model: LanguageModel, settings: CloudSettings) -> str:
    """
    Set the KV memory of all sessions aside.

    Returns:
        what came of it, in words.

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


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = CommandParser(
        prog="thinwire-cloud",
        description="The cloud's half of Thinwire: verifies drafted tokens with a large model.",
        epilog=EXIT_CODES_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"thinwire-cloud {version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="run the cloud daemon",
        description="Run the cloud daemon: load a target model, verify the rounds of many edges.",
        epilog=EXIT_CODES_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_daemon_arguments(serve, role="target", model=demo_pair.model("target"), listen=DEFAULT_LISTEN)
    add_trace_argument(serve)
    defaults = CloudSettings()
    limits = serve.add_argument_group("limits")
    limits.add_argument(
        "--max-sessions",
        type=int,
        default=defaults.max_sessions,
        metavar="N",
        help="held at once (default %(default)s)",
    )
    limits.add_argument(
        "--max-unopened-per-peer",
        type=int,
        default=defaults.max_unopened_per_peer,
        metavar="N",
        help="streams of one address, and tenant where tokens are asked for, that have not said Open yet "
        "(default %(default)s)",
    )
    for flag, count, text in (
        ("--max-queued-rounds", defaults.max_queued_rounds, "rounds that wait for the target model at once"),
        ("--max-batch-sequences", defaults.max_batch_sequences, "sessions that share one target pass"),
        ("--max-batch-tokens", defaults.max_batch_tokens, "tokens of one target pass"),
    ):
        limits.add_argument(flag, type=int, default=count, metavar="N", help=f"{text} (default %(default)s)")
    limits.add_argument(
        "--kv-bytes",
        type=int,
        metavar="BYTES",
        help="KV memory of all sessions, set aside at the start (default: 2048 tokens a session, or the "
        "context where that is less)",
    )
    for flag, value, text in (
        ("--resume-ttl", defaults.resume_ttl_s, "a session without a stream is kept"),
        ("--idle-ttl", defaults.idle_ttl_s, "a session with a stream may stay silent"),
        ("--write-timeout", defaults.write_timeout_s, "a peer may take nothing that waits for it"),
        ("--drain-grace", defaults.drain_grace_s, "streams may go on after SIGTERM"),
    ):
        limits.add_argument(
            flag, type=float, default=value, metavar="SECONDS", help=f"{text} (default %(default)g)"
        )
    limits.add_argument(
        "--allow-dense-f16",
        action="store_true",
        help="serve the scheme dense-f16, a baseline whose rounds have up to 4 MiB",
    )
    _add_certs(commands)
    _add_token(commands)
    add_health_command(commands, peer="cloud", default=DEFAULT_LISTEN)
    return parser


def _add_certs(commands: Any) -> None:
    parser = commands.add_parser(
        "certs",
        help="make a development authority and certificates for both ends",
        description="Make a development authority and one certificate with its key for either end; "
        "nothing is overwritten, and the authority's own key is thrown away.",
    )
    parser.add_argument("folder", metavar="DIR", help="where to; made if it is not there")
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        help="host name or IP address that either end is dialled by, beside localhost; repeatable",
    )


def _add_token(commands: Any) -> None:
    parser = commands.add_parser(
        "token",
        help="draw a token for a tenant",
        description="Draw a token for a tenant, for a file of its owner's alone or for standard output, and "
        "keep its SHA-256 with the tenant's quotas in a file for --tokens of either daemon.",
    )
    add = parser.add_argument
    add("tenant", metavar="TENANT", help="a new one, or one in the file, which keeps its other tokens")
    add("--file", dest="tokens", required=True, metavar="FILE", help="token file; made if it is not there")
    add("--out", metavar="FILE", help="new file, mode 0600, for the token (default: standard output)")
    add("--max-sessions", type=int, metavar="N", help="quota: sessions at once (default: no limit)")
    add("--rounds-per-s", type=float, metavar="RATE", help="quota: rounds a second (default: no limit)")
    add(
        "--tokens-per-s",
        type=float,
        metavar="RATE",
        help="quota: tokens a second that the target scores (default: no limit)",
    )
    add("--revoke", action="store_true", help="take all its tokens from the tenant instead")


if __name__ == "__main__":
    sys.exit(main())
