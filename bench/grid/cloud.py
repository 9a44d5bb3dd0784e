"""
`python -m bench.grid.cloud`: the cloud daemon with its target watched.

The same `CloudServer` as `thinwire-cloud serve`, made the same way; besides, every target pass is timed,
paced where asked for, and written down, and `dense-f16` is served.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.peers.forward_watch import PassLog, add_watch_arguments, watch_forward
from thinwire.cloud.commands import pool_sequences
from thinwire.cloud.daemon import CloudServer
from thinwire.cloud.settings import CloudSettings
from thinwire.common import demo_pair
from thinwire.common.daemon.options import CommandParser
from thinwire.common.daemon.process import run_daemon
from thinwire.common.daemon.settings import add_daemon_options, daemon_options

if TYPE_CHECKING:
    from thinwire.common.language_model import LanguageModel


def main() -> int:
    """Serve until a signal; returns the exit code."""
    parser = CommandParser(prog="python -m bench.grid.cloud", description=__doc__)
    model, without = str(demo_pair.target_path()), ("tokenizer", "trace")
    add_daemon_options(parser, model=model, listen="127.0.0.1:7071", without=without)
    add_watch_arguments(parser)
    defaults = CloudSettings()
    parser.add_argument("--max-sessions", type=int, default=defaults.max_sessions)
    parser.add_argument("--max-batch-sequences", type=int, default=defaults.max_batch_sequences)
    return asyncio.run(_serve(parser.parse_args()))


async def _serve(arguments: argparse.Namespace) -> int:
    options = daemon_options(arguments)
    executor = ThreadPoolExecutor(1, thread_name_prefix="target-model")
    settings = CloudSettings(
        max_sessions=arguments.max_sessions,
        # All edges of a benchmark come from one address.
        max_unopened_per_peer=max(CloudSettings().max_unopened_per_peer, arguments.max_sessions),
        max_batch_sequences=arguments.max_batch_sequences,
        allow_dense_f16=True,
        drain_grace_s=0.5,
    )
    server = CloudServer(
        None,
        settings=settings,
        executor=executor,
        security=replace(options.security, max_unproved_per_peer=max(16, arguments.max_sessions)),
    )

    async def on_loaded(model: LanguageModel) -> None:
        pool_sequences(model, settings)
        log = PassLog(arguments.pass_log)
        watch_forward(model.module, role="target", pacing=arguments.paced, log=log)
        await server.model_loaded(replace(model.served, fingerprint=b""))

    return int(
        await run_daemon(server, options, program="bench.grid.cloud", executor=executor, on_loaded=on_loaded)
    )


if __name__ == "__main__":
    sys.exit(main())
