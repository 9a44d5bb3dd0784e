"""`thinwire.AsyncClient`: texts of one edge, for programs that run on asyncio."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, fields
from typing import Any, Self, TypedDict, Unpack

from thinwire.common.config import SamplingParameters, check_seconds
from thinwire.common.door.security import ClientSecurity, read_authority, read_key_pair
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
from thinwire.edge.arguments import DEFAULT_EDGE
from thinwire.edge.client import EdgeClient, connect

Path = str | os.PathLike[str]


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


@dataclass(slots=True)
class Record:
    """What has come of a text."""

    started: GenerationStarted | None = None
    finished: GenerationFinished | None = None
    tokens: list[Token] = field(default_factory=list)

    def take(self, event: GenerationEvent) -> list[str]:
        """Note an event; returns the text that is final with it, in pieces that are not empty."""
        if isinstance(event, GenerationStarted):
            self.started = event
            return []
        if isinstance(event, GenerationFinished):
            self.finished = event
            return [event.text] if event.text else []
        self.tokens += event
        return [token.text for token in event if token.text]


class GeneratedText:
    """A text that is being made, or is whole; both kinds of generation have these."""

    def __init__(self, record: Record) -> None:
        self.record = record
        """What came of it so far, for the two kinds of generation."""

    @property
    def text(self) -> str:
        """The text so far, without the prompt; stays readable after an error."""
        end = self.record.finished.text if self.record.finished is not None else ""
        return "".join(token.text for token in self.record.tokens) + end

    @property
    def tokens(self) -> tuple[Token, ...]:
        """Output tokens so far: `token_id`, `kind` (accepted, resampled or bonus) and `text` of each."""
        return tuple(self.record.tokens)

    @property
    def seed(self) -> int | None:
        """The seed in use; None before the first piece."""
        return None if self.record.started is None else self.record.started.seed

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the text ended; None while it has not."""
        return None if self.record.finished is None else self.record.finished.reason

    @property
    def statistics(self) -> GenerationStatistics:
        """
        The whole text in numbers.

        Raises:
            RuntimeError: the text has not ended.
        """
        if self.record.finished is None:
            raise RuntimeError("the text has not ended; statistics come with its end.")
        return self.record.finished.statistics


class AsyncGeneration(GeneratedText):
    """
    One text, made while it is iterated; each piece is text that is final, and all pieces are `text`.

    Leaving the iteration early, or the `async with`, cancels the text.
    """

    def __init__(self, client: Callable[[], Awaitable[EdgeClient]], request: GenerationRequest) -> None:
        super().__init__(Record())
        self._client = client
        self._request = request
        self._pieces: weakref.ref[AsyncGenerator[str, None]] | None = None

    def __aiter__(self) -> AsyncGenerator[str, None]:
        if self._pieces is not None:
            raise RuntimeError("a generation is iterated once; expected a new call of generate().")
        pieces = self._generate()
        self._pieces = weakref.ref(pieces)  # weak: a loop that is left lets go of it, and so cancels
        return pieces

    async def _generate(self) -> AsyncGenerator[str, None]:
        client = await self._client()
        async with aclosing(client.generate(self._request)) as events:
            async for event in events:
                for piece in self.record.take(event):
                    yield piece

    async def close(self) -> None:
        """Cancel the text, unless it has ended."""
        pieces = self._pieces() if self._pieces is not None else None
        if pieces is not None:
            await pieces.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def generation_request(prompt: str, **options: Unpack[GenerationOptions]) -> GenerationRequest:
    """
    The request, in which what is not given takes its default.

    Raises:
        ConfigError: a value out of its range.
    """
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


class AsyncClient:
    """
    An edge; connects with the first call, and serves any number of texts at once.

    Use it within one event loop, as `async with AsyncClient(...) as client:` or with `close()` at the end.

    Args:
        address: HOST:PORT.
        options: `ClientOptions`.

    Raises:
        ConfigError: an option out of its range, or a file that is not what it should be.
    """

    def __init__(self, address: str = DEFAULT_EDGE, **options: Unpack[ClientOptions]) -> None:
        certificate, key = options.get("certificate"), options.get("key")
        self._security = ClientSecurity(
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
        self._traceparent = options.get("traceparent")
        self._connecting = asyncio.Lock()
        self._connection = AsyncExitStack()
        self._client: EdgeClient | None = None
        self._is_closed = False

    def generate(self, prompt: str, **options: Unpack[GenerationOptions]) -> AsyncGeneration:
        """
        A text that continues the prompt; nothing is sent before it is iterated.

        Raises:
            ConfigError: a value out of its range; said here, where nothing was sent yet.
        """
        return AsyncGeneration(self._connected, generation_request(prompt, **options))

    async def complete(self, prompt: str, **options: Unpack[GenerationOptions]) -> AsyncGeneration:
        """
        The same, once it is whole.

        Raises:
            ThinwireError: what ended it instead; `reason` and `status` say why.
        """
        generation = self.generate(prompt, **options)
        async for _ in generation:
            pass
        return generation

    async def status(self, *, timeout_s: float = 10.0) -> EdgeStatus:
        """
        What the edge and its cloud serve.

        Raises:
            ThinwireError: the edge does not answer, or refuses.
        """
        return await (await self._connected()).status(timeout_s=timeout_s)

    async def close(self) -> None:
        """End every text that is being made, and the connection."""
        self._is_closed = True
        async with self._connecting:
            await self._connection.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _connected(self) -> EdgeClient:
        async with self._connecting:
            if self._is_closed:
                raise RuntimeError("the client is closed; expected an open one.")
            if self._client is None:
                self._client = await self._connection.enter_async_context(
                    connect(
                        self.address,
                        connect_timeout_s=self._connect_timeout_s,
                        event_timeout_s=self.event_timeout_s,
                        security=self._security,
                        traceparent=self._traceparent,
                    )
                )
            return self._client
