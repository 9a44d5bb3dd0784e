"""The edge's side of the thin link: one channel to the cloud, one Verify stream per generation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from typing import Any

import grpc

from thinwire.common import wire
from thinwire.common.door.security import ClientSecurity
from thinwire.common.errors import (
    EdgeTokenError,
    RemoteProtocolError,
    ThinwireError,
    TransportError,
    UnauthenticatedError,
    WrongDaemonError,
)
from thinwire.common.observe.tracing import Metadata
from thinwire.common.session.generation import ServerInfo
from thinwire.common.session.messages import Opened, Verdict, Written
from thinwire.edge.settings import EdgeSettings

FromCloud = Opened | Verdict | Written | ThinwireError
"""What comes down a stream; the error is the last."""
Receive = Callable[["CloudStream", FromCloud, int], None]
"""Called with the stream, what came down it, and the message's serialised size in bytes."""
_TORN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
)
"""Status codes that gRPC itself gives a torn stream; a cloud that chose one says so in ErrorInfo."""
_REASON_TIMEOUT_S = 0.5
"""To ask a channel that does not connect for the reason; it is known at once, or the cloud is just silent."""


class CloudLink:
    """
    The channel to one cloud, shared by all generations.

    Args:
        address: HOST:PORT.
        security: how the cloud is dialled, and the token for it; loopback's plaintext and no token when None.
    """

    def __init__(self, address: str, settings: EdgeSettings, security: ClientSecurity | None = None) -> None:
        security = security or ClientSecurity()
        self.address = address
        self.protection = security.of(address)
        self._settings = settings
        self._security = security
        self._metadata = wire.call_metadata(security)
        keepalive_ms = round(settings.keepalive_s * 1000)
        options: list[tuple[str, Any]] = [
            # A cloud that comes back is found within a second, not within gRPC's two minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        if keepalive_ms:
            options += [("grpc.keepalive_time_ms", keepalive_ms), ("grpc.keepalive_timeout_ms", 10_000)]
        self._channel = wire.open_channel(address, security, options=options)
        self._stub = wire.VerifierStub(self._channel)

    def carrying(self, context: Metadata) -> CloudLink:
        """The same link; what is called over it carries a trace's context."""
        link = copy(self)
        link._metadata += context
        return link

    async def connect(self) -> None:
        """Wait for the channel; TransportError if the cloud is not there within the connect deadline."""
        timeout_s = self._settings.connect_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._channel.channel_ready()
        except TimeoutError:
            raise TransportError(
                f"the cloud at {self.address} did not answer within {timeout_s:g} s "
                f"({await self._why_not()}); expected a running thinwire-cloud there."
            ) from None

    def open_stream(self, receive: Receive) -> CloudStream:
        return CloudStream(self._stub.Verify(metadata=self._metadata), self.address, receive)

    async def server_info(self, timeout_s: float | None = None) -> ServerInfo | ThinwireError:
        """The cloud's account of itself, or why it gives none within the deadline (a status's when None)."""
        timeout_s = timeout_s or self._settings.status_timeout_s
        try:
            answer = await self._stub.GetServerInfo(
                wire.server_info_request(), timeout=timeout_s, metadata=self._metadata
            )
            return wire.server_info_from_proto(answer)
        except grpc.aio.AioRpcError as error:
            return wire.error_from_rpc(error)
        except RemoteProtocolError as error:
            return error

    async def _why_not(self) -> str:
        """What the last attempt to connect met, a refused certificate for example."""
        mistaken = await wire.wrong_protection(self.address, self._security, option="--cloud-ca")
        if mistaken is not None:
            return mistaken
        answer = await self.server_info(_REASON_TIMEOUT_S)
        return answer.message if isinstance(answer, ThinwireError) else "it does now"

    async def close(self) -> None:
        await self._channel.close(None)


class CloudStream:
    """
    One Verify stream: messages, and the error that ends it, arrive through `receive`.

    A stream that ends with Closed says nothing more; `abandon` silences it at once.
    """

    def __init__(self, call: Any, address: str, receive: Receive) -> None:
        self._call = call
        self._address = address
        self._receive = receive
        self._writing: asyncio.Future[None] | None = None
        self._reader = asyncio.create_task(self._read())

    def send(self, request: Any, *, last: bool) -> None:
        """
        Write one prepared message after those before it; the reader reports a link that no longer takes it.

        In a task of its own: gRPC cancels a whole call when a task that waits for its write is cancelled,
        and then no Close could follow.
        """
        self._writing = asyncio.ensure_future(self._write(self._writing, request, last))

    async def finished(self, timeout_s: float) -> None:
        """Wait for the cloud to end the stream; cancel it after `timeout_s`."""
        await asyncio.wait([self._reader], timeout=timeout_s)
        self.abandon()

    def abandon(self) -> None:
        """Cancel the stream; nothing is received afterwards."""
        if self._writing is not None:
            self._writing.cancel()
        self._reader.cancel()
        self._call.cancel()

    async def _write(self, before: asyncio.Future[None] | None, request: Any, last: bool) -> None:
        if before is not None:
            await before
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(request)
            if last:
                await self._call.done_writing()

    async def _read(self) -> None:
        closed = False
        try:
            async for response in self._call:
                message = wire.message_from_cloud(response)
                if message is None:
                    closed = True  # read on: the stream ends in good order
                else:
                    self._receive(self, message, int(response.ByteSize()))
            error: ThinwireError = TransportError(f"{self._address} ended the stream without Closed.")
        except grpc.aio.AioRpcError as rpc_error:
            error = self._error_of(rpc_error)
        except RemoteProtocolError as protocol_error:
            error = protocol_error
        if not closed:
            self._receive(self, error, 0)

    def _error_of(self, rpc_error: grpc.aio.AioRpcError) -> ThinwireError:
        """The cloud's own status, or a TransportError where no cloud chose it."""
        error = wire.error_from_rpc(rpc_error)
        torn = wire.reason_of(rpc_error) is None and rpc_error.code() in _TORN
        if torn or type(error) is TransportError:
            return TransportError(f"the link to the cloud at {self._address} is lost: {error.message}")
        if isinstance(error, UnauthenticatedError):  # whoever reads it may have a token too, which is good
            return EdgeTokenError(
                f"the cloud at {self._address} refuses the edge's own token, not yours: {error.message}"
            )
        if isinstance(error, WrongDaemonError):
            return WrongDaemonError(f"at {self._address}, the edge's --cloud: {error.message}")
        return error
