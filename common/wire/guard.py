"""Who may call what: every call is authenticated before its handler sees it, health alone excepted."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc_health.v1 import health

from common.errors import ThinwireError, UnauthenticatedError, WrongDaemonError
from common.peer_bound import PeerBound
from common.tenants import Access, Credential
from common.wire.credentials import token_of
from common.wire.status import abort_with
from common.wire.transport import GENERATOR_METHODS, VERIFIER_METHODS

MAX_WATCHES_PER_PEER = 8
"""Health streams of one address: they need no token and have no end."""
_HEALTH = f"/{health.SERVICE_NAME}/"
_REFLECTION = "/grpc.reflection."
_OF_OTHERS = {
    **dict.fromkeys(GENERATOR_METHODS, ("a cloud", "an edge")),
    **dict.fromkeys(VERIFIER_METHODS, ("an edge", "a cloud")),
}
"""Method → who answers where it is not served, and who serves it."""
_NAMES = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}
"""By whether requests and responses are streams: where a handler keeps its behaviour."""
_MAKERS = {kind: getattr(grpc, f"{name}_rpc_method_handler") for kind, name in _NAMES.items()}


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
        on_refused: Callable[[str], None] | None = None,
        on_call: Callable[[str, bool], None] | None = None,
    ) -> None:
        self._access = access
        self._on_refused = on_refused
        self._on_call = on_call
        self._open_reflection = open_reflection
        self._watches = PeerBound("health streams", MAX_WATCHES_PER_PEER)

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The call's own handler, or one that refuses it."""
        handler = await continuation(details)
        if handler is None:
            return self._elsewhere(details.method)
        if details.method.startswith(_HEALTH):
            return self._noting(self._bounded(handler), proves=False)
        try:
            self._access.authenticate(token_of(details.invocation_metadata))
            if details.method.startswith(_REFLECTION) and not (
                self._access.is_required or self._open_reflection
            ):
                raise UnauthenticatedError("reflection answers nobody here; expected tokens, or loopback.")
        except UnauthenticatedError as error:
            self._refused(error)
            return _refusing(handler, error)
        return self._noting(handler, proves=True)

    def _elsewhere(self, method: str) -> Any:
        """For a method of the other daemon's service, a handler that says so; None for one of nobody's."""
        if method not in _OF_OTHERS:
            return None
        here, expected = _OF_OTHERS[method]
        error = WrongDaemonError(f"{here} answers there; expected the address of {expected}.")
        self._refused(error)
        return grpc.stream_stream_rpc_method_handler(_refusal(error))

    def _noting(self, handler: Any, *, proves: bool) -> Any:
        """The handler, which tells first who calls."""
        on_call = self._on_call
        if on_call is None:
            return handler
        kind = (handler.request_streaming, handler.response_streaming)
        behaviour = getattr(handler, _NAMES[kind])
        if inspect.isasyncgenfunction(behaviour):

            async def generate(request: Any, context: Any) -> Any:
                on_call(context.peer(), proves)
                async for response in behaviour(request, context):
                    yield response

            return _MAKERS[kind](generate, handler.request_deserializer, handler.response_serializer)

        async def answer(request: Any, context: Any) -> Any:
            on_call(context.peer(), proves)
            return await behaviour(request, context)

        return _MAKERS[kind](answer, handler.request_deserializer, handler.response_serializer)

    def _refused(self, error: ThinwireError) -> None:
        if self._on_refused is not None:
            self._on_refused(error.reason)

    def _bounded(self, handler: Any) -> Any:
        """A health handler; its streams are counted by peer."""
        if not handler.response_streaming:
            return handler

        async def watch(request: Any, context: Any) -> None:
            try:
                with self._watches.held(context.peer()):
                    await handler.unary_stream(request, context)
            except ThinwireError as error:
                self._refused(error)
                await abort_with(context, error)

        return grpc.unary_stream_rpc_method_handler(
            watch, handler.request_deserializer, handler.response_serializer
        )


def credential_of(context: Any, access: Access) -> Credential:
    """
    Whose the call in hand is.

    Raises:
        UnauthenticatedError: its token was revoked since the call began.
    """
    return access.authenticate(token_of(context.invocation_metadata()))


def _refusing(handler: Any, error: ThinwireError) -> Any:
    """A handler of the same kind that refuses; its requests are never read."""
    make = _MAKERS[handler.request_streaming, handler.response_streaming]
    return make(_refusal(error), handler.request_deserializer, handler.response_serializer)


def _refusal(error: ThinwireError) -> Callable[[Any, Any], Awaitable[None]]:
    async def refuse(_: Any, context: Any) -> None:
        await abort_with(context, error)

    return refuse
