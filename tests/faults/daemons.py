"""
Either daemon's own service over a table model, in a process of its own; ends by SIGTERM.

    python -m tests.faults.daemons cloud --listen HOST:PORT --port-file FILE
    python -m tests.faults.daemons edge --cloud HOST:PORT --listen HOST:PORT --port-file FILE
"""

from __future__ import annotations

import argparse
import asyncio
import signal

from fakes import TableModel, TableVocabulary, random_law
from thinwire.cloud.daemon import CloudServer
from thinwire.cloud.settings import CloudSettings
from thinwire.common.causal_model import ServedModel
from thinwire.common.door.security import ClientSecurity, ServerSecurity
from thinwire.common.door.whole_file import replace_file
from thinwire.edge.daemon import EdgeServer
from thinwire.edge.settings import EdgeSettings

VOCABULARY_SIZE = 40
CONTEXT_LENGTH = 512
TARGET_SEED, DRAFT_SEED = 1, 2
RESUME_TTL_S = 3.0
DRAIN_GRACE_S = 0.5
CONNECT_TIMEOUT_S = 60.0
"""A cloud that is started again on a busy machine is a long time in coming."""
PATIENCE_S = 600.0
"""A cloud that is killed again and again while it loads its model gives no sign of life for minutes."""
EDGE_SETTINGS = EdgeSettings(
    least_round_timeout_s=0.3,
    round_timeout_s=20.0,
    max_backoff_s=0.5,
    connect_timeout_s=CONNECT_TIMEOUT_S,
    patience_s=PATIENCE_S,
)
"""Impatient with rounds, so that a stall outlasts a deadline, and patient with the cloud."""


def make_server(role: str, cloud_address: str) -> CloudServer | EdgeServer:
    """The daemon's server, not started."""
    vocabulary = TableVocabulary(VOCABULARY_SIZE)
    seed = TARGET_SEED if role == "cloud" else DRAFT_SEED
    model = TableModel(random_law(VOCABULARY_SIZE, seed), context_length=CONTEXT_LENGTH)
    if role == "cloud":
        settings = CloudSettings(resume_ttl_s=RESUME_TTL_S, drain_grace_s=DRAIN_GRACE_S, max_sessions=64)
        return CloudServer(
            ServedModel(model=model, vocabulary=vocabulary, fingerprint=seed.to_bytes(8)),
            settings=settings,
            security=ServerSecurity(insecure_plaintext=True),
        )
    return EdgeServer(
        ServedModel(model=model, vocabulary=vocabulary),
        cloud_address=cloud_address,
        settings=EDGE_SETTINGS,
        cloud_security=ClientSecurity(insecure_plaintext=True),
    )


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM, then drain."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    server = make_server(arguments.role, arguments.cloud)
    replace_file(arguments.port_file, str(await server.start(arguments.listen)), mode=0o666)
    await stopping.wait()
    await server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("role", choices=("cloud", "edge"))
    for option in ("--cloud", "--listen", "--port-file"):
        parser.add_argument(option, default="")
    asyncio.run(serve(parser.parse_args()))
