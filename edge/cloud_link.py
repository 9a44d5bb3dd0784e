"""The edge's side of the thin link: one channel to the cloud, one Verify stream per generation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from common import wire
from common.errors import RemoteProtocolError, ThinwireError, TransportError
from common.generation import ServerInfo
from common.messages import Close, DraftBlock, Open, Opened, Verdict
from edge.settings import EdgeSettings

MessageReceived = Callable[[Opened | Verdict, int], None]
"""Called with each message from the cloud and its serialised size in bytes."""
StreamEnded = Callable[[ThinwireError | None], None]
"""Called once when a stream is over: None after Closed, the error otherwise."""


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

    def open_stream(
        self, writer: wire.EdgeStreamWriter, *, on_message: MessageReceived, on_end: StreamEnded
    ) -> CloudStream:
        """A new Verify stream; `writer` is the session's, kept across its streams."""
        return CloudStream(self._stub.Verify(), writer, self.address, on_message, on_end)

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
    """One Verify stream: writes are awaited, messages and the end arrive through the callbacks given at its birth."""

    def __init__(
        self,
        call: Any,
        writer: wire.EdgeStreamWriter,
        address: str,
        on_message: MessageReceived,
        on_end: StreamEnded,
    ) -> None:
        self._call = call
        self._writer = writer
        self._address = address
        self._on_message = on_message
        self._on_end = on_end
        self._reader = asyncio.create_task(self._read())

    async def send(self, message: Open | DraftBlock | Close) -> int:
        """
        Write one message; after Close nothing may follow.

        Returns:
            its serialised size in bytes, whether or not the link still took it: the reader reports a lost link.
        """
        request = self._writer.to_proto(message)
        try:
            await self._call.write(request)
            if isinstance(message, Close):
                await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass
        return int(request.ByteSize())

    async def finished(self, timeout_s: float) -> None:
        """Wait for the cloud to end the stream; cancel it after `timeout_s`."""
        await asyncio.wait([self._reader], timeout=timeout_s)
        self.abandon()

    def abandon(self) -> None:
        """Cancel the stream; no callback is called afterwards."""
        self._reader.cancel()
        self._call.cancel()

    async def _read(self) -> None:
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                message = wire.message_from_cloud(response)
                if message is None:
                    self._on_end(None)
                    return
                self._on_message(message, int(response.ByteSize()))
            error: ThinwireError = TransportError(f"the cloud at {self._address} ended the stream without Closed.")
        except grpc.aio.AioRpcError as rpc_error:
            error = wire.error_from_rpc(rpc_error)
            if type(error) is TransportError or rpc_error.code() is grpc.StatusCode.CANCELLED:
                error = TransportError(f"the link to the cloud at {self._address} is lost: {error.message}")
        except RemoteProtocolError as protocol_error:
            error = protocol_error
        self._on_end(error)
