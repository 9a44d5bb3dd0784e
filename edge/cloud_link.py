"""The edge's side of the thin link: one channel to the cloud, one Verify stream per generation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc

from common import wire
from common.errors import RemoteProtocolError, ThinwireError, TransportError
from common.generation import ServerInfo
from common.messages import Close, DraftBlock, Open, Opened, Verdict
from edge.settings import EdgeSettings

FromCloud = Opened | Verdict | ThinwireError
"""What comes down a stream; the error is the last."""
Receive = Callable[["CloudStream", FromCloud, int], None]
"""Called with the stream, what came down it, and the message's serialised size in bytes."""


class CloudLink:
    """
    The channel to one cloud, shared by all generations.

    Args:
        address: HOST:PORT.
        settings: deadlines and keepalive.
    """

    def __init__(self, address: str, settings: EdgeSettings) -> None:
        self.address = address
        self._settings = settings
        keepalive_ms = round(settings.keepalive_s * 1000)
        options: list[tuple[str, Any]] = [
            *wire.channel_options(),
            # A cloud that comes back is found within a second, not within gRPC's two minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        if keepalive_ms:
            options += [("grpc.keepalive_time_ms", keepalive_ms), ("grpc.keepalive_timeout_ms", 10_000)]
        self._channel = grpc.aio.insecure_channel(address, options=options)
        self._stub = wire.VerifierStub(self._channel)

    async def connect(self) -> None:
        """
        Wait until the channel is connected.

        Raises:
            TransportError: the cloud is not there within the connect deadline.
        """
        timeout_s = self._settings.connect_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._channel.channel_ready()
        except TimeoutError:
            raise TransportError(
                f"the cloud at {self.address} did not answer within {timeout_s:g} s; "
                "expected a running thinwire-cloud there."
            ) from None

    def open_stream(self, writer: wire.EdgeStreamWriter, receive: Receive) -> CloudStream:
        """A new Verify stream; `writer` is the session's, kept across its streams."""
        return CloudStream(self._stub.Verify(), writer, self.address, receive)

    async def server_info(self) -> ServerInfo | None:
        """The cloud's account of itself; None when it does not answer within the status deadline."""
        try:
            answer = await self._stub.GetServerInfo(
                wire.server_info_request(), timeout=self._settings.status_timeout_s
            )
        except grpc.aio.AioRpcError:
            return None
        return wire.server_info_from_proto(answer)

    async def close(self) -> None:
        """Close the channel with every stream on it."""
        await self._channel.close()


class CloudStream:
    """
    One Verify stream: writes are awaited, messages and the error that ends it arrive through `receive`.

    A stream that ends with Closed says nothing more; `abandon` silences it at once.
    """

    def __init__(
        self,
        call: Any,
        writer: wire.EdgeStreamWriter,
        address: str,
        receive: Receive,
    ) -> None:
        self._call = call
        self._writer = writer
        self._address = address
        self._receive = receive
        self._reader = asyncio.create_task(self._read())

    def prepare(self, message: Open | DraftBlock | Close) -> Any:
        """The message as protobuf, so that its size is known before it is sent."""
        return self._writer.to_proto(message)

    async def send(self, request: Any, *, last: bool) -> None:
        """Write one prepared message; a link that no longer takes it is reported by the reader."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(request)
            if last:
                await self._call.done_writing()

    async def finished(self, timeout_s: float) -> None:
        """Wait for the cloud to end the stream; cancel it after `timeout_s`."""
        await asyncio.wait([self._reader], timeout=timeout_s)
        self.abandon()

    def abandon(self) -> None:
        """Cancel the stream; nothing is received afterwards."""
        self._reader.cancel()
        self._call.cancel()

    async def _read(self) -> None:
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                message = wire.message_from_cloud(response)
                if message is None:
                    return
                self._receive(self, message, int(response.ByteSize()))
            error: ThinwireError = TransportError(
                f"the cloud at {self._address} ended the stream without Closed."
            )
        except grpc.aio.AioRpcError as rpc_error:
            error = wire.error_from_rpc(rpc_error)
            if type(error) is TransportError or rpc_error.code() is grpc.StatusCode.CANCELLED:
                error = TransportError(f"the link to the cloud at {self._address} is lost: {error.message}")
        except RemoteProtocolError as protocol_error:
            error = protocol_error
        self._receive(self, error, 0)
