"""Who may call what: every call is authenticated before its handler sees it, health alone excepted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc_health.v1 import health

from common.addresses import is_loopback
from common.errors import ThinwireError, UnauthenticatedError
from common.peer_bound import PeerBound
from common.security import ServerSecurity
from common.tenants import Access, Credential
from common.wire.credentials import token_of
from common.wire.status import abort_with
from common.wire.transport import server_options

MAX_WATCHES_PER_PEER = 8
"""Health streams of one address: they need no token and have no end."""
_HEALTH = f"/{health.SERVICE_NAME}/"
_REFLECTION = "/grpc.reflection."


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpc has no types
    """
    Refuses, with UNAUTHENTICATED and before a message is read, every call without a token in force.

    What is registered later is guarded too; only `grpc.health.v1` answers anybody.

    Args:
        access: whose tokens are taken.
        open_reflection: whether reflection answers without tokens where none are asked for.
        on_refused: called with the reason of every refusal.
    """

    def __init__(
        self, access: Access, *, open_reflection: bool, on_refused: Callable[[str], None] | None = None
    ) -> None:
        self._access = access
        self._on_refused = on_refused
        self._open_reflection = open_reflection
        self._watches = PeerBound("health streams", MAX_WATCHES_PER_PEER)

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The call's own handler, or one that refuses it."""
        handler = await continuation(details)
        if handler is None:
            return None  # no such method
        if details.method.startswith(_HEALTH):
            return self._bounded(handler)
        try:
            self._access.authenticate(token_of(details.invocation_metadata))
            if details.method.startswith(_REFLECTION) and not (
                self._access.is_required or self._open_reflection
            ):
                raise UnauthenticatedError("reflection answers nobody here; expected tokens, or loopback.")
        except UnauthenticatedError as error:
            self._refused(error)
            return _refusing(handler, error)
        return handler

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


def make_server(
    listen: str, security: ServerSecurity, *, on_refused: Callable[[str], None] | None = None
) -> grpc.aio.Server:
    """
    A server on which every call is guarded; `bind` makes it listen.

    Args:
        listen: where it will; reflection without tokens is for loopback.
        security: with the tokens.
        on_refused: called with the reason of every call that the guard refuses.
    """
    guard = Guard(security.access, open_reflection=is_loopback(listen), on_refused=on_refused)
    return grpc.aio.server(interceptors=(guard,), options=server_options())


def credential_of(context: Any, access: Access) -> Credential:
    """
    Whose the call in hand is.

    Raises:
        UnauthenticatedError: its token was revoked since the call began.
    """
    return access.authenticate(token_of(context.invocation_metadata()))


def _refusing(handler: Any, error: ThinwireError) -> Any:
    """A handler of the same kind that refuses; its requests are never read."""

    async def refuse(_: Any, context: Any) -> None:
        await abort_with(context, error)

    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    return make(refuse, handler.request_deserializer, handler.response_serializer)
