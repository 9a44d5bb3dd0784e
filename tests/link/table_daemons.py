"""
Either daemon's own service over a table model, in a process of its own.

    python -m tests.link.table_daemons cloud ADDRESS          prints its port, serves until its input closes
    python -m tests.link.table_daemons edge CLOUD ROUND_LOG   prints "ready"; then one request a line, as JSON
                                                              of `bench.grid.client.thinwire_request_to_dict`,
                                                              answered by its number of tokens

The edge pings nobody, so nothing but its texts crosses the link.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator

from fakes import TableModel, TableVocabulary, random_law

from bench.grid.client import thinwire_request
from cloud.daemon import CloudServer
from cloud.settings import CloudSettings
from common.security import ClientSecurity, ServerSecurity
from common.telemetry import RoundLog
from edge.client import connect
from edge.daemon import EdgeServer
from edge.settings import EdgeSettings

VOCABULARY_SIZE = 300
"""Ids of one and of two bytes; the dense payload is then longer than a segment."""
CONTEXT_LENGTH = 4096
TARGET_SEED, DRAFT_SEED = 1, 2
_EVENT_TIMEOUT_S = 30.0


async def serve_cloud(listen: str) -> None:
    """The Verifier service."""
    model = TableModel(random_law(VOCABULARY_SIZE, TARGET_SEED), context_length=CONTEXT_LENGTH)
    server = CloudServer(
        model,
        vocabulary=TableVocabulary(VOCABULARY_SIZE).identity,
        fingerprint=TARGET_SEED.to_bytes(8),
        settings=CloudSettings(allow_dense_f16=True),
        security=ServerSecurity(insecure_plaintext=True),
    )
    print(await server.start(listen), flush=True)
    async for _ in _lines():
        pass
    await server.stop(0)


async def serve_edge(cloud_address: str, round_log: str) -> None:
    """The Generator service and a client of it."""
    log = RoundLog(round_log)
    server = EdgeServer(
        TableModel(random_law(VOCABULARY_SIZE, DRAFT_SEED), context_length=CONTEXT_LENGTH),
        vocabulary=TableVocabulary(VOCABULARY_SIZE),
        cloud_address=cloud_address,
        settings=EdgeSettings(keepalive_s=0),
        round_log=log,
        cloud_security=ClientSecurity(insecure_plaintext=True),
    )
    port = await server.start("127.0.0.1:0")
    async with connect(f"127.0.0.1:{port}", event_timeout_s=_EVENT_TIMEOUT_S) as client:
        print("ready", flush=True)
        async for line in _lines():
            tokens = 0
            async for event in client.generate(thinwire_request(json.loads(line))):
                tokens += len(event) if isinstance(event, tuple | list) else 0
            print(tokens, flush=True)
    await server.stop(0)
    log.close()


async def _lines() -> AsyncIterator[bytes]:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    asyncio.run({"cloud": serve_cloud, "edge": serve_edge}[role](*arguments))
