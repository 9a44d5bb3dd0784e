"""
`python -m bench.grid.client`: asks for texts at the edge's end of a link and says when each token arrived.

One JSON object a line on standard input, one JSON answer a line on standard output; first the daemons:

    {"edge": ADDRESS, "cloud": ADDRESS, "peers": ADDRESS, "cloud_ca": PEM, "timeout_s": 60}
    {"scheme": "c-sqs", ...}      a `GenerationRequest`, the scheme as on the command line, sampling nested
    {"way": "own", ...}           a `bench.peers.messages.PeerRequest`

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
from dataclasses import asdict, replace
from typing import Any

import grpc

from bench.grid.cells import Cell
from bench.grid.methods import Method, Parameters
from bench.peers.messages import SERVICE, STREAM, PeerRequest, StreamedToken
from thinwire.common import wire
from thinwire.common.config import SamplingParameters
from thinwire.common.door.security import ClientSecurity, read_authority
from thinwire.common.errors import ThinwireError
from thinwire.common.schemes import SCHEMES, parse_scheme
from thinwire.common.session.generation import GenerationFinished, GenerationRequest, GenerationStarted
from thinwire.edge.client import AsyncClient

EVENT_TIMEOUT_S = 600.0
"""Longer than any round of the grid."""
_POLL_S = 0.05
_PLAINTEXT = ClientSecurity(insecure_plaintext=True)

Answer = dict[str, Any]
Arrivals = AsyncIterator[tuple[Sequence[int], int]]
"""Token ids that came together and the number of their round from 1, as they come."""


def request_of(
    cell: Cell, method: Method, parameters: Parameters, prompt: str, seed: int, tokens: int
) -> dict[str, Any]:
    """The same text length, sampling and seed whatever the method; end-of-text is ignored."""
    length = int(parameters.get("draft_length", 0))
    asked = {"prompt": prompt, "seed": seed, "max_tokens": tokens, "draft_length": length}
    if method.is_peer:
        return {**asked, "way": method.way, "temperature": cell.temperature}
    scheme = str(method.scheme(cell.temperature, parameters))
    exact: dict[str, Any] = {"uplink_budget_bits": 0, "ignore_eos": True}
    if "objective" in parameters:
        exact["objective"] = parameters["objective"]
    if not SCHEMES[method.way].may_run_free:
        exact["min_block_acceptance"] = 0.0  # blocks of the length that is tuned
    return {**asked, **exact, "scheme": scheme, "sampling": {"temperature": cell.temperature}}


def thinwire_request(values: Mapping[str, Any]) -> GenerationRequest:
    """A request from its JSON form."""
    parsed = {
        "scheme": parse_scheme(values["scheme"]),
        "sampling": SamplingParameters(**values["sampling"]),
        "stop": tuple(values.get("stop", ())),
    }
    return GenerationRequest(**{**values, **parsed})


async def _serve() -> None:
    daemons = json.loads(sys.stdin.readline())
    async with (
        wire.open_channel(daemons["edge"], _PLAINTEXT) as edge,
        wire.open_channel(daemons["peers"], _PLAINTEXT) as peers,
    ):
        _say(await _served(daemons, edge, peers))
        for line in sys.stdin:  # the event loop stands still meanwhile: there is nothing between two texts
            _say(await _text(json.loads(line), edge, peers))


def _say(answer: Answer) -> None:
    print(json.dumps(answer, allow_nan=False), flush=True)


async def _served(daemons: Mapping[str, Any], edge: grpc.aio.Channel, peers: grpc.aio.Channel) -> Answer:
    """Nothing, once all three daemons serve."""
    give_up_at_s = time.monotonic() + daemons["timeout_s"]
    security = replace(_PLAINTEXT, authority=read_authority(daemons["cloud_ca"] or None))
    async with wire.open_channel(daemons["cloud"], security) as cloud:
        for name, channel, service in (
            ("edge", edge, wire.GENERATOR_SERVICE),
            ("peers", peers, SERVICE),
            ("cloud", cloud, wire.VERIFIER_SERVICE),
        ):
            while not await wire.is_serving(channel, service, timeout_s=5.0):
                if time.monotonic() > give_up_at_s:
                    return {"failure": f"the {name} daemon is not serving"}
                await asyncio.sleep(_POLL_S)
    return {}


async def _text(request: Mapping[str, Any], edge: grpc.aio.Channel, peers: grpc.aio.Channel) -> Answer:
    sent_s = time.monotonic()
    statistics: dict[str, Any] = {}
    stream = _thinwire(edge, request, statistics) if "scheme" in request else _peer(peers, request)
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
