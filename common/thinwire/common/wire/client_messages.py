"""The messages between a client and its edge, and the daemons' accounts of themselves ↔ protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

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
from thinwire.common.session.messages import PAYLOAD_LAYOUT, PROTOCOL_VERSION, FinishReason, TokenKind
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.common.wire.by_name import from_message, to_message
from thinwire.common.wire.parsing import check_parsed
from thinwire.common.wire.schemes import scheme_from_proto, scheme_to_proto
from thinwire.common.wire.session_messages import (
    sampling_from_proto,
    sampling_to_proto,
    vocabulary_from_proto,
    vocabulary_to_proto,
)

_Word = TypeVar("_Word")
_KINDS: dict[TokenKind, Any] = {kind: pb.TokenKind.Value(f"TOKEN_KIND_{kind.name}") for kind in TokenKind}
_KINDS_BACK = {value: key for key, value in _KINDS.items()}
_REASONS: dict[FinishReason, Any] = {
    reason: pb.FinishReason.Value(f"FINISH_REASON_{reason.name}")
    for reason in FinishReason
    if reason is not FinishReason.ERROR  # such a text ends in a status
}
_REASONS_BACK = {value: key for key, value in _REASONS.items()}


def generate_request_to_proto(request: GenerationRequest) -> pb.GenerateRequest:
    """A client's request."""
    return to_message(
        pb.GenerateRequest,
        request,
        sampling=sampling_to_proto(request.sampling),
        scheme=scheme_to_proto(request.scheme, decoding=False),
    )


def generate_request_from_proto(request: pb.GenerateRequest) -> GenerationRequest:
    """
    An edge's reading of it; what is absent takes its default, the seed fresh bits.

    Raises:
        ConfigError: a value out of its range.
    """
    sampling = sampling_from_proto(request.sampling)
    scheme = scheme_from_proto(request.scheme, decoding=False, temperature=sampling.temperature)
    return from_message(GenerationRequest, request, sampling=sampling, scheme=scheme)


def generation_event_to_proto(event: GenerationEvent) -> pb.GenerateResponse:
    """Edge → client."""
    if isinstance(event, GenerationStarted):
        started = to_message(pb.Started, event, scheme=scheme_to_proto(event.scheme, decoding=False))
        return pb.GenerateResponse(started=started)
    if isinstance(event, GenerationFinished):
        statistics = to_message(pb.Statistics, event.statistics)
        finished = pb.Finished(reason=_REASONS[event.reason], text=event.text, statistics=statistics)
        return pb.GenerateResponse(finished=finished)
    tokens = [pb.Token(token_id=t.token_id, kind=_KINDS[t.kind], text=t.text) for t in event]
    return pb.GenerateResponse(tokens=pb.Tokens(tokens=tokens))


def generation_event_from_proto(response: pb.GenerateResponse) -> GenerationEvent:
    """
    A client's reading of one event.

    Raises:
        RemoteProtocolError: it does not parse, no event set, or a word in it that this release does not know.
    """
    check_parsed(response)
    kind = response.WhichOneof("event")
    if kind == "started":
        scheme = scheme_from_proto(response.started.scheme, decoding=False)
        return from_message(GenerationStarted, response.started, scheme=scheme)
    if kind == "tokens":
        tokens = response.tokens.tokens
        return tuple(Token(t.token_id, _known(_KINDS_BACK, t.kind, "token kind"), t.text) for t in tokens)
    if kind == "finished":
        return from_message(
            GenerationFinished,
            response.finished,
            reason=_known(_REASONS_BACK, response.finished.reason, "finish reason"),
            statistics=from_message(GenerationStatistics, response.finished.statistics),
        )
    raise RemoteProtocolError("a response carries no event; expected started, tokens or finished.")


def get_status_request() -> pb.GetStatusRequest:
    """The empty request of GetStatus."""
    return pb.GetStatusRequest()


def server_info_to_proto(info: ServerInfo) -> verifier_pb2.GetServerInfoResponse:
    """The cloud's account of itself, with this release's limits."""
    return to_message(
        verifier_pb2.GetServerInfoResponse,
        info,
        protocol_version=PROTOCOL_VERSION,
        payload_layout=PAYLOAD_LAYOUT,
        vocabulary=vocabulary_to_proto(info.vocabulary),
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
    return from_message(
        ServerInfo,
        info,
        vocabulary=vocabulary_from_proto(info.vocabulary),
        max_sessions=info.limits.max_sessions,
        resume_ttl_s=info.limits.resume_ttl_s,
    )


def edge_status_to_proto(status: EdgeStatus) -> pb.GetStatusResponse:
    """The edge's account of itself."""
    cloud = status.cloud_info
    return to_message(
        pb.GetStatusResponse,
        status,
        vocabulary=vocabulary_to_proto(status.vocabulary),
        cloud_reachable=cloud is not None,
        cloud_info=None if cloud is None else server_info_to_proto(cloud),
    )


def edge_status_from_proto(status: pb.GetStatusResponse) -> EdgeStatus:
    """A client's reading of GetStatus; RemoteProtocolError if it does not parse."""
    check_parsed(status)
    return from_message(
        EdgeStatus,
        status,
        vocabulary=vocabulary_from_proto(status.vocabulary),
        cloud_info=server_info_from_proto(status.cloud_info) if status.cloud_reachable else None,
    )


def _known(words: Mapping[Any, _Word], received: int, what: str) -> _Word:
    """
    The word that an enum's number stands for; protobuf lets every number pass.

    Raises:
        RemoteProtocolError: none.
    """
    if received not in words:
        raise RemoteProtocolError(f"{what} is {received}; expected one of {', '.join(map(str, words))}.")
    return words[received]
