"""A gRPC server on which every call is guarded and every connection must prove itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc

from thinwire.common.config import MAX_ROUND_BYTES
from thinwire.common.door.addresses import is_loopback
from thinwire.common.door.doorkeeper import Doorkeeper
from thinwire.common.door.security import ServerSecurity
from thinwire.common.wire.guard import Guard
from thinwire.common.wire.transport import MAX_MESSAGE_BYTES, server_options


class GuardedServer(grpc.aio.Server):  # type: ignore[misc] # grpc has no types
    """
    gRPC's own server, and somebody at its door from its start to its stop.

    Args:
        server: with the guard among its interceptors.
        doorkeeper: told of every call by that guard.
    """

    def __init__(self, server: grpc.aio.Server, doorkeeper: Doorkeeper) -> None:
        self._server = server
        self._doorkeeper = doorkeeper
        self._keeping: asyncio.Task[None] | None = None

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """As gRPC's."""
        self._server.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """As gRPC's."""
        self._server.add_registered_method_handlers(service_name, method_handlers)

    def add_insecure_port(self, address: str) -> int:
        """As gRPC's; a server has one port."""
        return self._watched(self._server.add_insecure_port(address))

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """As gRPC's; a server has one port."""
        return self._watched(self._server.add_secure_port(address, server_credentials))

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

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """As gRPC's."""
        return bool(await self._server.wait_for_termination(timeout))

    def hang_up(self, peer: str) -> None:
        """Close the connection of a peer that reads nothing; its calls end as if it had left."""
        self._doorkeeper.hang_up(peer)

    def _watched(self, port: int) -> int:
        self._doorkeeper.watch(port)
        return port


def make_server(
    listen: str,
    security: ServerSecurity,
    *,
    max_request_bytes: int = MAX_MESSAGE_BYTES,
    max_round_bytes: int = MAX_ROUND_BYTES,
    on_refused: Callable[[str], None] | None = None,
    on_closed: Callable[[str], None] | None = None,
) -> GuardedServer:
    """
    A server on which every call is guarded; `bind` makes it listen.

    Args:
        listen: where it will; reflection without tokens is for loopback.
        security: with the tokens, and the bounds on who has none.
        max_request_bytes, max_round_bytes: of `server_options`.
        on_refused: called with the reason of every call that the guard refuses.
        on_closed: called with "crowd" or "silence" for every connection that did not prove itself.
    """
    doorkeeper = Doorkeeper(
        max_unproved=security.max_unproved_per_peer,
        timeout_s=security.handshake_timeout_s,
        on_closed=on_closed,
    )
    guard = Guard(
        security.access,
        open_reflection=is_loopback(listen),
        on_refused=on_refused,
        on_call=lambda peer, proves: doorkeeper.called(peer, proves=proves),
    )
    options = server_options(
        handshake_timeout_s=security.handshake_timeout_s,
        max_request_bytes=max_request_bytes,
        max_round_bytes=max_round_bytes,
    )
    return GuardedServer(grpc.aio.server(interceptors=(guard,), options=options), doorkeeper)
