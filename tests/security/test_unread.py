"""Peers that stop reading, and peers that talk nonsense: raw sockets at every listener of a daemon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from loopback import WatchedModel
from security.credentials import Tokens
from security.raw_http2 import raw_caller
from thinwire.common import wire
from thinwire.common.daemon.metrics_listener import MAX_CONNECTIONS, metrics_listener
from thinwire.common.door.security import ServerSecurity
from thinwire.common.observe.metrics import PREFIX
from verify_peer import TARGET, EdgeText, RunningCloud, running_cloud

PATIENCE_S = 20.0
WATCH = "/grpc.health.v1.Health/Watch"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def closed_unread(cloud: RunningCloud) -> float:
    """Connections that the cloud has closed because nobody read."""
    value = cloud.server.metrics.registry.get_sample_value(
        f"{PREFIX}connections_closed_total", {"reason": "unread"}
    )
    assert value is not None
    return value


async def test_a_watcher_that_reads_nothing_keeps_no_daemon_from_draining() -> None:
    """It takes no byte of its first answer; the daemon still becomes NOT_SERVING, tells others, and ends."""
    async with (
        running_cloud(WatchedModel(TARGET)) as cloud,
        raw_caller(cloud.address, window_bytes=0) as deaf,
    ):
        deaf.call(WATCH, b"")
        await deaf.heard(b"application/grpc")  # the headers of its answer: the write has begun
        other = health_pb2_grpc.HealthStub(cloud.channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=PATIENCE_S
        )
        assert (await other.read()).status == SERVING
        async with asyncio.timeout(PATIENCE_S):
            stopping = asyncio.create_task(cloud.server.stop(0.5))

            assert (await other.read()).status == NOT_SERVING
            await stopping


async def test_the_connection_of_a_watcher_that_reads_nothing_is_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Behind its deadline; without a traceback, and the watches that it held are free again."""
    monkeypatch.setattr("thinwire.common.wire.health.WATCH_WRITE_TIMEOUT_S", 0.6)
    async with (
        running_cloud(WatchedModel(TARGET)) as cloud,
        raw_caller(cloud.address, window_bytes=0) as deaf,
    ):
        for _ in range(3):
            deaf.call(WATCH, b"")
        async with asyncio.timeout(PATIENCE_S):
            await deaf.ended()
            while cloud.server._health._watches:
                await asyncio.sleep(0.01)

        assert closed_unread(cloud) == 1
    assert not any(record.exc_info for record in caplog.records)


async def test_a_watch_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """DEADLINE_EXCEEDED, in words; a new one is taken."""
    monkeypatch.setattr("thinwire.common.wire.health.MAX_WATCH_S", 0.2)
    async with running_cloud(WatchedModel(TARGET)) as cloud:
        for _ in range(2):
            watch = health_pb2_grpc.HealthStub(cloud.channel).Watch(
                health_pb2.HealthCheckRequest(), timeout=PATIENCE_S
            )
            assert (await watch.read()).status == SERVING

            assert await watch.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert await watch.details() == "this health stream has lasted 0.2 s; expected a new one."


async def test_watches_of_all_peers_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the bound of one address, which is larger here."""
    monkeypatch.setattr("thinwire.common.wire.health.MAX_WATCHES", 2)
    async with running_cloud(WatchedModel(TARGET)) as cloud:
        stub = health_pb2_grpc.HealthStub(cloud.channel)
        held = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S) for _ in range(2)]
        for watch in held:
            await watch.read()
        third = stub.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)

        assert await third.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await third.details() == "2 health streams are open; expected fewer than 2."


async def test_nonsense_at_the_listener_leaves_no_line_and_others_are_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Random bytes, a browser's request, a greeting and then nonsense; a session goes on beside them."""
    tokens = Tokens(tmp_path / "tokens.json")
    token = tokens.add("acme")
    security = ServerSecurity(access=tokens.access(), handshake_timeout_s=1.0)
    text = EdgeText()
    greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    async with running_cloud(WatchedModel(TARGET), security=security) as cloud:
        peer, _ = await cloud.opened(text, token)
        host, _, port = cloud.address.rpartition(":")
        for says in (b"\xff" * 512, b"GET / HTTP/1.1\r\n\r\n", greeting + b"\xff" * 512, os.urandom(4096)):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(says)
            async with asyncio.timeout(PATIENCE_S):
                with contextlib.suppress(ConnectionError):
                    while await reader.read(4096):
                        pass
            writer.close()
        await peer.say(text.block())
        text.take(await peer.hear())
        await peer.closed()

    assert not any(record.exc_info for record in caplog.records)


@asynccontextmanager
async def page(size_bytes: int = 100) -> AsyncIterator[tuple[str, int]]:
    """The metrics' listener with a page of so many bytes."""
    async with metrics_listener("127.0.0.1:0", lambda: b"x" * size_bytes) as port:
        yield "127.0.0.1", port


async def scraped(address: tuple[str, int]) -> bytes:
    """The whole answer to a good request; empty where there is no place."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_a_scraper_that_stops_reading_is_dropped_and_its_place_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All places are taken by such ones, each with more than its buffers hold; then a good one is served."""
    monkeypatch.setattr("thinwire.common.daemon.metrics_listener.REQUEST_TIMEOUT_S", 0.5)
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(page(16 * 1024 * 1024))
        deaf = []
        for _ in range(MAX_CONNECTIONS):
            connection = stack.enter_context(socket.create_connection(address))
            connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            connection.setblocking(False)
            deaf.append(connection)
        async with asyncio.timeout(PATIENCE_S):
            while len(await scraped(address)) < 16 * 1024 * 1024:
                await asyncio.sleep(0.05)
            for connection in deaf:  # what had been sent before, and then the end
                with contextlib.suppress(ConnectionError):
                    while await loop.sock_recv(connection, 1 << 20):
                        pass


@pytest.mark.parametrize(
    "says", [b"\xff" * 64 + b"\r\n\r\n", b"\r\n\r\n", b"GET\r\n\r\n", b"\x00" * 20_000, b"GET /metrics"]
)
async def test_nonsense_at_the_metrics_is_answered_or_dropped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, says: bytes
) -> None:
    """Within its deadline, without a line in the log; the next scraper is served."""
    monkeypatch.setattr("thinwire.common.daemon.metrics_listener.REQUEST_TIMEOUT_S", 0.5)
    async with page() as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(says)
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                answer = await reader.read()
                assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
        writer.close()

        assert b"200 OK" in await scraped(address)
    assert caplog.records == []


async def test_health_of_a_server_that_answers_nonsense_is_no_health() -> None:
    """The asking side: SERVING only if it was said."""

    async def nonsense(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return b"\xff" * 8

    server = grpc.aio.server()
    handlers = {"Check": grpc.unary_unary_rpc_method_handler(nonsense)}
    server.add_registered_method_handlers("grpc.health.v1.Health", handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert not await wire.is_serving(channel, "", timeout_s=PATIENCE_S)
        with pytest.raises(Exception, match=r"received 8 bytes that do not parse"):
            await wire.serving_status(channel, "", timeout_s=PATIENCE_S)
    await server.stop(0)
