"""Channel and server options, and the generated service classes under their own names."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import grpc

from thinwire.common.config import MAX_ROUND_BYTES
from thinwire.common.door.security import HANDSHAKE_TIMEOUT_S
from thinwire.common.pb import generator_pb2, generator_pb2_grpc, verifier_pb2, verifier_pb2_grpc
from thinwire.common.wire.parsing import ParsingChannel

_SERVICES = (
    verifier_pb2.DESCRIPTOR.services_by_name["Verifier"],
    generator_pb2.DESCRIPTOR.services_by_name["Generator"],
)
VERIFIER_SERVICE, GENERATOR_SERVICE = (service.full_name for service in _SERVICES)
VERIFIER_METHODS, GENERATOR_METHODS = (
    tuple(f"/{service.full_name}/{method}" for method in service.methods_by_name) for service in _SERVICES
)
"""As gRPC spells them, with the service in front."""

VerifierServicer = verifier_pb2_grpc.VerifierServicer
GeneratorServicer = generator_pb2_grpc.GeneratorServicer
add_verifier: Callable[[Any, grpc.aio.Server], None] = verifier_pb2_grpc.add_VerifierServicer_to_server
add_generator: Callable[[Any, grpc.aio.Server], None] = generator_pb2_grpc.add_GeneratorServicer_to_server

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Open carries the prompt; 4 MiB is gRPC's own default and holds about a million token ids."""
MAX_GENERATE_BYTES = 8 * 1024 * 1024
"""A prompt above `MAX_PROMPT_BYTES` is still received up to here, and so refused in our words, not gRPC's."""

MAX_CONNECTIONS = 512
"""Connections of one listener at once, below the usual 1024 open files of a process; one more is closed."""
MAX_STREAMS_PER_CONNECTION = 256
"""A peer's further calls wait on its own side."""

_ROUND_HEADER_BYTES = 1024
"""Around a round's payload: a block's fields (28 at most) and gRPC's prefix (5); generously."""

_COMMON = [
    # The bandwidth probe sends up to 340 B beside each message of a sparse stream; rounds gain nothing by it.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]


def channel_options() -> list[tuple[str, int]]:
    """Options of every client channel."""
    return [
        *_COMMON,
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # Never resolve or connect through a proxy of the environment: a link to a peer is the user's own.
        ("grpc.enable_http_proxy", 0),
    ]


def server_options(
    *,
    handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
    max_request_bytes: int = MAX_MESSAGE_BYTES,
    max_round_bytes: int = MAX_ROUND_BYTES,
) -> list[tuple[str, int]]:
    """
    Options of every server.

    Whoever connects and says nothing, or starts TLS and stops, is gone by `handshake_timeout_s`.
    A payload of up to `max_round_bytes` comes in one round trip; a longer message takes two.
    """
    return [
        *_COMMON,
        ("grpc.max_receive_message_length", max_request_bytes),
        # Two daemons on one port must be an error, not a lottery.
        ("grpc.so_reuseport", 0),
        # Clients may ping every 20 s while a round is in flight.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
        ("grpc.server_handshake_timeout_ms", math.ceil(handshake_timeout_s * 1000)),
        ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
        ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
        # HTTP/2's window of a stream, and of what a connection's streams send together within a round trip.
        # Without the bandwidth probe it stays at 65 535 bytes, and the rest of a longer message waits for the
        # answer to its beginning. The price is memory: so much of every stream may lie here unread.
        ("grpc.http2.lookahead_bytes", max_round_bytes + _ROUND_HEADER_BYTES),
    ]


def VerifierStub(channel: grpc.aio.Channel) -> Any:  # noqa: N802 - the generated name
    """The cloud's methods; a response that does not parse is `Unparsable`."""
    make: Callable[[Any], Any] = verifier_pb2_grpc.VerifierStub
    return make(ParsingChannel(channel))


def GeneratorStub(channel: grpc.aio.Channel) -> Any:  # noqa: N802 - the generated name
    """The edge's methods; a response that does not parse is `Unparsable`."""
    make: Callable[[Any], Any] = generator_pb2_grpc.GeneratorStub
    return make(ParsingChannel(channel))
