"""The cloud daemon over a real ephemeral port: the server's own life, from loading to draining."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.cloud.gated_cloud import GATE_S, Gate, server_info, watched
from thinwire.cloud.daemon import CloudServer
from thinwire.cloud.settings import CloudSettings
from thinwire.common import wire
from thinwire.common.causal_model import ServedModel
from thinwire.common.errors import TransportError
from thinwire.common.schemes import scheme_names
from verify_peer import VOCABULARY, EdgeText, running_cloud, whole_text


async def health_of(channel: grpc.aio.Channel, service: str) -> int:
    """The status `grpc.health.v1` reports."""
    stub = health_pb2_grpc.HealthStub(channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)).status)


async def test_a_cloud_is_not_serving_until_its_model_is_loaded() -> None:
    """The port is bound, health answers NOT_SERVING and Verify UNAVAILABLE; then both change."""
    serving, not_serving = (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    )
    async with running_cloud(None) as cloud:
        before = [await health_of(cloud.channel, name) for name in ("", wire.VERIFIER_SERVICE)]
        early = cloud.stream()
        await early.say(EdgeText().open)
        error = await early.refusal()
        info = await server_info(cloud.channel)
        await cloud.server.model_loaded(
            ServedModel(model=watched(), vocabulary=VOCABULARY, eos_token_ids=(5,))
        )
        after = [await health_of(cloud.channel, name) for name in ("", wire.VERIFIER_SERVICE)]
        await whole_text(cloud, EdgeText(), 1)

    assert before == [not_serving] * 2
    assert after == [serving] * 2
    assert type(error) is TransportError
    assert "still loading its model" in error.message
    assert info.context_length == 0


async def test_server_info_says_what_is_served() -> None:
    """Model, vocabulary, schemes and limits."""
    settings = CloudSettings(max_sessions=7, resume_ttl_s=12.0, allow_dense_f16=True)
    async with running_cloud(watched(), settings) as cloud:
        await cloud.opened(EdgeText())
        info = await server_info(cloud.channel)

    assert info.vocabulary == VOCABULARY.identity
    assert info.schemes == scheme_names()
    assert (info.context_length, info.eos_token_ids) == (512, (5,))
    assert (info.sessions, info.max_sessions, info.resume_ttl_s) == (1, 7, 12)


async def test_reflection_lists_the_service() -> None:
    """A generic client finds `thinwire.v1.Verifier` and the health service."""
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async with running_cloud(watched()) as cloud:
        stub = reflection_pb2_grpc.ServerReflectionStub(cloud.channel)
        call = stub.ServerReflectionInfo(timeout=5)
        await call.write(request)
        answer = await call.read()
        await call.done_writing()

    names = {service.name for service in answer.list_services_response.service}
    assert names >= {wire.VERIFIER_SERVICE, "grpc.health.v1.Health"}


async def test_a_port_in_use_is_a_transport_error() -> None:
    """The second daemon on one port says which; the first serves on."""
    async with running_cloud(watched()) as cloud:
        second = CloudServer(ServedModel(model=watched(), vocabulary=VOCABULARY))
        with pytest.raises(TransportError, match=f"cannot listen on {cloud.address}; expected a free port"):
            await second.start(cloud.address)
        await whole_text(cloud, EdgeText(), 1)


async def test_a_draining_cloud_finishes_its_rounds_and_takes_no_new_session() -> None:
    """NOT_SERVING at once, UNAVAILABLE for an Open, the round in flight is answered."""
    gate, text = Gate(), EdgeText((0,))
    target = watched(gate)
    async with running_cloud(target) as cloud:
        peer, _ = await cloud.opened(text)
        await peer.say(text.block())
        await gate.entered()
        early = cloud.stream()
        await server_info(cloud.channel)  # the stream is there by now
        watch = health_pb2_grpc.HealthStub(cloud.channel).Watch(health_pb2.HealthCheckRequest())
        statuses = [(await watch.read()).status]
        stopping = asyncio.ensure_future(cloud.server.stop(GATE_S))
        statuses.append((await watch.read()).status)
        watch.cancel()
        errors = []
        for late in (early, cloud.stream()):
            await late.say(EdgeText().open)
            errors.append(type(await late.refusal()))
        gate.open()
        text.take(await peer.hear())
        await peer.closed()
        await stopping

    assert statuses == [
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    ]
    assert errors == [TransportError, TransportError]
    assert target.open_sequences == 0


async def test_a_cloud_that_stops_frees_every_session() -> None:
    """Idle, detached and at work alike, once the grace is over."""
    target = watched()
    async with running_cloud(target) as cloud:
        await cloud.opened(EdgeText())
        torn, _ = await cloud.opened(EdgeText((1, 2)))
        await torn.half_close()
        await torn.ended()
        text = EdgeText((2, 2))
        busy, _ = await cloud.opened(text)
        await busy.say(text.block())
        await cloud.server.stop(0)

        assert cloud.server.sessions == 0
    assert target.open_sequences == 0
