"""What a peer may hold without having proved itself: silent streams, health streams, connections."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from loopback import WatchedModel
from security.credentials import Tokens
from thinwire.cloud.settings import CloudSettings
from thinwire.common import wire
from thinwire.common.door.peers import PeerBound, peer_host
from thinwire.common.door.security import ServerSecurity
from thinwire.common.errors import DeadlineError, ResourceExhaustedError
from thinwire.common.session.messages import Verdict
from thinwire.common.wire.guarded_server import MAX_WATCHES_PER_PEER
from verify_peer import TARGET, EdgeText, running_cloud, whole_text


async def test_streams_that_say_nothing_are_bounded_and_harm_nobody_elses_session() -> None:
    """Those above the bound are refused at once, the others at the open deadline; a session goes on."""
    settings = CloudSettings(max_unopened_per_peer=4, open_timeout_s=1.5, allow_dense_f16=True)
    beside, twin = EdgeText(seed=3), EdgeText(seed=3)
    async with running_cloud(WatchedModel(TARGET), settings) as cloud:
        session, _ = await cloud.opened(beside)
        silent = [cloud.stream() for _ in range(20)]
        ends = asyncio.gather(*(peer.refusal() for peer in silent))
        for _ in range(4):
            await session.say(beside.block())
            beside.take(await session.hear())
        await session.closed()
        errors = await ends
        undisturbed = await whole_text(cloud, twin, 4)

        assert sorted(type(error).__name__ for error in errors) == (
            ["DeadlineError"] * 4 + ["ResourceExhaustedError"] * 16
        )
        assert beside.committed == undisturbed
        assert cloud.server.sessions == 0
    refused = next(error for error in errors if isinstance(error, ResourceExhaustedError))
    assert refused.message == "this address holds 4 streams without Open; expected fewer than 4."
    assert any(isinstance(error, DeadlineError) for error in errors)


async def test_tenants_behind_one_address_have_room_of_their_own(tmp_path: Path) -> None:
    """One that fills its own is told so by name; the other's session begins and ends meanwhile."""
    settings = CloudSettings(max_unopened_per_peer=3, open_timeout_s=60.0, allow_dense_f16=True)
    tokens = Tokens(tmp_path / "tokens.json")
    crowd, other = (tokens.add(tenant) for tenant in ("crowd", "other"))
    security = ServerSecurity(access=tokens.access())
    async with running_cloud(WatchedModel(TARGET), settings, security) as cloud:
        ends = [asyncio.ensure_future(cloud.stream(crowd).refusal()) for _ in range(6)]
        refused = [await end for end in itertools.islice(asyncio.as_completed(ends), 3)]
        text = EdgeText()
        peer, _ = await cloud.opened(text, other)
        await peer.say(text.block())
        verdict = await peer.hear()
        await peer.closed()
        waiting = [end for end in ends if not end.done()]
        for end in waiting:
            end.cancel()

    assert isinstance(verdict, Verdict)
    assert len(waiting) == 3
    message = "tenant crowd at this address holds 3 streams without Open; expected fewer than 3."
    assert {(type(error), error.message) for error in refused} == {(ResourceExhaustedError, message)}


async def test_a_stream_that_has_said_open_is_not_counted() -> None:
    """As many sessions as there are slots, whatever the bound on silent streams."""
    settings = CloudSettings(max_unopened_per_peer=1, allow_dense_f16=True)
    async with running_cloud(WatchedModel(TARGET), settings) as cloud:
        peers = [(await cloud.opened(EdgeText(seed=seed)))[0] for seed in range(5)]

        for peer in peers:
            await peer.closed()


async def test_health_streams_are_bounded_by_peer() -> None:
    """They need no token and have no end; a single question is always answered."""
    async with running_cloud(WatchedModel(TARGET)) as cloud:
        stub = health_pb2_grpc.HealthStub(cloud.channel)
        watches = [
            stub.Watch(health_pb2.HealthCheckRequest(service=wire.VERIFIER_SERVICE), timeout=30)
            for _ in range(MAX_WATCHES_PER_PEER)
        ]
        for watch in watches:
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Watch(health_pb2.HealthCheckRequest(), timeout=30).read()

        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await wire.is_serving(cloud.channel, wire.VERIFIER_SERVICE, timeout_s=5)
        for watch in watches:
            watch.cancel()


async def test_connections_of_one_listener_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC itself turns the next one away, and takes it once another has gone."""
    monkeypatch.setattr("thinwire.common.wire.transport.MAX_CONNECTIONS", 3)
    async with running_cloud(WatchedModel(TARGET)) as cloud, AsyncExitStack() as stack:
        host, _, port = cloud.address.rpartition(":")
        for _ in range(3):
            _, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.close)
        reader, writer = await asyncio.open_connection(host, int(port))
        stack.callback(writer.close)

        assert await asyncio.wait_for(reader.read(), 10) == b""


def test_a_peer_is_an_address_and_not_a_port() -> None:
    """An IPv6 host counts as its /64, an IPv4 one the same on both kinds of socket."""
    assert peer_host("ipv4:192.0.2.1:4711") == peer_host("ipv4:192.0.2.1:4712") == "192.0.2.1"
    assert peer_host("ipv6:%5B::ffff:192.0.2.1%5D:9") == "192.0.2.1"
    assert peer_host("ipv6:[2001:db8::1]:9") == peer_host("ipv6:%5B2001:db8::abcd%5D:10")
    assert peer_host("ipv6:[2001:db8::1]:9") != peer_host("ipv6:[2001:db8:0:1::1]:9")
    assert peer_host("ipv6:[fe80::1%25eth0]:9") == "fe80::/64"
    assert peer_host("unix:") == peer_host("unix:/run/x") == "unix"


@given(
    st.lists(
        st.tuples(st.sampled_from([("a", ""), ("a", "acme"), ("b", "acme")]), st.booleans()), max_size=40
    )
)
def test_a_bound_counts_every_peer_and_owner_by_itself_and_forgets_those_that_left(
    moves: list[tuple[tuple[str, str], bool]],
) -> None:
    """Whatever comes and goes, no more than the limit is held, and nothing remains."""
    bound = PeerBound("things", 2)
    held: defaultdict[tuple[str, str], list[object]] = defaultdict(list)
    for who, enters in moves:
        if not enters:
            if held[who]:
                held[who].pop().__exit__(None, None, None)  # type: ignore[attr-defined]
            continue
        peer, owner = who
        entry = bound.held(f"{peer}:1", owner)
        if len(held[who]) < 2:
            entry.__enter__()
            held[who].append(entry)
        else:
            with pytest.raises(ResourceExhaustedError):
                entry.__enter__()
    for entries in held.values():
        for entry in entries:
            entry.__exit__(None, None, None)  # type: ignore[attr-defined]

    assert bound._held == {}
