"""Over real gRPC, while strangers hold connections to a cloud: they are bounded, and nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from loopback import WatchedModel
from security.credentials import Certificates, Tokens
from thinwire.common import wire
from thinwire.common.door.security import ClientSecurity, ServerSecurity
from thinwire.common.errors import ConfigError
from thinwire.common.observe.metrics import PREFIX
from verify_peer import TARGET, EdgeText, RunningCloud, VerifyPeer, running_cloud

BOUND = 4
STRANGERS = 200
PATIENCE_S = 20.0
HALF_A_HANDSHAKE = bytes.fromhex("160301020001000100")
"""A TLS record that promises 512 bytes of ClientHello, and the first four of them."""


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    """An empty file to be."""
    return Tokens(tmp_path / "tokens.json")


@asynccontextmanager
async def strangers(
    address: str, count: int, *, source: str, says: bytes = b""
) -> AsyncIterator[set[asyncio.Task[None]]]:
    """So many connections that say this and no more; a task each, done when the cloud has closed it."""
    host, _, port = address.rpartition(":")

    async def ended(reader: asyncio.StreamReader) -> None:
        try:
            while await reader.read(4096):
                pass
        except ConnectionError:
            pass

    async with AsyncExitStack() as stack:
        tasks = set()
        for _ in range(count):
            reader, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
            stack.callback(writer.close)
            writer.write(says)
            task = asyncio.create_task(ended(reader))
            stack.callback(task.cancel)
            tasks.add(task)
        yield tasks


async def all_but(count: int, tasks: set[asyncio.Task[None]]) -> None:
    """Wait until no more than so many are open."""
    async with asyncio.timeout(PATIENCE_S):
        open_ = set(tasks)
        while len(open_) > count:
            _, open_ = await asyncio.wait(open_, return_when=asyncio.FIRST_COMPLETED)


async def some_rounds(peer: VerifyPeer, text: EdgeText, count: int = 3) -> None:
    """Rounds of a session, each answered."""
    for _ in range(count):
        await peer.say(text.block())
        text.take(await peer.hear())


def closed(cloud: RunningCloud, reason: str) -> float:
    """How many connections the cloud has closed for it."""
    value = cloud.server.metrics.registry.get_sample_value(
        f"{PREFIX}connections_closed_total", {"reason": reason}
    )
    assert value is not None
    return value


async def test_silent_connections_of_one_address_are_bounded_and_another_is_served(tokens: Tokens) -> None:
    """200 of them, and at most the bound stay, while a session from another address begins and goes on."""
    token = tokens.add("acme")
    security = ServerSecurity(access=tokens.access(), max_unproved_per_peer=BOUND, handshake_timeout_s=60.0)
    text = EdgeText()
    async with (
        running_cloud(WatchedModel(TARGET), security=security) as cloud,
        strangers(cloud.address, STRANGERS, source="127.0.0.2") as silent,
    ):
        peer, _ = await cloud.opened(text, token)
        await some_rounds(peer, text)
        await all_but(BOUND, silent)
        await some_rounds(peer, text)
        await peer.closed()

        assert closed(cloud, "crowd") == STRANGERS - BOUND


async def test_half_open_handshakes_are_bounded_likewise(tmp_path: Path, tokens: Tokens) -> None:
    """Each has begun TLS and stopped; a caller with certificate and token comes in beside them."""
    certificates = Certificates.make(tmp_path)
    token = tokens.add("acme")
    security = certificates.server(
        "cloud", access=tokens.access(), max_unproved_per_peer=BOUND, handshake_timeout_s=60.0
    )
    async with (
        running_cloud(WatchedModel(TARGET), security=security) as cloud,
        strangers(cloud.address, STRANGERS, source="127.0.0.2", says=HALF_A_HANDSHAKE) as half,
        wire.open_channel(cloud.address, certificates.client()) as channel,
    ):
        metadata = wire.call_metadata(ClientSecurity(token=token))
        peer = VerifyPeer(wire.VerifierStub(channel).Verify(timeout=PATIENCE_S, metadata=metadata))
        text = EdgeText()
        await peer.say(text.open)
        await peer.hear()
        await some_rounds(peer, text)
        await all_but(BOUND, half)
        await some_rounds(peer, text)
        await peer.closed()

        assert closed(cloud, "crowd") == STRANGERS - BOUND


async def test_a_long_session_is_never_cut_where_strangers_of_the_same_address_are(tokens: Tokens) -> None:
    """Its connection outlives the time that they have, and what they are too many of."""
    token = tokens.add("acme")
    security = ServerSecurity(access=tokens.access(), max_unproved_per_peer=BOUND, handshake_timeout_s=1.0)
    text = EdgeText()
    async with running_cloud(WatchedModel(TARGET), security=security) as cloud:
        peer, _ = await cloud.opened(text, token)
        for _ in range(2):
            async with strangers(cloud.address, 5 * BOUND, source="127.0.0.1") as silent:
                await all_but(0, silent)
            await some_rounds(peer, text)
        await peer.closed()

        assert closed(cloud, "crowd") > 0


@pytest.mark.parametrize("call", ["none", "wrong token"])
async def test_a_caller_that_greets_and_proves_nothing_goes_when_its_time_is_over(
    tokens: Tokens, call: str
) -> None:
    """gRPC's own deadline is met by a greeting; a refused call is no proof."""
    tokens.add("acme")
    security = ServerSecurity(access=tokens.access(), handshake_timeout_s=0.5)
    async with running_cloud(WatchedModel(TARGET), security=security) as cloud:
        async with asyncio.timeout(PATIENCE_S):
            await cloud.channel.channel_ready()
            if call != "none":
                metadata = wire.call_metadata(ClientSecurity(token="tw_wrong"))
                stub = wire.VerifierStub(cloud.channel)
                with pytest.raises(grpc.aio.AioRpcError):
                    await stub.GetServerInfo(wire.server_info_request(), metadata=metadata)
            await cloud.channel.wait_for_state_change(grpc.ChannelConnectivity.READY)

        assert closed(cloud, "silence") >= 1


async def test_health_alone_outlives_the_time_of_strangers(tokens: Tokens) -> None:
    """A watch without a token goes on where a silent connection, younger than its own, has gone."""
    tokens.add("acme")
    security = ServerSecurity(access=tokens.access(), handshake_timeout_s=0.5)
    async with running_cloud(WatchedModel(TARGET), security=security) as cloud:
        watch = health_pb2_grpc.HealthStub(cloud.channel).Watch(
            health_pb2.HealthCheckRequest(service=wire.VERIFIER_SERVICE), timeout=PATIENCE_S
        )
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        for _ in range(2):
            async with strangers(cloud.address, 1, source="127.0.0.1") as silent:
                await all_but(0, silent)

        assert await wire.is_serving(cloud.channel, wire.VERIFIER_SERVICE, timeout_s=5)
        assert cloud.channel.get_state() is grpc.ChannelConnectivity.READY
        assert not watch.done()
        watch.cancel()


async def test_health_alone_has_a_bound_too(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    """It proves nothing."""
    monkeypatch.setattr("thinwire.common.door.doorkeeper.HEALTH_S", 0.5)
    tokens.add("acme")
    security = ServerSecurity(access=tokens.access(), handshake_timeout_s=60.0)
    async with running_cloud(WatchedModel(TARGET), security=security) as cloud:
        async with asyncio.timeout(PATIENCE_S):
            assert await wire.is_serving(cloud.channel, wire.VERIFIER_SERVICE, timeout_s=5)
            await cloud.channel.wait_for_state_change(grpc.ChannelConnectivity.READY)

        assert closed(cloud, "silence") == 1


async def test_where_no_tokens_are_asked_for_any_call_proves() -> None:
    """On loopback, and with --insecure-plaintext."""
    security = ServerSecurity(handshake_timeout_s=0.5)
    async with running_cloud(WatchedModel(TARGET), security=security) as cloud:
        stub = wire.VerifierStub(cloud.channel)
        await stub.GetServerInfo(wire.server_info_request(), timeout=PATIENCE_S)
        for _ in range(2):
            async with strangers(cloud.address, 1, source="127.0.0.1") as silent:
                await all_but(0, silent)

        assert cloud.channel.get_state() is grpc.ChannelConnectivity.READY


def test_bounds_on_strangers_out_of_range_are_refused() -> None:
    """None would be no bound, and none at all would let nobody in."""
    with pytest.raises(ConfigError, match=r"max_unproved_per_peer is 0; expected an integer from 1"):
        ServerSecurity(max_unproved_per_peer=0)
    with pytest.raises(
        ConfigError, match=r"handshake_timeout_s is inf; expected more than 0 and at most 3600"
    ):
        ServerSecurity(handshake_timeout_s=float("inf"))
