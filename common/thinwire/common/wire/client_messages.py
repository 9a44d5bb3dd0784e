"""The messages between a client and its edge, and the daemons' accounts of themselves ↔ protobuf."""

from __future__ import annotations

from thinwire.common import config
from thinwire.common.errors import RemoteProtocolError
from thinwire.common.pb import generator_pb2 as pb
from thinwire.common.pb import verifier_pb2
from thinwire.common.session.generation import (
    EdgeStatus,
    GenerationEvent,
    GenerationFinished,
    GenerationRequest,
    GenerationStarted,
    ServerInfo,
    Token,
)
from thinwire.common.session.messages import PAYLOAD_LAYOUT, PROTOCOL_VERSION, TokenKind
from thinwire.common.wire.by_name import enum_numbers, from_message, to_message
from thinwire.common.wire.parsing import check_parsed
from thinwire.common.wire.schemes import scheme_from_proto, scheme_to_proto

get_status_request = pb.GetStatusRequest
"""The empty request of GetStatus."""
_kind_number, _kind_of = enum_numbers(TokenKind, pb.TokenKind.DESCRIPTOR)


def generate_request_to_proto(request: GenerationRequest) -> pb.GenerateRequest:
    """A client's request."""
    return to_message(pb.GenerateRequest, request, scheme=scheme_to_proto(request.scheme, decoding=False))


def generate_request_from_proto(request: pb.GenerateRequest) -> GenerationRequest:
    """An edge's reading of it; what is absent takes its default. ConfigError for a value out of range."""
    sampling = from_message(config.SamplingParameters, request.sampling)
    scheme = scheme_from_proto(request.scheme, decoding=False, temperature=sampling.temperature)
    return from_message(GenerationRequest, request, sampling=sampling, scheme=scheme)


def generation_event_to_proto(event: GenerationEvent) -> pb.GenerateResponse:
    """Edge → client."""
    if isinstance(event, GenerationStarted):
        started = to_message(pb.Started, event, scheme=scheme_to_proto(event.scheme, decoding=False))
        return pb.GenerateResponse(started=started)
    if isinstance(event, GenerationFinished):
        return pb.GenerateResponse(finished=to_message(pb.Finished, event))
    tokens = [pb.Token(token_id=t.token_id, kind=_kind_number(t.kind), text=t.text) for t in event]
    return pb.GenerateResponse(tokens=pb.Tokens(tokens=tokens))


def generation_event_from_proto(response: pb.GenerateResponse) -> GenerationEvent:
    """A client's reading of one event; RemoteProtocolError for none, or a word that is not known here."""
    check_parsed(response)
    kind = response.WhichOneof("event")
    if kind == "started":
        scheme = scheme_from_proto(response.started.scheme, decoding=False)
        return from_message(GenerationStarted, response.started, scheme=scheme)
    if kind == "tokens":
        return tuple(Token(t.token_id, _kind_of(t.kind), t.text) for t in response.tokens.tokens)
    if kind == "finished":
        return from_message(GenerationFinished, response.finished)
    raise RemoteProtocolError("a response carries no event; expected started, tokens or finished.")


def server_info_to_proto(info: ServerInfo) -> verifier_pb2.GetServerInfoResponse:
    """The cloud's account of itself, with this release's limits."""
    return to_message(
        verifier_pb2.GetServerInfoResponse,
        info,
        protocol_version=PROTOCOL_VERSION,
        payload_layout=PAYLOAD_LAYOUT,
        limits=verifier_pb2.Limits(
            max_draft_length=config.MAX_DRAFT_LENGTH,
            max_support_size=config.MAX_SUPPORT_SIZE,
            max_lattice_resolution=config.MAX_LATTICE_RESOLUTION,
            max_round_bytes=config.MAX_ROUND_BYTES,
            max_sessions=info.max_sessions,
            resume_ttl_s=info.resume_ttl_s,
        ),
    )


def server_info_from_proto(info: verifier_pb2.GetServerInfoResponse) -> ServerInfo:
    """An edge's reading of GetServerInfo; RemoteProtocolError if it does not parse."""
    check_parsed(info)
    limits = {name: getattr(info.limits, name) for name in ("max_sessions", "resume_ttl_s")}
    return from_message(ServerInfo, info, **limits)


def edge_status_to_proto(status: EdgeStatus) -> pb.GetStatusResponse:
    """The edge's account of itself."""
    cloud = status.cloud_info
    return to_message(
        pb.GetStatusResponse,
        status,
        cloud_reachable=cloud is not None,
        cloud_info=None if cloud is None else server_info_to_proto(cloud),
    )


def edge_status_from_proto(status: pb.GetStatusResponse) -> EdgeStatus:
    """A client's reading of GetStatus; RemoteProtocolError if it does not parse."""
    check_parsed(status)
    cloud = server_info_from_proto(status.cloud_info) if status.cloud_reachable else None
    return from_message(EdgeStatus, status, cloud_info=cloud)
