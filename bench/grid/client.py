"""
`python -m bench.grid.client`: asks for texts at the edge's end of a link and says when each token arrived.

One JSON command a line on standard input, one JSON answer a line on standard output; first the daemons:

    {"edge": ADDRESS, "cloud": ADDRESS, "peers": ADDRESS, "cloud_ca": PEM, "timeout_s": 60}
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
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import grpc

from bench.grid.cells import Cell
from bench.grid.dataset_prompts import Prompt
from bench.grid.methods import Method, Parameters
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
_PLAINTEXT = ClientSecurity(insecure_plaintext=True)

Arrivals = AsyncIterator[tuple[Sequence[int], int]]
"""Token ids that came together and the number of their round from 1, as they come."""


def text_command(
    cell: Cell, method: Method, parameters: Parameters, prompt: Prompt, seed: int, tokens: int
) -> dict[str, Any]:
    """The same text length, sampling and seed whatever the method; end-of-text is ignored."""
    length = int(parameters.get("draft_length", 0))
    if method.is_peer:
        asked = PeerRequest(method.way, prompt.prompt, tokens, cell.temperature, seed, length)
        return {"do": "peer", "request": asdict(asked)}
    request = GenerationRequest(
        prompt=prompt.prompt,
        seed=seed,
        scheme=method.scheme(cell.temperature, parameters),
        sampling=SamplingParameters(temperature=cell.temperature),
        max_tokens=tokens,
        draft_length=length,
        uplink_budget_bits=0,
        min_block_acceptance=0.0,
        ignore_eos=True,
    )
    return {"do": "thinwire", "request": thinwire_request_to_dict(request)}


def thinwire_request_to_dict(request: GenerationRequest) -> dict[str, Any]:
    """A request in its JSON form: `dataclasses.asdict`, the scheme as on the command line."""
    return {**asdict(request), "scheme": str(request.scheme)}


def thinwire_request(values: Mapping[str, Any]) -> GenerationRequest:
    """Inverse of `thinwire_request_to_dict`."""
    parsed = {
        "scheme": parse_scheme(values["scheme"]),
        "sampling": SamplingParameters(**values["sampling"]),
        "stop": tuple(values["stop"]),
    }
    return GenerationRequest(**{**values, **parsed})


async def _serve() -> None:
    reader = asyncio.StreamReader(limit=1 << 24)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    daemons = json.loads(await reader.readline())
    # Kept open over all texts.
    async with (
        wire.open_channel(daemons["edge"], _PLAINTEXT) as edge,
        wire.open_channel(daemons["peers"], _PLAINTEXT) as peers,
    ):
        _say(await _connect(daemons, edge, peers))
        while line := await reader.readline():
            _say(await _text(json.loads(line), edge, peers))


def _say(answer: Mapping[str, Any]) -> None:
    print(json.dumps(answer, allow_nan=False), flush=True)


async def _connect(
    daemons: Mapping[str, Any], edge: grpc.aio.Channel, peers: grpc.aio.Channel
) -> dict[str, Any]:
    """Wait until all three daemons serve."""
    give_up_at_s = time.monotonic() + daemons["timeout_s"]
    security = ClientSecurity(authority=read_authority(daemons["cloud_ca"] or None), insecure_plaintext=True)
    async with wire.open_channel(daemons["cloud"], security) as cloud:
        services = (wire.GENERATOR_SERVICE, SERVICE, wire.VERIFIER_SERVICE)
        names = ("edge", "peers", "cloud")
        for name, channel, service in zip(names, (edge, peers, cloud), services, strict=True):
            while not await wire.is_serving(channel, service, timeout_s=5.0):
                if time.monotonic() > give_up_at_s:
                    return {"failure": f"the {name} daemon is not serving"}
                await asyncio.sleep(_POLL_S)
    return {}


async def _text(
    command: Mapping[str, Any], edge: grpc.aio.Channel, peers: grpc.aio.Channel
) -> dict[str, Any]:
    """One text; an error becomes the answer's `failure`."""
    sent_s = time.monotonic()
    statistics: dict[str, Any] = {}
    request, is_peer = command["request"], command["do"] == "peer"
    stream = _peer(peers, request) if is_peer else _thinwire(edge, request, statistics)
    token_ids: list[int] = []
    arrivals: list[tuple[float, int, int]] = []
    try:
        async for ids, round_number in stream:
            arrivals.append((time.monotonic() - sent_s, len(ids), round_number))
            token_ids.extend(ids)
    except ThinwireError as error:
        return {"failure": f"{error.status}: {error.message}"}
    digest = hashlib.sha256(struct.pack(f"<{len(token_ids)}I", *token_ids)).hexdigest()
    return {"arrivals": arrivals, "text_sha256": digest, "statistics": statistics}


async def _thinwire(
    channel: grpc.aio.Channel, request: Mapping[str, Any], statistics: dict[str, Any]
) -> Arrivals:
    client, rounds = AsyncClient(channel=channel, event_timeout_s=EVENT_TIMEOUT_S), 0
    async for event in client.events(thinwire_request(request)):
        if isinstance(event, GenerationFinished):
            found = asdict(event.statistics).items()
            statistics.update((name, value) for name, value in found if value == value)  # NaN is no JSON
        elif not isinstance(event, GenerationStarted):
            rounds += 1
            yield [token.token_id for token in event], rounds


async def _peer(channel: grpc.aio.Channel, request: Mapping[str, Any]) -> Arrivals:
    call = channel.unary_stream(STREAM)(PeerRequest(**request).to_bytes(), timeout=EVENT_TIMEOUT_S)
    try:
        async for message in call:
            token = StreamedToken.from_bytes(message)
            yield [token.token_id], token.target_pass
    except grpc.aio.AioRpcError as error:
        raise wire.error_from_rpc(error) from None
    finally:
        call.cancel()


if __name__ == "__main__":
    asyncio.run(_serve())
