"""`thinwire.AsyncClient`: texts of one edge, for programs that run on asyncio, and for the command line."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import fields
from typing import Any, TypedDict, TypeVar, Unpack

import grpc

from thinwire.common import wire
from thinwire.common.config import SamplingParameters, check_seconds
from thinwire.common.door.security import ClientSecurity, LinkSecurity, read_authority, read_key_pair
from thinwire.common.errors import DeadlineError, TransportError
from thinwire.common.observe.tracing import caller_context
from thinwire.common.schemes import DEFAULT_SCHEME, SchemeParameters, parse_scheme
from thinwire.common.session.generation import (
    EdgeStatus,
    GenerationEvent,
    GenerationFinished,
    GenerationRequest,
    GenerationStarted,
    Token,
)
from thinwire.common.session.messages import FinishReason
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge.settings import DEFAULT_EDGE

Path = str | os.PathLike[str]
Pieces = TypeVar("Pieces")

_REASON_TIMEOUT_S = 0.5
"""To ask a channel that does not connect for the reason."""
_SOON_AGAIN = ("grpc.max_reconnect_backoff_ms", 1000)
"""gRPC's own is two minutes, for which a client of an edge that is back would go on failing."""


class ClientOptions(TypedDict, total=False):
    """How an edge is reached; all keywords of both clients, each with its default."""

    ca: Path | None
    """PEM of the authority of the edge's certificate; None: public authorities, and plaintext on loopback."""
    certificate: Path | None
    """PEM chain to show an edge that asks for mutual TLS; with `key`."""
    key: Path | None
    token: str | None
    """The token itself, as `thinwire-cloud token` prints it."""
    insecure_plaintext: bool
    """Off loopback, dial without TLS where neither `ca` nor `certificate` is given. False."""
    connect_timeout_s: float
    """For the first connection. 5."""
    event_timeout_s: float
    """How long the edge may stay silent within a text, and for a status. 300."""
    traceparent: str | None
    """W3C context of the caller's span."""


class GenerationOptions(TypedDict, total=False):
    """What a text may be asked for; docs/python-client.md has the defaults and ranges."""

    scheme: str | SchemeParameters
    objective: str
    draft_length: int
    uplink_budget_bits: int
    min_block_acceptance: float
    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int | None
    stop: str | Sequence[str]
    stop_token_ids: Sequence[int]
    ignore_eos: bool
    prediction: str


class GeneratedText:
    """A text that is being made, or is whole; both kinds of generation have these."""

    def __init__(self, events: AsyncGenerator[GenerationEvent, None]) -> None:
        self._events = events
        self._pieces: weakref.ref[Any] | None = None
        """The iteration; weak: a loop that is left lets go of it, and so cancels."""
        self._started: GenerationStarted | None = None
        self._finished: GenerationFinished | None = None
        self._tokens: list[Token] = []

    def _once(self, pieces: Pieces) -> Pieces:
        if self._pieces is not None:
            raise RuntimeError("a generation is iterated once; expected a new call of generate().")
        self._pieces = weakref.ref(pieces)
        return pieces

    def _iteration(self) -> Any:
        return None if self._pieces is None else self._pieces()

    def _take(self, event: GenerationEvent) -> list[str]:
        """Note an event; returns the text that is final with it, in pieces that are not empty."""
        if isinstance(event, GenerationStarted):
            self._started = event
            return []
        if isinstance(event, GenerationFinished):
            self._finished = event
            return [event.text] if event.text else []
        self._tokens += event
        return [token.text for token in event if token.text]

    @property
    def text(self) -> str:
        """The text so far, without the prompt; stays readable after an error."""
        end = self._finished.text if self._finished is not None else ""
        return "".join(token.text for token in self._tokens) + end

    @property
    def tokens(self) -> tuple[Token, ...]:
        """Output tokens so far: `token_id`, `kind` (accepted, resampled or bonus) and `text` of each."""
        return tuple(self._tokens)

    @property
    def seed(self) -> int | None:
        """The seed in use; None before the first piece."""
        return None if self._started is None else self._started.seed

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the text ended; None while it has not."""
        return None if self._finished is None else self._finished.reason

    @property
    def statistics(self) -> GenerationStatistics:
        """The whole text in numbers; RuntimeError if it has not ended."""
        if self._finished is None:
            raise RuntimeError("the text has not ended; statistics come with its end.")
        return self._finished.statistics


class AsyncGeneration(GeneratedText, AbstractAsyncContextManager["AsyncGeneration"]):
    """
    One text, made while it is iterated; each piece is text that is final, and all pieces are `text`.

    Leaving the iteration early, or the `async with`, cancels the text.
    """

    def __aiter__(self) -> AsyncGenerator[str, None]:
        return self._once(self._generate())

    async def _generate(self) -> AsyncGenerator[str, None]:
        async with aclosing(self._events) as events:
            async for event in events:
                for piece in self._take(event):
                    yield piece

    async def close(self) -> None:
        """Cancel the text, unless it has ended."""
        if (pieces := self._iteration()) is not None:
            await pieces.aclose()

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def generation_request(prompt: str, **options: Unpack[GenerationOptions]) -> GenerationRequest:
    """The request, in which what is not given takes its default; ConfigError for a value out of its range."""
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    warping = {
        field.name: given.pop(field.name) for field in fields(SamplingParameters) if field.name in given
    }
    sampling = SamplingParameters(**warping)
    scheme = given.get("scheme", DEFAULT_SCHEME)
    given["scheme"] = parse_scheme(scheme, sampling.temperature) if isinstance(scheme, str) else scheme
    for name in ("stop", "stop_token_ids"):
        value = given.get(name, ())
        given[name] = (value,) if isinstance(value, str) else tuple(value)
    return GenerationRequest(prompt, sampling=sampling, **given)


def _path(path: Path | None) -> str | None:
    return None if path is None else os.fspath(path)


class AsyncClient(AbstractAsyncContextManager["AsyncClient"]):
    """
    An edge; connects with the first call, and serves any number of texts at once.

    Use it within one event loop, as `async with AsyncClient(...) as client:` or with `close()` at the end.

    Args:
        address: HOST:PORT.
        security: in place of the options of TLS and token.
        channel: to the edge, already open, and left open; in place of a connection of the client's own.
        options: `ClientOptions`.

    Raises:
        ConfigError: an option out of its range, or a file that is not what it should be.
    """

    def __init__(
        self,
        address: str = DEFAULT_EDGE,
        *,
        security: ClientSecurity | None = None,
        channel: grpc.aio.Channel | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        certificate, key = options.get("certificate"), options.get("key")
        self._security = security or ClientSecurity(
            authority=read_authority(_path(options.get("ca"))),
            key_pair=read_key_pair(_path(certificate), _path(key), flags="certificate and key"),
            token=options.get("token"),
            insecure_plaintext=options.get("insecure_plaintext", False),
        )
        self.address = address
        self._connect_timeout_s = options.get("connect_timeout_s", 5.0)
        self.event_timeout_s = options.get("event_timeout_s", 300.0)
        check_seconds("connect_timeout_s", self._connect_timeout_s)
        check_seconds("event_timeout_s", self.event_timeout_s)
        self._metadata = wire.call_metadata(self._security)
        self._context = caller_context(options.get("traceparent"))
        self._connecting = asyncio.Lock()
        self._connection = AsyncExitStack()
        self._stub = None if channel is None else wire.GeneratorStub(channel)
        self._is_closed = False

    def generate(self, prompt: str, **options: Unpack[GenerationOptions]) -> AsyncGeneration:
        """As `Client.generate`."""
        return AsyncGeneration(self.events(generation_request(prompt, **options)))

    async def events(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """
        The same for a whole request, as the edge's own events; leaving the iteration early cancels the text.

        Raises:
            ThinwireError: the edge's status as one of ours; DeadlineError when an event takes too long;
                RemoteProtocolError or TransportError when it does not speak the protocol to its end.
        """
        stub = await self.connect()
        call = stub.Generate(wire.generate_request_to_proto(request), metadata=self._metadata + self._context)
        responses = aiter(call)
        is_whole = False
        try:
            while True:
                async with asyncio.timeout(self.event_timeout_s):
                    response = await anext(responses, None)
                if response is None:
                    break
                event = wire.generation_event_from_proto(response)
                is_whole = isinstance(event, GenerationFinished)
                yield event
        except TimeoutError:
            raise DeadlineError(f"the edge sent nothing for {self.event_timeout_s:g} s.") from None
        except grpc.aio.AioRpcError as error:
            raise wire.error_from_rpc(error) from None
        finally:
            call.cancel()
        if not is_whole:
            raise TransportError("the edge ended the text without a word; expected its last event.")

    async def complete(self, prompt: str, **options: Unpack[GenerationOptions]) -> AsyncGeneration:
        """As `Client.complete`."""
        generation = self.generate(prompt, **options)
        async for _ in generation:
            pass
        return generation

    async def status(self, *, timeout_s: float = 10.0) -> EdgeStatus:
        """As `Client.status`."""
        stub = await self.connect()
        try:
            answer = await stub.GetStatus(
                wire.get_status_request(), timeout=timeout_s, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            raise wire.error_from_rpc(error) from None
        return wire.edge_status_from_proto(answer)

    async def connect(self) -> Any:
        """
        The stub of the edge, connected with the first call; every other method does so by itself.

        Raises:
            RuntimeError: the client is closed.
            TransportError: nobody listens there, or no connection within the deadline.
        """
        async with self._connecting:
            if self._is_closed:
                raise RuntimeError("the client is closed; expected an open one.")
            if self._stub is None:
                async with AsyncExitStack() as opening:
                    channel = await opening.enter_async_context(
                        wire.open_channel(self.address, self._security, options=[_SOON_AGAIN])
                    )
                    if not await _connected(channel, self._connect_timeout_s):
                        raise TransportError(await _why_not(channel, self.address, self._security))
                    self._connection = opening.pop_all()
                self._stub = wire.GeneratorStub(channel)
            return self._stub

    async def close(self) -> None:
        """End every text that is being made, and the connection."""
        self._is_closed = True
        async with self._connecting:
            await self._connection.aclose()

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@asynccontextmanager
async def connect(
    address: str, *, security: ClientSecurity | None = None, **options: Unpack[ClientOptions]
) -> AsyncIterator[AsyncClient]:
    """A client of the edge that is connected already; arguments and errors as of `AsyncClient.connect`."""
    async with AsyncClient(address, security=security, **options) as client:
        await client.connect()
        yield client


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
