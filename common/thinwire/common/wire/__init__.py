"""
The only door to generated code: domain dataclasses ↔ protobuf, errors ↔ gRPC status, channels and servers.

Import the parts from here: `from thinwire.common import wire`.
"""

from thinwire.common.wire.client_messages import (
    edge_status_from_proto,
    edge_status_to_proto,
    generate_request_from_proto,
    generate_request_to_proto,
    generation_event_from_proto,
    generation_event_to_proto,
    get_status_request,
    server_info_from_proto,
    server_info_to_proto,
)
from thinwire.common.wire.credentials import bind, call_metadata, open_channel, token_of
from thinwire.common.wire.diagnosis import wrong_protection
from thinwire.common.wire.guard import credential_of
from thinwire.common.wire.guarded_server import GuardedServer, make_server
from thinwire.common.wire.health import HealthReporter, is_serving, serving_status
from thinwire.common.wire.outbox import Outbox
from thinwire.common.wire.session_messages import (
    CloudStreamReader,
    EdgeStreamWriter,
    closed_to_proto,
    message_from_cloud,
    reply_to_proto,
    server_info_request,
)
from thinwire.common.wire.status import abort_with, error_from_rpc, reason_of
from thinwire.common.wire.transport import (
    GENERATOR_SERVICE,
    MAX_GENERATE_BYTES,
    VERIFIER_SERVICE,
    GeneratorServicer,
    GeneratorStub,
    VerifierServicer,
    VerifierStub,
    add_generator,
    add_verifier,
    channel_options,
    drain,
    server_options,
)

__all__ = [
    "GENERATOR_SERVICE",
    "MAX_GENERATE_BYTES",
    "VERIFIER_SERVICE",
    "CloudStreamReader",
    "EdgeStreamWriter",
    "GeneratorServicer",
    "GeneratorStub",
    "GuardedServer",
    "HealthReporter",
    "Outbox",
    "VerifierServicer",
    "VerifierStub",
    "abort_with",
    "add_generator",
    "add_verifier",
    "bind",
    "call_metadata",
    "channel_options",
    "closed_to_proto",
    "credential_of",
    "drain",
    "edge_status_from_proto",
    "edge_status_to_proto",
    "error_from_rpc",
    "generate_request_from_proto",
    "generate_request_to_proto",
    "generation_event_from_proto",
    "generation_event_to_proto",
    "get_status_request",
    "is_serving",
    "make_server",
    "message_from_cloud",
    "open_channel",
    "reason_of",
    "reply_to_proto",
    "server_info_from_proto",
    "server_info_request",
    "server_info_to_proto",
    "server_options",
    "serving_status",
    "token_of",
    "wrong_protection",
]
