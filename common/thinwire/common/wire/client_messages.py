"""The messages between a client and its edge, and the daemons' accounts of themselves ↔ protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

from thinwire.common import config
from thinwire.common.config import (
    GenerationParameters,
    Rollback,
    SamplingParameters,
    SchemeParameters,
    default_scheme,
)
from thinwire.common.errors import RemoteProtocolError
from thinwire.common.pb import generator_pb2 as pb
from thinwire.common.pb import verifier_pb2
from thinwire.common.session.generation import (
    EdgeStatus,
    GenerationEvent,
    GenerationFinished,
    GenerationStarted,
    GenerationStatistics,
    ServerInfo,
    Token,
)
from thinwire.common.session.messages import PAYLOAD_LAYOUT, PROTOCOL_VERSION, FinishReason, TokenKind
from thinwire.common.wire.parsing import check_parsed
from thinwire.common.wire.session_messages import (
    sampling_from_proto,
    sampling_to_proto,
    vocabulary_from_proto,
    vocabulary_to_proto,
)

_Word = TypeVar("_Word")
_ROLLBACKS = {Rollback.COMMITTED: pb.ROLLBACK_COMMITTED, Rollback.DRAFTED: pb.ROLLBACK_DRAFTED}
_ROLLBACKS_BACK = {
    pb.ROLLBACK_UNSPECIFIED: Rollback.COMMITTED,
    **{value: key for key, value in _ROLLBACKS.items()},
}
_KINDS = {
    TokenKind.ACCEPTED: pb.TOKEN_KIND_ACCEPTED,
    TokenKind.RESAMPLED: pb.TOKEN_KIND_RESAMPLED,
    TokenKind.BONUS: pb.TOKEN_KIND_BONUS,
}
_KINDS_BACK = {value: key for key, value in _KINDS.items()}
_REASONS = {
    FinishReason.EOS: pb.FINISH_REASON_EOS,
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.CONTEXT: pb.FINISH_REASON_CONTEXT,
    FinishReason.CANCELLED: pb.FINISH_REASON_CANCELLED,
}
_REASONS_BACK = {value: key for key, value in _REASONS.items()}
_SETTING_FIELDS = (
    "lattice_resolution",
    "support_size",
    "max_support_size",
    "initial_threshold",
    "threshold_step",
    "target_dropped_mass",
)


def generate_request_to_proto(
    prompt: str,
    *,
    seed: int | None,
    scheme: SchemeParameters,
    sampling: SamplingParameters,
    max_tokens: int,
    draft_length: int,
    uplink_budget_bits: int,
    min_block_acceptance: float,
    stop: tuple[str, ...],
    ignore_eos: bool,
    stop_token_ids: tuple[int, ...] = (),
) -> pb.GenerateRequest:
    """A client's request; `seed` None asks the edge to draw fresh bits."""
    return pb.GenerateRequest(
        prompt=prompt,
        max_tokens=max_tokens,
        sampling=sampling_to_proto(sampling),
        scheme=_scheme_to_proto(scheme),
        draft_length=draft_length,
        uplink_budget_bits=uplink_budget_bits,
        min_block_acceptance=min_block_acceptance,
        seed=seed,
        stop=stop,
        ignore_eos=ignore_eos,
        stop_token_ids=stop_token_ids,
    )


def generate_request_from_proto(
    request: pb.GenerateRequest, *, fresh_seed: int
) -> tuple[str, GenerationParameters]:
    """
    (prompt, parameters); what the request leaves out takes the defaults of `common.config`.

    Args:
        fresh_seed: used when the request has none.

    Raises:
        ConfigError: a parameter out of range.
    """
    given: dict[str, Any] = {
        name: getattr(request, name)
        for name in ("max_tokens", "draft_length", "min_block_acceptance")
        if request.HasField(name)
    }
    sampling = sampling_from_proto(request.sampling)
    return request.prompt, GenerationParameters(
        seed=request.seed if request.HasField("seed") else fresh_seed,
        scheme=_scheme_from_proto(request.scheme, sampling.temperature),
        sampling=sampling,
        uplink_budget_bits=request.uplink_budget_bits,
        stop=tuple(request.stop),
        ignore_eos=request.ignore_eos,
        stop_token_ids=tuple(request.stop_token_ids),
        **given,
    )


def generation_event_to_proto(event: GenerationEvent) -> pb.GenerateResponse:
    """Edge → client."""
    if isinstance(event, GenerationStarted):
        return pb.GenerateResponse(
            started=pb.Started(
                seed=event.seed,
                prompt_tokens=event.prompt_tokens,
                scheme=_scheme_to_proto(event.scheme),
                draft_length=event.draft_length,
            )
        )
    if isinstance(event, GenerationFinished):
        return pb.GenerateResponse(
            finished=pb.Finished(
                reason=_REASONS[event.reason],
                text=event.text,
                statistics=pb.Statistics(**asdict(event.statistics)),
            )
        )
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
        begun = response.started
        scheme = _scheme_from_proto(begun.scheme, SamplingParameters().temperature)
        return GenerationStarted(begun.seed, begun.prompt_tokens, scheme, begun.draft_length)
    if kind == "tokens":
        tokens = response.tokens.tokens
        return tuple(Token(t.token_id, _known(_KINDS_BACK, t.kind, "token kind"), t.text) for t in tokens)
    if kind == "finished":
        s = response.finished.statistics
        values = {f.name: getattr(s, f.name) for f in fields(GenerationStatistics)}
        if not s.HasField("dropped_mass_guarantee"):
            values["dropped_mass_guarantee"] = None
        reason = _known(_REASONS_BACK, response.finished.reason, "finish reason")
        return GenerationFinished(reason, response.finished.text, GenerationStatistics(**values))
    raise RemoteProtocolError("a response carries no event; expected started, tokens or finished.")


def get_status_request() -> pb.GetStatusRequest:
    """The empty request of GetStatus."""
    return pb.GetStatusRequest()


def server_info_to_proto(info: ServerInfo) -> verifier_pb2.GetServerInfoResponse:
    """The cloud's account of itself, with this release's limits."""
    return verifier_pb2.GetServerInfoResponse(
        version=info.version,
        protocol_version=PROTOCOL_VERSION,
        payload_layout=PAYLOAD_LAYOUT,
        model=info.model,
        vocabulary=vocabulary_to_proto(info.vocabulary),
        model_rows=info.model_rows,
        context_length=info.context_length,
        eos_token_ids=info.eos_token_ids,
        schemes=info.schemes,
        limits=verifier_pb2.Limits(
            max_draft_length=config.MAX_DRAFT_LENGTH,
            max_support_size=config.MAX_SUPPORT_SIZE,
            max_lattice_resolution=config.MAX_LATTICE_RESOLUTION,
            max_round_bytes=config.MAX_ROUND_BYTES,
            max_sessions=info.max_sessions,
            resume_ttl_s=info.resume_ttl_s,
        ),
        sessions=info.sessions,
        dtype=info.dtype,
        device=info.device,
        listener_security=info.listener_security,
        target_fingerprint=info.target_fingerprint,
    )


def server_info_from_proto(info: verifier_pb2.GetServerInfoResponse) -> ServerInfo:
    """An edge's reading of GetServerInfo; RemoteProtocolError if it does not parse."""
    check_parsed(info)
    return ServerInfo(
        version=info.version,
        model=info.model,
        vocabulary=vocabulary_from_proto(info.vocabulary),
        model_rows=info.model_rows,
        context_length=info.context_length,
        eos_token_ids=tuple(info.eos_token_ids),
        schemes=tuple(info.schemes),
        sessions=info.sessions,
        max_sessions=info.limits.max_sessions,
        resume_ttl_s=info.limits.resume_ttl_s,
        dtype=info.dtype,
        device=info.device,
        listener_security=info.listener_security,
        target_fingerprint=info.target_fingerprint,
    )


def edge_status_to_proto(status: EdgeStatus) -> pb.GetStatusResponse:
    """The edge's account of itself."""
    return pb.GetStatusResponse(
        version=status.version,
        model=status.model,
        vocabulary=vocabulary_to_proto(status.vocabulary),
        cloud=status.cloud,
        cloud_reachable=status.cloud_info is not None,
        cloud_info=server_info_to_proto(status.cloud_info) if status.cloud_info is not None else None,
        generations=status.generations,
        generations_finished=status.generations_finished,
        output_tokens=status.output_tokens,
        schemes=status.schemes,
        dtype=status.dtype,
        device=status.device,
        cloud_failure=status.cloud_failure,
        cloud_security=status.cloud_security,
        listener_security=status.listener_security,
    )


def edge_status_from_proto(status: pb.GetStatusResponse) -> EdgeStatus:
    """A client's reading of GetStatus; RemoteProtocolError if it does not parse."""
    check_parsed(status)
    return EdgeStatus(
        version=status.version,
        model=status.model,
        vocabulary=vocabulary_from_proto(status.vocabulary),
        cloud=status.cloud,
        cloud_info=server_info_from_proto(status.cloud_info) if status.cloud_reachable else None,
        cloud_failure=status.cloud_failure,
        cloud_security=status.cloud_security,
        listener_security=status.listener_security,
        generations=status.generations,
        generations_finished=status.generations_finished,
        output_tokens=status.output_tokens,
        schemes=tuple(status.schemes),
        dtype=status.dtype,
        device=status.device,
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


def _scheme_to_proto(scheme: SchemeParameters) -> pb.SchemeSettings:
    return pb.SchemeSettings(
        name=scheme.scheme,
        rollback=_ROLLBACKS[scheme.rollback],
        frozen_threshold=scheme.frozen_threshold,
        **{name: getattr(scheme, name) for name in _SETTING_FIELDS},
    )


def _scheme_from_proto(scheme: pb.SchemeSettings, temperature: float) -> SchemeParameters:
    given: dict[str, Any] = {name: getattr(scheme, name) for name in _SETTING_FIELDS if scheme.HasField(name)}
    if scheme.name:
        given["scheme"] = scheme.name
    return default_scheme(
        temperature,
        rollback=_known(_ROLLBACKS_BACK, scheme.rollback, "rollback"),
        frozen_threshold=scheme.frozen_threshold,
        **given,
    )
