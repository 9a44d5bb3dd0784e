"""A client whose edge answers what is no answer: an error in words, never a text that looks whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from loopback import generate, make_request
from thinwire.common import wire
from thinwire.common.errors import RemoteProtocolError, ThinwireError, TransportError
from thinwire.common.session.generation import GenerationStarted, Token
from thinwire.common.session.messages import TokenKind
from thinwire.edge.client import AsyncClient, connect
from thinwire.edge.cloud_link import CloudLink
from thinwire.edge.settings import EdgeSettings

GARBAGE = b"\xff" * 9
STARTED = GenerationStarted(0, 1, make_request().scheme, 4)
TOKENS = (Token(1, TokenKind.BONUS, "b"),)


def said(*events: Any) -> list[bytes]:
    """Events as bytes."""
    return [wire.generation_event_to_proto(event).SerializeToString() for event in events]


@asynccontextmanager
async def strange_peer(service: str, answers: Sequence[bytes]) -> AsyncIterator[str]:
    """Somebody who answers every call of a service with these bytes, then with OK."""

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for answer in answers:
            yield answer

    async def unary(request: bytes, context: Any) -> bytes:
        return answers[0]

    handlers = {
        "Generate": grpc.unary_stream_rpc_method_handler(stream),
        "GetStatus": grpc.unary_unary_rpc_method_handler(unary),
        "GetServerInfo": grpc.unary_unary_rpc_method_handler(unary),
    }
    server = grpc.aio.server()
    server.add_registered_method_handlers(service, handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def client_of(answers: Sequence[bytes]) -> AsyncIterator[AsyncClient]:
    """A client of such an edge."""
    async with strange_peer(wire.GENERATOR_SERVICE, answers) as address, connect(address) as client:
        yield client


async def test_bytes_that_do_not_parse_end_a_text_with_an_error() -> None:
    """gRPC hands None to its reader, which is also how a stream ends."""
    async with client_of([*said(STARTED, TOKENS), GARBAGE]) as client:
        with pytest.raises(RemoteProtocolError, match=r"received 9 bytes that do not parse; expected"):
            await generate(client, make_request())


async def test_a_stream_that_ends_before_its_last_event_is_no_whole_text() -> None:
    """Status OK notwithstanding."""
    async with client_of(said(STARTED, TOKENS)) as client:
        with pytest.raises(TransportError, match=r"ended the text without a word; expected its last event"):
            await generate(client, make_request())


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (bytes.fromhex("12060a0408011063"), "token kind is 99; expected one of"),
        (bytes.fromhex("1a020863"), "finish reason is 99; expected one of"),
    ],
    ids=["token kind", "finish reason"],
)
async def test_a_word_that_is_not_known_is_refused(answer: bytes, what: str) -> None:
    """Protobuf lets any number pass for an enum."""
    async with client_of([answer]) as client:
        with pytest.raises(RemoteProtocolError, match=what):
            await generate(client, make_request())


async def test_a_status_that_does_not_parse_is_an_error_in_words() -> None:
    """Of an edge to its client, and of a cloud to its edge."""
    async with client_of([GARBAGE]) as client:
        with pytest.raises(RemoteProtocolError, match=r"received 9 bytes that do not parse"):
            await client.status(timeout_s=5.0)
    async with strange_peer(wire.VERIFIER_SERVICE, [GARBAGE]) as address:
        link = CloudLink(address, EdgeSettings())
        answer = await link.server_info()
        await link.close()

    assert isinstance(answer, ThinwireError)
    assert "received 9 bytes that do not parse" in answer.message
