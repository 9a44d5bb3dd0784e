"""
`python -m bench.grid.client`: asks for texts at the edge's end of a link and says when each token arrived.

One JSON command a line on standard input, one JSON answer a line on standard output.

    {"do": "connect", "edge": ADDRESS, "cloud": ADDRESS, "peers": ADDRESS, "timeout_s": 60, "cloud_ca": PEM}
    {"do": "thinwire", "request": {...}}      a `GenerationRequest`, the scheme as a text, sampling nested
    {"do": "peer", "request": {...}}          a `bench.peers.messages.PeerRequest`

The answer to a text has `arrivals`, a list of [seconds since the request, tokens that came together, number
of their round], a digest of the token ids and Thinwire's own statistics; where there is no text, `failure`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import grpc

from bench.peers.messages import SERVICE, STREAM, PeerRequest, StreamedToken
from thinwire.common import wire
from thinwire.common.config import SamplingParameters
from thinwire.common.door.security import ClientSecurity, read_authority
from thinwire.common.errors import ThinwireError
from thinwire.common.schemes import parse_scheme
from thinwire.common.session.generation import GenerationFinished, GenerationRequest, GenerationStarted
from thinwire.edge.client import AsyncClient

EVENT_TIMEOUT_S = 600.0
"""Longer than any round of the grid."""
_POLL_S = 0.05

Arrived = Callable[[Sequence[int], int], None]
"""(token ids that came together, number of their round from 1), called as they come."""
Way = Callable[[Mapping[str, Any], Arrived], Awaitable[dict[str, Any]]]


def thinwire_request(values: Mapping[str, Any]) -> GenerationRequest:
    """A request from its JSON form (`dataclasses.asdict`, the scheme as on the command line)."""
    plain = {name: value for name, value in values.items() if name not in ("scheme", "sampling", "stop")}
    return GenerationRequest(
        scheme=parse_scheme(values["scheme"]),
        sampling=SamplingParameters(**values["sampling"]),
        stop=tuple(values["stop"]),
        **plain,
    )


def thinwire_request_to_dict(request: GenerationRequest) -> dict[str, Any]:
    """Inverse of `thinwire_request`."""
    return {**asdict(request), "scheme": str(request.scheme)}


class Client:
    """Channels to the edge and to the peers, kept open over all texts."""

    def __init__(self) -> None:
        self._edge: grpc.aio.Channel | None = None
        self._peers: grpc.aio.Channel | None = None

    async def answer(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Do one command."""
        match command["do"]:
            case "connect":
                return await self._connect(command)
            case "thinwire":
                return await self._timed(self._thinwire, command["request"])
            case "peer":
                return await self._timed(self._peer, command["request"])
            case unknown:
                return {"failure": f"unknown command {unknown!r}"}

    async def _connect(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Wait until all three daemons serve."""
        give_up_at_s = time.monotonic() + command["timeout_s"]
        self._edge = grpc.aio.insecure_channel(command["edge"], options=wire.channel_options())
        self._peers = grpc.aio.insecure_channel(command["peers"], options=wire.channel_options())
        waiting = {"edge": (self._edge, wire.GENERATOR_SERVICE), "peers": (self._peers, SERVICE)}
        security = ClientSecurity(
            authority=read_authority(command.get("cloud_ca") or None), insecure_plaintext=True
        )
        async with wire.open_channel(command["cloud"], security) as cloud:
            waiting["cloud"] = (cloud, wire.VERIFIER_SERVICE)
            for name, (channel, service) in waiting.items():
                while not await wire.is_serving(channel, service, timeout_s=5.0):
                    if time.monotonic() > give_up_at_s:
                        return {"failure": f"the {name} daemon is not serving"}
                    await asyncio.sleep(_POLL_S)
        return {}

    async def _timed(self, way: Way, request: Mapping[str, Any]) -> dict[str, Any]:
        """One text; an error becomes the answer's `failure`."""
        sent_s = time.monotonic()
        token_ids: list[int] = []
        arrivals: list[tuple[float, int, int]] = []

        def arrived(ids: Sequence[int], round_number: int) -> None:
            token_ids.extend(ids)
            arrivals.append((time.monotonic() - sent_s, len(ids), round_number))

        try:
            statistics = await way(request, arrived)
        except ThinwireError as error:
            return {"failure": f"{error.status}: {error.message}"}
        digest = hashlib.sha256(struct.pack(f"<{len(token_ids)}I", *token_ids)).hexdigest()
        return {"arrivals": arrivals, "text_sha256": digest, "statistics": statistics}

    async def _thinwire(self, request: Mapping[str, Any], arrived: Arrived) -> dict[str, Any]:
        assert self._edge is not None, "a text before `connect`"
        client = AsyncClient(channel=self._edge, event_timeout_s=EVENT_TIMEOUT_S)
        statistics: dict[str, Any] = {}
        rounds = 0
        async for event in client.events(thinwire_request(request)):
            if isinstance(event, GenerationFinished):
                statistics = asdict(event.statistics)
            elif not isinstance(event, GenerationStarted):
                rounds += 1
                arrived([token.token_id for token in event], rounds)
        return {name: value for name, value in statistics.items() if value == value}  # NaN is no JSON

    async def _peer(self, request: Mapping[str, Any], arrived: Arrived) -> dict[str, Any]:
        assert self._peers is not None, "a text before `connect`"
        stream = self._peers.unary_stream(STREAM)
        call = stream(PeerRequest(**request).to_bytes(), timeout=EVENT_TIMEOUT_S)
        try:
            async for message in call:
                token = StreamedToken.from_bytes(message)
                arrived([token.token_id], token.target_pass)
        except grpc.aio.AioRpcError as error:
            raise wire.error_from_rpc(error) from None
        finally:
            call.cancel()
        return {}


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    client = Client()
    while line := await reader.readline():
        print(json.dumps(await client.answer(json.loads(line)), allow_nan=False), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve())
