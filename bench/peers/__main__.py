"""
`python -m bench.peers`: the peers' daemon, at the cloud's end of a link.

    python -m bench.peers --target DIR --draft DIR --listen 10.78.0.2:0 --port-file PATH --threads 2
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

# Before anything that imports torch by itself; see there.
from bench.peers.forward_watch import PassLog, add_watch_arguments, watch_forward
from bench.peers.pacing import Pacing
from thinwire.common import demo_pair
from thinwire.common.daemon.process import run_daemon
from thinwire.common.daemon.settings import DaemonOptions
from thinwire.common.door.security import ServerSecurity

if TYPE_CHECKING:
    from thinwire.common.language_model import LanguageModel


def main() -> int:
    """Serve until a signal; returns the exit code."""
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="python -m bench.peers", description=__doc__)
    pair = demo_pair.target_path().parent
    parser.add_argument("--target", default=str(pair / "target"), help="folder or hub id")
    parser.add_argument("--draft", default=str(pair / "draft"), help="folder or hub id")
    parser.add_argument("--listen", default="127.0.0.1:7073", metavar="HOST:PORT")
    parser.add_argument("--insecure-plaintext", action="store_true", help="a must off loopback: no TLS here")
    parser.add_argument("--port-file", metavar="PATH", help="write the bound port into this file")
    parser.add_argument("--threads", type=int, default=1, help="of the target")
    parser.add_argument("--draft-threads", type=int, default=1, help="of the draft model")
    add_watch_arguments(parser)
    arguments = parser.parse_args()
    options = DaemonOptions(
        model=arguments.target,
        listen=arguments.listen,
        threads=arguments.threads,
        port_file=arguments.port_file,
        security=ServerSecurity(insecure_plaintext=arguments.insecure_plaintext),
    )
    return asyncio.run(_serve(options, arguments))


async def _serve(options: DaemonOptions, arguments: argparse.Namespace) -> int:
    from bench.peers.service import PeersServer  # imports torch

    executor = ThreadPoolExecutor(1, thread_name_prefix="peers")
    log = PassLog(arguments.pass_log)
    server = PeersServer(executor=executor, log=log, security=options.security)

    async def on_loaded(target: LanguageModel) -> None:
        # Heavy imports come late, as in the daemons, so that the port is bound at once.
        from bench.peers.ways import Ways
        from thinwire.common.language_model import load_language_model

        loop = asyncio.get_running_loop()
        draft = await loop.run_in_executor(executor, load_language_model, arguments.draft)
        ways = Ways(target, draft)
        watch_forward(
            target.module, role="target", pacing=arguments.paced, log=log, threads=arguments.threads
        )
        watch_forward(draft.module, role="draft", pacing=Pacing(), log=log, threads=arguments.draft_threads)
        await server.models_loaded(ways, target.vocabulary)

    return int(
        await run_daemon(server, options, program="bench.peers", executor=executor, on_loaded=on_loaded)
    )


if __name__ == "__main__":
    sys.exit(main())
