"""
`python -m bench.peers`: the peers' daemon, at the cloud's end of a link.

    python -m bench.peers --target DIR --draft DIR --listen 10.78.0.2:0 --port-file PATH --threads 2
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

# Before anything that imports torch by itself; see there.
from bench.peers.forward_watch import PassLog, add_watch_arguments, watch_forward
from bench.peers.pacing import Pacing
from bench.peers.service import PeersServer
from thinwire.common import demo_pair
from thinwire.common.daemon.options import CommandParser
from thinwire.common.daemon.process import run_daemon
from thinwire.common.daemon.settings import add_daemon_options, daemon_options
from thinwire.common.language_model import LanguageModel, load_language_model


def main() -> int:
    """Serve until a signal; returns the exit code."""
    parser = CommandParser(prog="python -m bench.peers", description=__doc__)
    model, without = str(demo_pair.target_path()), ("tokenizer", "trace")
    add_daemon_options(parser, model=model, listen="127.0.0.1:7073", without=without)
    parser.add_argument("--target", dest="model", default=argparse.SUPPRESS, help="the same as --model")
    parser.add_argument("--draft", default=str(demo_pair.draft_path()), help="folder or hub id")
    parser.add_argument("--draft-threads", type=int, default=1, help="of the draft model")
    parser.set_defaults(threads=1)
    add_watch_arguments(parser)
    return asyncio.run(_serve(parser.parse_args()))


async def _serve(arguments: argparse.Namespace) -> int:
    options = daemon_options(arguments)
    executor = ThreadPoolExecutor(1, thread_name_prefix="peers")
    log = PassLog(arguments.pass_log)
    server = PeersServer(executor=executor, log=log, security=options.security)

    async def on_loaded(target: LanguageModel) -> None:
        loop = asyncio.get_running_loop()
        draft = await loop.run_in_executor(executor, load_language_model, arguments.draft)
        for model, role, pacing, threads in (
            (target, "target", arguments.paced, arguments.threads),
            (draft, "draft", Pacing(), arguments.draft_threads),
        ):
            watch_forward(model.module, role=role, pacing=pacing, log=log, threads=threads)
        server.models_loaded(target, draft)

    return int(
        await run_daemon(server, options, program="bench.peers", executor=executor, on_loaded=on_loaded)
    )


if __name__ == "__main__":
    sys.exit(main())
