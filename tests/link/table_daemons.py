"""
Either daemon's own service over a table model, in a process of its own.

    python -m tests.link.table_daemons V cloud ADDRESS          prints its port, serves until its input closes
    python -m tests.link.table_daemons V edge CLOUD ROUND_LOG   prints "ready"; then a line is a JSON list for
                                                                `bench.grid.client.thinwire_request`,
                                                                made together, answered by their tokens

The edge pings nobody, so nothing but its texts crosses the link.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np

from bench.grid.client import thinwire_request
from fakes import Law, TableModel, TableVocabulary, random_law
from thinwire.cloud.daemon import CloudServer
from thinwire.cloud.settings import CloudSettings
from thinwire.common.causal_model import ServedModel
from thinwire.common.door.security import ClientSecurity, ServerSecurity
from thinwire.edge.client import AsyncClient, connect
from thinwire.edge.daemon import EdgeServer
from thinwire.edge.settings import EdgeSettings
from thinwire.edge.telemetry import RoundLog

CONTEXT_LENGTH = 4096
TARGET_SEED, DRAFT_SEED = 1, 2
_EVENT_TIMEOUT_S = 30.0


async def serve_cloud(size: int, listen: str) -> None:
    """The Verifier service."""
    model = TableModel(_law(size, TARGET_SEED), vocabulary_size=size, context_length=CONTEXT_LENGTH)
    server = CloudServer(
        ServedModel(model=model, vocabulary=TableVocabulary(size), fingerprint=TARGET_SEED.to_bytes(8)),
        settings=CloudSettings(allow_dense_f16=True),
        security=ServerSecurity(insecure_plaintext=True),
    )
    print(await server.start(listen), flush=True)
    async for _ in _lines():
        pass
    await server.stop(0)


async def serve_edge(size: int, cloud_address: str, round_log: str) -> None:
    """The Generator service and a client of it."""
    log = RoundLog(round_log)
    model = TableModel(_law(size, DRAFT_SEED), vocabulary_size=size, context_length=CONTEXT_LENGTH)
    server = EdgeServer(
        ServedModel(model=model, vocabulary=TableVocabulary(size)),
        cloud_address=cloud_address,
        settings=EdgeSettings(keepalive_s=0),
        round_log=log,
        cloud_security=ClientSecurity(insecure_plaintext=True),
    )
    port = await server.start("127.0.0.1:0")
    async with connect(f"127.0.0.1:{port}", event_timeout_s=_EVENT_TIMEOUT_S) as client:
        print("ready", flush=True)
        async for line in _lines():
            print(sum(await asyncio.gather(*(_tokens(client, one) for one in json.loads(line)))), flush=True)
    await server.stop(0)
    log.close()


def _law(size: int, seed: int) -> Law:
    """A random one; over a large vocabulary, where a row takes long to make, one row for every prefix."""
    if size <= 1000:
        return random_law(size, seed)
    row = np.random.default_rng(seed).dirichlet(np.ones(size))
    return lambda prefix: row


async def _tokens(client: AsyncClient, request: Mapping[str, Any]) -> int:
    """Of one text."""
    tokens = 0
    async for event in client.events(thinwire_request(request)):
        tokens += len(event) if isinstance(event, tuple | list) else 0
    return tokens


async def _lines() -> AsyncIterator[bytes]:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line


if __name__ == "__main__":
    vocabulary_size, role, *arguments = sys.argv[1:]
    asyncio.run({"cloud": serve_cloud, "edge": serve_edge}[role](int(vocabulary_size), *arguments))
