"""`thinwire-cloud`: the command line of the cloud daemon."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from cloud.daemon import CloudServer
from cloud.settings import CloudSettings
from common import bundled
from common.daemon_arguments import add_daemon_arguments, daemon_options
from common.daemon_process import DaemonOptions, run_daemon
from common.errors import ConfigError
from common.exit_codes import EXIT_CODES_HELP, ExitCode
from common.release import version

if TYPE_CHECKING:
    from common.language_model import LanguageModel

DEFAULT_LISTEN = "127.0.0.1:7071"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        options = daemon_options(arguments)
        settings = CloudSettings(
            max_sessions=arguments.max_sessions,
            resume_ttl_s=arguments.resume_ttl,
            idle_ttl_s=arguments.idle_ttl,
            drain_grace_s=arguments.drain_grace,
            allow_dense_f16=arguments.allow_dense_f16,
        )
    except ConfigError as error:
        print(f"thinwire-cloud: {error.message}", file=sys.stderr)
        return ExitCode.USAGE
    return asyncio.run(_serve(options, settings))


async def _serve(options: DaemonOptions, settings: CloudSettings) -> ExitCode:
    executor = ThreadPoolExecutor(1, thread_name_prefix="target-model")
    server = CloudServer(
        None,
        vocabulary=None,
        settings=settings,
        executor=executor,
        dtype=options.dtype,
        device=options.device,
    )

    async def on_loaded(model: LanguageModel) -> None:
        await server.model_loaded(
            model,
            vocabulary=model.vocabulary.identity,
            eos_token_ids=model.eos_token_ids,
            model_name=model.name,
            model_rows=model.model_rows,
        )

    return await run_daemon(server, options, program="thinwire-cloud", executor=executor, on_loaded=on_loaded)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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
    add_daemon_arguments(serve, role="target", model=str(bundled.target_path()), listen=DEFAULT_LISTEN)
    defaults = CloudSettings()
    limits = serve.add_argument_group("limits")
    limits.add_argument(
        "--max-sessions",
        type=int,
        default=defaults.max_sessions,
        metavar="N",
        help="held at once (default %(default)s)",
    )
    for flag, value, text in (
        ("--resume-ttl", defaults.resume_ttl_s, "a session without a stream is kept"),
        ("--idle-ttl", defaults.idle_ttl_s, "a session with a stream may stay silent"),
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
    return parser


if __name__ == "__main__":
    sys.exit(main())
