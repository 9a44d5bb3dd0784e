"""A gRPC server on which every call is guarded and every connection must prove itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import grpc

from thinwire.common.door.doorkeeper import Doorkeeper
from thinwire.common.door.peers import is_loopback
from thinwire.common.door.security import ServerSecurity
from thinwire.common.errors import TransportError
from thinwire.common.wire.guard import Guard
from thinwire.common.wire.transport import server_options

_LAST_WORDS_S = 1.0
"""For the status of a call that a drain cuts; whoever reads gets it in less."""


@grpc.aio.Server.register  # reflection takes any other class for a synchronous server
class GuardedServer:
    """
    gRPC's own server with a guard, and somebody at its door from its start to its stop.

    Args:
        listen: HOST:PORT; port 0 for any free one. Reflection without tokens is for loopback.
        security: certificates, tokens, and the bounds on who has none.
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
            security.access,
            open_reflection=is_loopback(listen),
            on_refused=on_refused,
            on_call=self._doorkeeper.called,
        )
        options = server_options(handshake_timeout_s=security.handshake_timeout_s, **limits)
        self._server = grpc.aio.server(interceptors=(guard,), options=options)
        self._keeping: asyncio.Task[None] | None = None

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """As gRPC's."""
        self._server.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """As gRPC's."""
        self._server.add_registered_method_handlers(service_name, method_handlers)

    def bind(self) -> int:
        """
        Take the address, before the start, and return its port.

        Raises:
            TransportError: the address cannot be bound.
            ConfigError: it may not be served so (`ServerSecurity.of`).
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
        """As gRPC's."""
        await self._server.start()
        self._keeping = asyncio.create_task(self._doorkeeper.keep())

    async def stop(self, grace: float | None) -> None:
        """As gRPC's."""
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
