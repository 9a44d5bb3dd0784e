"""
A gRPC server on which every call is guarded and every connection must prove itself.

A call is authenticated before its handler sees it, health alone excepted.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Collection
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health

from thinwire.common.door.doorkeeper import Doorkeeper
from thinwire.common.door.peers import PeerBound, is_loopback, peer_host
from thinwire.common.door.security import ServerSecurity
from thinwire.common.door.tenants import Access, Credential
from thinwire.common.errors import ThinwireError, TransportError, UnauthenticatedError, WrongDaemonError
from thinwire.common.observe.log import LogLimiter, log_request
from thinwire.common.wire.credentials import token_of
from thinwire.common.wire.parsing import check_parsed, parsed, parsing
from thinwire.common.wire.status import abort_with
from thinwire.common.wire.transport import GENERATOR_METHODS, VERIFIER_METHODS, server_options

MAX_WATCHES_PER_PEER = 8
"""Health streams of one address: they need no token and have no end."""
_LAST_WORDS_S = 1.0
"""For the status of a call that a drain cuts; whoever reads gets it in less."""
_HEALTH = f"/{health.SERVICE_NAME}/"
_REFLECTION = "/grpc.reflection."
_OURS = "/thinwire."
_log = logging.getLogger(__name__)
_OF_OTHERS = {
    **dict.fromkeys(GENERATOR_METHODS, ("a cloud", "an edge")),
    **dict.fromkeys(VERIFIER_METHODS, ("an edge", "a cloud")),
}
"""Method → who answers where it is not served, and who serves it."""


@grpc.aio.Server.register  # reflection takes any other class for a synchronous server
class GuardedServer:
    """
    gRPC's own server with a guard, and somebody at its door from its start to its stop.

    Args:
        listen: HOST:PORT; port 0 for any free one. Reflection without tokens is for loopback.
        on_refused: called with the reason of every call that the guard refuses.
        on_closed: called with "crowd" or "silence" for every connection that did not prove itself.
        limits: of `server_options`.
    """

    def __init__(
        self,
        listen: str,
        security: ServerSecurity,
        *,
        on_refused: Callable[[str], None] = lambda reason: None,
        on_closed: Callable[[str], None] = lambda reason: None,
        **limits: int,
    ) -> None:
        self._listen = listen
        self._security = security
        self._doorkeeper = Doorkeeper(
            max_unproved=security.max_unproved_per_peer,
            timeout_s=security.handshake_timeout_s,
            on_closed=on_closed,
        )
        guard = Guard(
            access=security.access,
            open_reflection=is_loopback(listen),
            on_refused=on_refused,
            on_call=self._doorkeeper.called,
        )
        options = server_options(handshake_timeout_s=security.handshake_timeout_s, **limits)
        self._server = grpc.aio.server(interceptors=(guard,), options=options)
        self._keeping: asyncio.Task[None] | None = None

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        self._server.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        self._server.add_registered_method_handlers(service_name, method_handlers)

    def bind(self) -> int:
        """
        Take the address, before the start, and return its port.

        TransportError if it cannot be bound; ConfigError if it may not be served so (`ServerSecurity.of`).
        """
        security, listen = self._security, self._listen
        security.of(listen)
        try:
            if security.key_pair is None:
                port = self._server.add_insecure_port(listen)
            else:
                pair = (security.key_pair.private_key, security.key_pair.certificate_chain)
                credentials = grpc.ssl_server_credentials(
                    [pair],
                    root_certificates=security.client_authority,
                    require_client_auth=security.client_authority is not None,
                )
                port = self._server.add_secure_port(listen, credentials)
        except RuntimeError:
            port = 0
        if port == 0:
            raise TransportError(f"cannot listen on {listen}; expected a free port of this machine.")
        self._doorkeeper.watch(port)
        return int(port)

    async def start(self) -> None:
        await self._server.start()
        self._keeping = asyncio.create_task(self._doorkeeper.keep())

    async def stop(self, grace: float | None) -> None:
        try:
            await self._server.stop(grace)
        finally:
            if self._keeping is not None:
                self._keeping.cancel()
                with suppress(asyncio.CancelledError):
                    await self._keeping
                self._keeping = None

    async def drain(
        self, running: Collection[asyncio.Task[Any]], grace_s: float, *, cut: Callable[[], None]
    ) -> None:
        """
        Stop once the calls have ended, or when the grace is over.

        Meanwhile new calls are answered, health among them, so that handlers can refuse them with a reason; a
        server that is already stopping cancels them without any.

        Args:
            running: tasks of the calls to wait for.
            grace_s: what still runs then is cut; 0 cuts at once.
            cut: has what still runs end with a reason.
        """
        loop = asyncio.get_running_loop()
        give_up_at_s = loop.time() + grace_s
        if running and grace_s > 0:
            await asyncio.wait(set(running), timeout=grace_s)
        if running:
            cut()
            await asyncio.wait(set(running), timeout=_LAST_WORDS_S)
        await self.stop(max(0.0, give_up_at_s - loop.time()))

    def hang_up(self, peer: str) -> None:
        """Close the connection of a peer that reads nothing; its calls end as if it had left."""
        self._doorkeeper.hang_up(peer)


@dataclass(eq=False, kw_only=True)
class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpc has no types
    """
    Refuses, with UNAUTHENTICATED and before a message is read, every call without a token in force.

    What is registered later is guarded too; only `grpc.health.v1` answers anybody.
    """

    access: Access
    open_reflection: bool
    """Whether reflection answers without tokens where none are asked for."""
    on_refused: Callable[[str], None]
    """Called with the reason of every refusal."""
    on_call: Callable[[str, bool], None]
    """Called with the peer of every call that is let in, and whether that proves it; health does not."""

    def __post_init__(self) -> None:
        self._watches = PeerBound("health streams", MAX_WATCHES_PER_PEER)
        self._log_limiter = LogLimiter()

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
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
            self.access.authenticate(token_of(details.invocation_metadata))
            if method.startswith(_REFLECTION) and not (self.access.is_required or self.open_reflection):
                raise UnauthenticatedError("reflection answers nobody here; expected tokens, or loopback.")
        except (UnauthenticatedError, WrongDaemonError) as error:
            self.on_refused(error.reason)
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
            self.on_call(context.peer(), proves)
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
        self.on_refused(refusal.reason)
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
