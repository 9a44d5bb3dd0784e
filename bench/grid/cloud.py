"""
`python -m bench.grid.cloud`: the cloud daemon with its target watched.

The same `CloudServer` as `thinwire-cloud serve`, made the same way; besides, every target pass is timed,
paced where asked for, and written down, and `dense-f16` is served.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.peers.forward_watch import PassLog, add_watch_arguments, watch_forward
from thinwire.cloud.commands import pool_sequences
from thinwire.cloud.daemon import CloudServer
from thinwire.cloud.settings import CloudSettings
from thinwire.common import demo_pair
from thinwire.common.daemon.options import CommandParser, add_options, from_arguments
from thinwire.common.daemon.process import run_daemon
from thinwire.common.daemon.settings import add_daemon_options, daemon_options

if TYPE_CHECKING:
    from thinwire.common.language_model import LanguageModel


def main() -> int:
    """Serve until a signal; returns the exit code."""
    parser = CommandParser(prog="python -m bench.grid.cloud", description=__doc__)
    model, without = str(demo_pair.target_path()), ("tokenizer", "trace")
    add_daemon_options(parser, model=model, listen="127.0.0.1:7071", without=without)
    add_options(parser, CloudSettings, "limits", allow_dense_f16=True, drain_grace_s=0.5)
    add_watch_arguments(parser)
    return asyncio.run(_serve(parser.parse_args()))


async def _serve(arguments: argparse.Namespace) -> int:
    options, settings = daemon_options(arguments), from_arguments(CloudSettings, arguments)
    # All edges of a benchmark come from one address.
    most = max(16, settings.max_sessions)
    server = CloudServer(
        None,
        settings=replace(settings, max_unopened_per_peer=most),
        security=replace(options.security, max_unproved_per_peer=most),
    )

    async def on_loaded(model: LanguageModel) -> None:
        pool_sequences(model, settings)
        log = PassLog(arguments.pass_log)
        watch_forward(model.module, role="target", pacing=arguments.paced, log=log)
        await server.model_loaded(replace(model.served, fingerprint=b""))

    name, executor = "bench.grid.cloud", server.executor
    return int(await run_daemon(server, options, program=name, executor=executor, on_loaded=on_loaded))


if __name__ == "__main__":
    sys.exit(main())
