"""A client of one edge: Generate as an async iterator of events, and GetStatus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import grpc

from thinwire.common import wire
from thinwire.common.door.security import ClientSecurity, LinkSecurity
from thinwire.common.errors import DeadlineError, TransportError
from thinwire.common.observe.tracing import caller_context
from thinwire.common.session.generation import (
    EdgeStatus,
    GenerationEvent,
    GenerationFinished,
    GenerationRequest,
)

_REASON_TIMEOUT_S = 0.5
"""To ask a channel that does not connect for the reason."""
_SOON_AGAIN = ("grpc.max_reconnect_backoff_ms", 1000)
"""gRPC's own is two minutes, for which a client of an edge that is back would go on failing."""


class EdgeClient:
    """
    One edge, over a channel that is already open (`connect`).

    Args:
        channel: to the edge.
        event_timeout_s: how long any one event may take before the edge is given up.
        security: whose token every call carries.
        traceparent: W3C context of the caller's span; ignored when it is not well formed.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        event_timeout_s: float,
        security: ClientSecurity | None = None,
        traceparent: str | None = None,
    ) -> None:
        self._stub = wire.GeneratorStub(channel)
        self._metadata = wire.call_metadata(security or ClientSecurity())
        self._context = caller_context(traceparent)
        self._event_timeout_s = event_timeout_s

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """
        Stream one text; leaving the iteration early cancels it.

        Raises:
            ThinwireError: the edge's status as one of ours; DeadlineError when an event takes too long;
                RemoteProtocolError or TransportError when it does not speak the protocol to its end.
        """
        call = self._stub.Generate(
            wire.generate_request_to_proto(request), metadata=self._metadata + self._context
        )
        responses = aiter(call)
        is_whole = False
        try:
            while True:
                async with asyncio.timeout(self._event_timeout_s):
                    response = await anext(responses, None)
                if response is None:
                    break
                event = wire.generation_event_from_proto(response)
                is_whole = isinstance(event, GenerationFinished)
                yield event
        except TimeoutError:
            raise DeadlineError(f"the edge sent nothing for {self._event_timeout_s:g} s.") from None
        except grpc.aio.AioRpcError as error:
            raise wire.error_from_rpc(error) from None
        finally:
            call.cancel()
        if not is_whole:
            raise TransportError("the edge ended the text without a word; expected its last event.")

    async def status(self, *, timeout_s: float) -> EdgeStatus:
        """
        The edge's account of itself.

        Raises:
            ThinwireError: the edge's status as one of ours.
        """
        try:
            answer = await self._stub.GetStatus(
                wire.get_status_request(), timeout=timeout_s, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            raise wire.error_from_rpc(error) from None
        return wire.edge_status_from_proto(answer)


@asynccontextmanager
async def connect(
    address: str,
    *,
    connect_timeout_s: float = 5.0,
    event_timeout_s: float = 300.0,
    security: ClientSecurity | None = None,
    traceparent: str | None = None,
) -> AsyncIterator[EdgeClient]:
    """
    A client of the edge at `address`.

    Args:
        security: how it is dialled, and the token for it; loopback's plaintext and no token when None.
        traceparent: as for `EdgeClient`.

    Raises:
        TransportError: nobody listens there, or no connection within the deadline.
    """
    security = security or ClientSecurity()
    async with wire.open_channel(address, security, options=[_SOON_AGAIN]) as channel:
        if not await _connected(channel, connect_timeout_s):
            raise TransportError(await _why_not(channel, address, security))
        yield EdgeClient(channel, event_timeout_s=event_timeout_s, security=security, traceparent=traceparent)


async def _why_not(channel: grpc.aio.Channel, address: str, security: ClientSecurity) -> str:
    """One sentence; with the reason where the two ends do not agree on TLS, which looks like nobody."""
    mistaken = await wire.wrong_protection(address, security, option="--ca")
    if mistaken is not None:
        return f"no edge answers at {address}: {mistaken}."
    if security.of(address) in (LinkSecurity.LOOPBACK, LinkSecurity.PLAINTEXT):
        return f"no edge answers at {address}; expected a running `thinwire edge` there."
    reason = "no answer"
    try:
        await wire.GeneratorStub(channel).GetStatus(wire.get_status_request(), timeout=_REASON_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        reason = error.details() or reason
    return (
        f"no edge answers by TLS at {address} ({reason}); expected a running `thinwire edge` there "
        "whose certificate --ca vouches for."
    )


async def _connected(channel: grpc.aio.Channel, timeout_s: float) -> bool:
    """Whether the first attempt to connect succeeds within the deadline."""
    try:
        async with asyncio.timeout(timeout_s):
            state = channel.get_state(try_to_connect=True)
            while state is not grpc.ChannelConnectivity.READY:
                if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    return False
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    except TimeoutError:
        return False
    return True
