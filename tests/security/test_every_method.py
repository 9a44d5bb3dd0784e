"""Every method of every service that the daemons register, as they themselves tell, called by strangers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from fakes import TableModel
from loopback import loopback
from security.credentials import Tokens
from security.raw_http2 import raw_caller
from thinwire.common import wire
from thinwire.common.door.security import ClientSecurity, ServerSecurity
from thinwire.common.wire.guarded_server import GuardedServer
from verify_peer import DRAFT, TARGET, VOCABULARY

GARBAGE = b"\xff" * 64
"""No protobuf message: a field's number never ends."""
TIMEOUT_S = 20.0
HEALTH = "/grpc.health.v1.Health/"
SERVICES = {
    "cloud": {"thinwire.v1.Verifier", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"},
    "edge": {"thinwire.v1.Generator", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"},
}


@dataclass
class Daemon:
    """One of the pair, and what it registered."""

    name: str
    methods: dict[str, tuple[bool, bool]] = field(default_factory=dict)
    """Path → whether its requests, and whether its responses, are streams."""
    address: str = ""
    token: str = ""

    def call(self, channel: grpc.aio.Channel, path: str, message: bytes, token: str | None) -> Any:
        """The method, with one message of these bytes."""
        shape = self.methods[path]
        streams = {
            (False, False): "unary_unary",
            (False, True): "unary_stream",
            (True, False): "stream_unary",
            (True, True): "stream_stream",
        }
        make = getattr(channel, streams[shape])(path)
        request = iter([message]) if shape[0] else message
        return make(request, timeout=TIMEOUT_S, metadata=wire.call_metadata(ClientSecurity(token=token)))


@pytest.fixture(params=["cloud", "edge"])
async def daemon(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Daemon]:
    """A running pair with tokens; the one that is meant tells what it registers."""
    daemons = {"cloud": Daemon("cloud"), "edge": Daemon("edge")}
    starting = iter(daemons.values())  # the cloud first
    by_server: dict[int, Daemon] = {}
    register = GuardedServer.add_registered_method_handlers

    def noting(server: GuardedServer, service: str, handlers: dict[str, Any]) -> None:
        if id(server) not in by_server:
            by_server[id(server)] = next(starting)
        for name, handler in handlers.items():
            shape = (bool(handler.request_streaming), bool(handler.response_streaming))
            by_server[id(server)].methods[f"/{service}/{name}"] = shape
        register(server, service, handlers)

    monkeypatch.setattr(GuardedServer, "add_registered_method_handlers", noting)
    tokens = Tokens(tmp_path / "tokens.json")
    token = tokens.add("acme")
    async with loopback(
        TableModel(TARGET),
        TableModel(DRAFT),
        VOCABULARY,
        cloud_security=ServerSecurity(access=tokens.access()),
        edge_security=ServerSecurity(access=tokens.access()),
        to_cloud=ClientSecurity(token=token),
        to_edge=ClientSecurity(token=token),
    ) as both:
        daemons["cloud"].address, daemons["edge"].address = both.cloud_address, both.edge_address
        found = daemons[request.param]
        found.token = token
        yield found


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.found: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """One more."""
        self.found.append(record)


@pytest.fixture
def log(daemon: Daemon) -> Iterator[list[logging.LogRecord]]:
    """What the daemons' logs get, once they run."""
    handler, root = Records(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler.found
    root.removeHandler(handler)
    root.setLevel(level)


@asynccontextmanager
async def channel_to(daemon: Daemon) -> AsyncIterator[grpc.aio.Channel]:
    """A plain one: bytes up, bytes down."""
    async with grpc.aio.insecure_channel(daemon.address) as channel:
        yield channel


async def code_of(call: Any, *, has_end: bool = True) -> grpc.StatusCode:
    """How a call ends, its answers read; OK for one that has no end and answers."""
    if hasattr(call, "read"):
        with suppress(grpc.aio.AioRpcError):
            while await call.read() is not grpc.aio.EOF:
                if not has_end:
                    call.cancel()
                    return grpc.StatusCode.OK
    return await call.code()


def without_traceback(log: list[logging.LogRecord]) -> bool:
    """Whether no line holds one."""
    return not any(record.exc_info for record in log) and not any("Traceback" in r.getMessage() for r in log)


async def test_the_services_are_those_that_were_thought_of(daemon: Daemon) -> None:
    """A new one is tested below by itself; this says that the list is read from the server at all."""
    assert {path.split("/")[1] for path in daemon.methods} == SERVICES[daemon.name]
    assert {HEALTH + name for name in ("Check", "Watch", "List")} <= set(daemon.methods)


@pytest.mark.parametrize("message", [GARBAGE, b""], ids=["garbage", "empty"])
async def test_without_a_token_only_health_answers_and_nothing_is_parsed(
    daemon: Daemon, log: list[logging.LogRecord], message: bytes
) -> None:
    """UNAUTHENTICATED for all else, whatever the message; not a line in the log for it."""
    codes = {}
    async with channel_to(daemon) as channel:
        for path in daemon.methods:
            if not path.startswith(HEALTH):
                codes[path] = await code_of(daemon.call(channel, path, message, None))

    assert codes
    assert set(codes.values()) == {grpc.StatusCode.UNAUTHENTICATED}
    assert log == []


async def test_bytes_that_do_not_parse_are_refused_by_every_method(
    daemon: Daemon, log: list[logging.LogRecord]
) -> None:
    """With a token or, for health, without; INVALID_ARGUMENT with our sentence and no traceback."""
    async with channel_to(daemon) as channel:
        for path in daemon.methods:
            token = None if path.startswith(HEALTH) else daemon.token
            call = daemon.call(channel, path, GARBAGE, token)

            assert await code_of(call) is grpc.StatusCode.INVALID_ARGUMENT, path
            assert "received 64 bytes that do not parse" in await call.details(), path
            assert b"REMOTE_PROTOCOL" in dict(await call.trailing_metadata())["grpc-status-details-bin"]

    assert without_traceback(log)
    assert len(log) <= len(daemon.methods)


async def test_an_empty_message_fails_no_method(daemon: Daemon, log: list[logging.LogRecord]) -> None:
    """It parses, so each answers, or refuses in words of its own."""
    async with channel_to(daemon) as channel:
        for path in daemon.methods:
            has_end = not path.endswith("/Watch")
            code = await code_of(daemon.call(channel, path, b"", daemon.token), has_end=has_end)

            assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT), path

    assert without_traceback(log)


async def test_a_flood_of_garbage_from_one_address_is_one_line(
    daemon: Daemon, log: list[logging.LogRecord]
) -> None:
    """300 calls of health, which need no token."""
    async with channel_to(daemon) as channel:
        for _ in range(100):
            for name in ("Check", "List", "Watch"):
                await code_of(daemon.call(channel, HEALTH + name, GARBAGE, None))

    assert [record.getMessage() for record in log] == ["call refused"]


async def test_health_list_tells_every_service(daemon: Daemon, log: list[logging.LogRecord]) -> None:
    """The whole daemon and its service, without a token and without a line in the log."""
    async with channel_to(daemon) as channel:
        answer = await daemon.call(channel, HEALTH + "List", b"", None)

    (ours,) = SERVICES[daemon.name] - {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert ours.encode() in answer
    assert log == []


async def test_a_call_without_any_message_hurts_nobody(daemon: Daemon, log: list[logging.LogRecord]) -> None:
    """Every method's requests end before they began; the connection's other calls are answered."""
    async with raw_caller(daemon.address) as caller, channel_to(daemon) as channel:
        for path in daemon.methods:
            caller.call(path, None)
        caller.call(HEALTH + "Check", b"")
        async with asyncio.timeout(TIMEOUT_S):
            await caller.heard(b"\x00\x00\x00\x00\x02\x08\x01")  # a message of two bytes: SERVING
            await daemon.call(channel, HEALTH + "Check", b"", None)

    assert without_traceback(log)


@pytest.mark.parametrize("path", ["/nobody.v1.Nothing/Call", "/", "/thinwire.v1.Verifier/"])
async def test_a_method_that_is_not_there_is_unimplemented(
    daemon: Daemon, log: list[logging.LogRecord], path: str
) -> None:
    """And no line."""
    async with channel_to(daemon) as channel:
        call = channel.unary_unary(path)(GARBAGE, timeout=TIMEOUT_S)

        assert await code_of(call) is grpc.StatusCode.UNIMPLEMENTED
    assert log == []
