"""Who may call what: every call is authenticated before its handler sees it, health alone excepted."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import grpc
from grpc_health.v1 import health

from thinwire.common.door.peers import PeerBound, peer_host
from thinwire.common.door.tenants import Access, Credential
from thinwire.common.errors import ThinwireError, UnauthenticatedError, WrongDaemonError
from thinwire.common.observe.log import LogLimiter, log_request
from thinwire.common.wire.credentials import token_of
from thinwire.common.wire.parsing import check_parsed, parsed, parsing
from thinwire.common.wire.status import abort_with
from thinwire.common.wire.transport import GENERATOR_METHODS, VERIFIER_METHODS

MAX_WATCHES_PER_PEER = 8
"""Health streams of one address: they need no token and have no end."""
_HEALTH = f"/{health.SERVICE_NAME}/"
_REFLECTION = "/grpc.reflection."
_OURS = "/thinwire."
_log = logging.getLogger(__name__)
_OF_OTHERS = {
    **dict.fromkeys(GENERATOR_METHODS, ("a cloud", "an edge")),
    **dict.fromkeys(VERIFIER_METHODS, ("an edge", "a cloud")),
}
"""Method → who answers where it is not served, and who serves it."""


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpc has no types
    """
    Refuses, with UNAUTHENTICATED and before a message is read, every call without a token in force.

    What is registered later is guarded too; only `grpc.health.v1` answers anybody.

    Args:
        access: whose tokens are taken.
        open_reflection: whether reflection answers without tokens where none are asked for.
        on_refused: called with the reason of every refusal.
        on_call: called with the peer of every call that is let in, and whether its token, or that none is
            asked for, let it in; False for health.
    """

    def __init__(
        self,
        access: Access,
        *,
        open_reflection: bool,
        on_refused: Callable[[str], None],
        on_call: Callable[[str, bool], None],
    ) -> None:
        self._access = access
        self._on_refused = on_refused
        self._on_call = on_call
        self._open_reflection = open_reflection
        self._watches = PeerBound("health streams", MAX_WATCHES_PER_PEER)
        self._log_limiter = LogLimiter()

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The call's own handler, or one that refuses it."""
        handler = await continuation(details)
        method = details.method
        if handler is None and method not in _OF_OTHERS:
            return None
        if method.startswith(_HEALTH):
            return self._answering(handler, method, proves=False)
        try:
            if handler is None:
                here, expected = _OF_OTHERS[method]
                raise WrongDaemonError(f"{here} answers there; expected the address of {expected}.")
            self._access.authenticate(token_of(details.invocation_metadata))
            if method.startswith(_REFLECTION) and not (self._access.is_required or self._open_reflection):
                raise UnauthenticatedError("reflection answers nobody here; expected tokens, or loopback.")
        except (UnauthenticatedError, WrongDaemonError) as error:
            self._on_refused(error.reason)
            return _refusing(handler, error)
        return self._answering(handler, method, proves=True)

    def _answering(self, handler: Any, method: str, *, proves: bool) -> Any:
        """
        The handler, which tells first who calls, and refuses what does not parse.

        Whatever it raises is answered here, since gRPC would write a traceback into the log at each call.
        """
        behaviour = getattr(handler, _kind(handler))
        bounded = self._watches.held if handler.response_streaming and not proves else nullcontext

        async def answer(request: Any, context: Any) -> Any:
            self._on_call(context.peer(), proves)
            try:
                with bounded(context.peer()):
                    if not handler.request_streaming:
                        check_parsed(request)
                    elif not method.startswith(_OURS):  # ours read `Unparsable` themselves
                        request = parsed(request)
                    if not inspect.isasyncgenfunction(behaviour):
                        return await behaviour(request, context)
                    async for response in behaviour(request, context):
                        await context.write(response)
            except grpc.aio.InternalError as error:
                # A write that failed: the caller has gone, and gRPC does not always know yet.
                _log.debug("%s broke off", method, exc_info=error)
                raise asyncio.CancelledError from None
            except grpc.aio.BaseError:  # the handler has ended the call with a status
                raise
            except ThinwireError as error:
                self._note(context, method, error)
                await abort_with(context, error)
            except Exception as error:
                failure = ThinwireError(f"the call failed with {type(error).__name__}.")
                self._note(context, method, failure, error)
                await abort_with(context, failure)

        return _like(handler, answer, parsing(handler.request_deserializer))

    def _note(
        self, context: Any, method: str, refusal: ThinwireError, fault: Exception | None = None
    ) -> None:
        """Count a refusal, and log it unless its peer had a line a moment ago; with a fault's traceback."""
        self._on_refused(refusal.reason)
        host = peer_host(context.peer())
        if self._log_limiter.allows(host):
            log_request(_log, "call refused", fault, host=host, method=method, error=refusal.reason)


def credential_of(context: Any, access: Access) -> Credential:
    """Whose the call in hand is; UnauthenticatedError if its token was revoked since the call began."""
    return access.authenticate(token_of(context.invocation_metadata()))


def _refusing(handler: Any, error: ThinwireError) -> Any:
    """A handler of the same kind that refuses, or for None of any; its requests are never parsed."""

    async def refuse(_: Any, context: Any) -> None:
        await abort_with(context, error)

    if handler is None:
        return grpc.stream_stream_rpc_method_handler(refuse)
    return _like(handler, refuse, None)


def _kind(handler: Any) -> str:
    """Where a handler keeps its behaviour, such as `unary_stream`."""
    streams = (handler.request_streaming, handler.response_streaming)
    return "_".join("stream" if is_stream else "unary" for is_stream in streams)


def _like(handler: Any, behaviour: Any, deserializer: Any) -> Any:
    """A handler of the same kind."""
    make = getattr(grpc, f"{_kind(handler)}_rpc_method_handler")
    return make(behaviour, deserializer, handler.response_serializer)
