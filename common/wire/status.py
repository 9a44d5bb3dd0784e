"""Errors ↔ gRPC status, with `google.rpc` details; nobody matches message strings."""

from __future__ import annotations

from typing import NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from common import errors
from common.errors import DeadlineError, ThinwireError, TransportError

DOMAIN = "thinwire"
RETRY_DELAY_S = 1
"""Seconds of pause asked for with RESOURCE_EXHAUSTED: a few rounds, so that a slot can have come free."""
MAX_MESSAGE_LENGTH = 300
"""Characters of a status message: it travels in trailers, and over 8 KiB of those a peer hangs up."""


def _leaves(kind: type[ThinwireError]) -> list[type[ThinwireError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in _leaves(child))]


def _by_reason() -> dict[str, type[ThinwireError]]:
    """Reason → class; where a subclass inherits its parent's reason the parent stands for both."""
    table: dict[str, type[ThinwireError]] = {}
    for kind in _leaves(ThinwireError):
        table.setdefault(kind.reason, kind)
    return table


async def abort_with(context: grpc.aio.ServicerContext, error: ThinwireError) -> NoReturn:
    """
    End an RPC with the error's status, its public sentence, ErrorInfo and, where a retry may help, RetryInfo.

    Raises:
        grpc.aio.AbortError: always; that is how grpc.aio ends an RPC.
    """
    sentence = error.message
    if len(sentence) > MAX_MESSAGE_LENGTH:
        sentence = sentence[: MAX_MESSAGE_LENGTH - 3] + "..."
    details = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if error.status == "RESOURCE_EXHAUSTED":
        delay = duration_pb2.Duration(seconds=RETRY_DELAY_S)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    status = status_pb2.Status(code=code_pb2.Code.Value(error.status), message=sentence, details=packed)
    rich = rpc_status.to_status(status)
    await context.abort(rich.code, rich.details, rich.trailing_metadata)
    raise AssertionError("abort always raises")


def error_from_rpc(error: grpc.aio.AioRpcError) -> ThinwireError:
    """
    The peer's error as one of ours.

    A status of ours comes back as its own class; any other UNAVAILABLE or DEADLINE_EXCEEDED as a
    TransportError or DeadlineError (the link), anything else as a ThinwireError with that status.
    """
    message = error.details() or error.code().name
    reason = reason_of(error)
    known = _by_reason().get(reason) if reason else None
    if known is not None and known.status == error.code().name:
        return known(message)
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return TransportError(message)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineError(message)
    for kind in (errors.ResourceExhaustedError, errors.ConfigError):
        if kind.status == error.code().name:
            return kind(message)
    return ThinwireError(f"{error.code().name}: {message}")


def reason_of(error: grpc.aio.AioRpcError) -> str | None:
    """`ErrorInfo.reason` of the status details, None without any."""
    metadata = error.trailing_metadata() or ()
    for key, value in metadata:
        if key != "grpc-status-details-bin":
            continue
        for detail in status_pb2.Status.FromString(value).details:
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                info = error_details_pb2.ErrorInfo()
                detail.Unpack(info)
                return str(info.reason)
    return None
