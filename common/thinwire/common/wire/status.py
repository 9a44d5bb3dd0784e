"""Errors ↔ gRPC status, with `google.rpc` details; nobody matches message strings."""

from __future__ import annotations

import math
from typing import Any

import grpc
from google.protobuf import any as any_message
from google.protobuf import duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from thinwire.common.errors import (
    ConfigError,
    DeadlineError,
    ResourceExhaustedError,
    ThinwireError,
    TransportError,
    WrongDaemonError,
    errors_by_reason,
)

DOMAIN = "thinwire"
MAX_MESSAGE_LENGTH = 300
"""Characters of a status message: it travels in trailers, and over 8 KiB of those a peer hangs up."""
_FOREIGN: dict[str, type[ThinwireError]] = {
    "UNAVAILABLE": TransportError,
    "DEADLINE_EXCEEDED": DeadlineError,
    "RESOURCE_EXHAUSTED": ResourceExhaustedError,  # a message too large, for example
    "INVALID_ARGUMENT": ConfigError,
}
"""What a status without a reason of ours becomes."""


async def abort_with(context: grpc.aio.ServicerContext, error: ThinwireError) -> None:
    """
    End an RPC with the error's status, its public sentence, ErrorInfo and, where a retry may help, RetryInfo.

    The handler has nothing left to do but to return; gRPC ends a call that was aborted whatever it returns.
    """
    error.forget_origin()
    sentence = error.message
    if len(sentence) > MAX_MESSAGE_LENGTH:
        sentence = sentence[: MAX_MESSAGE_LENGTH - 3] + "..."
    setting = {"setting": error.setting} if isinstance(error, ConfigError) and error.setting else {}
    details = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=setting)]
    if isinstance(error, ResourceExhaustedError) and math.isfinite(error.retry_after_s):
        delay = duration_pb2.Duration()
        delay.FromMicroseconds(round(error.retry_after_s * 1e6))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = [any_message.pack(detail) for detail in details]
    status = status_pb2.Status(code=code_pb2.Code.Value(error.status), message=sentence, details=packed)
    rich = rpc_status.to_status(status)
    try:
        await context.abort(rich.code, rich.details, rich.trailing_metadata)
    except grpc.aio.AbortError as aborted:
        # gRPC keeps it in the call's state, which the frames of a handler hold in turn: raised through them
        # it would keep the call and its request until the garbage collector comes.
        aborted.__traceback__ = aborted.__context__ = None


def error_from_rpc(error: grpc.aio.AioRpcError) -> ThinwireError:
    """
    The peer's error as one of ours.

    A status of ours comes back as its own class; any other UNAVAILABLE or DEADLINE_EXCEEDED as a
    TransportError or DeadlineError (the link), anything else as a ThinwireError with that status.
    """
    status = error.code().name
    message = error.details() or status
    info = _detail(error, error_details_pb2.ErrorInfo)
    ours = None if info is None else errors_by_reason().get(str(info.reason))
    if ours is not None and ours.status != status:
        ours = None
    kind = ours or _FOREIGN.get(status)
    if kind is None:
        if status == "UNIMPLEMENTED":  # no daemon of ours, which would say which it is
            return WrongDaemonError(
                f"another service answers there ({message}); expected an edge or a cloud."
            )
        return ThinwireError(f"{status}: {message}")
    if issubclass(kind, ResourceExhaustedError):
        return kind(message, retry_after_s=_retry_delay_s(error))
    if ours is not None and issubclass(ours, ConfigError):
        return ours(message, setting=str(info.metadata["setting"]))
    return kind(message)


def reason_of(error: grpc.aio.AioRpcError) -> str | None:
    """`ErrorInfo.reason` of the status details, None without any."""
    info = _detail(error, error_details_pb2.ErrorInfo)
    return None if info is None else str(info.reason)


def _retry_delay_s(error: grpc.aio.AioRpcError) -> float:
    """`RetryInfo.retry_delay` of the status details in seconds, never negative; infinity without any."""
    info = _detail(error, error_details_pb2.RetryInfo)
    return math.inf if info is None else max(0.0, info.retry_delay.ToMicroseconds() * 1e-6)


def _detail(error: grpc.aio.AioRpcError, kind: type[Message]) -> Any:
    """The first status detail of this kind, None without any."""
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        for packed in status_pb2.Status.FromString(value).details:
            if packed.Is(kind.DESCRIPTOR):
                detail = kind()
                packed.Unpack(detail)
                return detail
    return None
