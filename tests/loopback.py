"""Both daemons in this process over real ephemeral ports, with table models; and a link that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from fakes import Law, TableModel, TableVocabulary
from thinwire.cloud.daemon import CloudServer
from thinwire.cloud.settings import CloudSettings
from thinwire.common import wire
from thinwire.common.causal_model import CausalModel, ServedModel
from thinwire.common.config import SamplingParameters
from thinwire.common.door.security import ClientSecurity, ServerSecurity
from thinwire.common.observe.tracing import NO_TRACING, Tracing
from thinwire.common.schemes import DEFAULT_SCHEME, parameters_of, scheme_parameters
from thinwire.common.session.generation import GenerationFinished, GenerationRequest, GenerationStarted, Token
from thinwire.common.session.messages import FinishReason
from thinwire.edge.client import AsyncClient, connect
from thinwire.edge.daemon import EdgeServer
from thinwire.edge.settings import EdgeSettings


class WatchedModel(TableModel):
    """A table model that tells when its last sequence was closed."""

    def __init__(self, law: Law, **options: Any) -> None:
        self.freed = threading.Event()
        self._open = 0
        super().__init__(law, **options)

    @property
    def open_sequences(self) -> int:
        """Sequences opened and not closed yet."""
        return self._open

    @open_sequences.setter
    def open_sequences(self, count: int) -> None:
        if count < self._open and count == 0:
            self.freed.set()
        self._open = count

    async def freed_within(self, seconds: float) -> bool:
        """Whether the last sequence is closed within `seconds`."""
        return await asyncio.to_thread(self.freed.wait, seconds)


@dataclass(frozen=True, slots=True)
class Loopback:
    """Two daemons and a client of the edge."""

    cloud: CloudServer
    edge: EdgeServer
    client: AsyncClient
    edge_address: str
    cloud_address: str


@dataclass(frozen=True, slots=True)
class Generated:
    """One whole generation."""

    started: GenerationStarted
    tokens: tuple[Token, ...]
    finished: GenerationFinished

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All output ids."""
        return tuple(token.token_id for token in self.tokens)

    @property
    def text(self) -> str:
        """All output text."""
        return "".join(token.text for token in self.tokens) + self.finished.text

    @property
    def reason(self) -> FinishReason:
        """How the text ended."""
        return self.finished.reason


@asynccontextmanager
async def loopback(
    target: CausalModel,
    draft: CausalModel,
    vocabulary: TableVocabulary,
    *,
    target_vocabulary: TableVocabulary | None = None,
    eos_token_ids: tuple[int, ...] = (),
    fingerprint: bytes = b"",
    model_rows: int = 0,
    cloud_settings: CloudSettings | None = None,
    edge_settings: EdgeSettings | None = None,
    proxy: CuttableLink | None = None,
    round_log: Any = None,
    cloud_security: ServerSecurity | None = None,
    edge_security: ServerSecurity | None = None,
    to_cloud: ClientSecurity | None = None,
    to_edge: ClientSecurity | None = None,
    log_text: bool = False,
    cloud_tracing: Tracing = NO_TRACING,
    edge_tracing: Tracing = NO_TRACING,
    traceparent: str | None = None,
) -> AsyncIterator[Loopback]:
    """Start both, stop both; `proxy` stands between them; by plaintext and without tokens unless told."""
    cloud = CloudServer(
        ServedModel(
            model=target,
            vocabulary=target_vocabulary or vocabulary,
            rows=model_rows,
            eos_token_ids=eos_token_ids,
            fingerprint=fingerprint,
        ),
        settings=cloud_settings or CloudSettings(),
        security=cloud_security,
        tracing=cloud_tracing,
    )
    address = f"127.0.0.1:{await cloud.start('127.0.0.1:0')}"
    if proxy is not None:
        address = await proxy.start(address)
    edge = EdgeServer(
        ServedModel(model=draft, vocabulary=vocabulary),
        cloud_address=address,
        settings=edge_settings or EdgeSettings(),
        round_log=round_log,
        security=edge_security,
        cloud_security=to_cloud,
        log_text=log_text,
        tracing=edge_tracing,
    )
    edge_address = f"127.0.0.1:{await edge.start('127.0.0.1:0')}"
    try:
        async with connect(
            edge_address, event_timeout_s=60.0, security=to_edge, traceparent=traceparent
        ) as client:
            yield Loopback(cloud, edge, client, edge_address, address)
    finally:
        await edge.stop(0)
        if proxy is not None:
            await proxy.stop()
        await cloud.stop(0)


def make_request(prompt: str = "a", **changes: Any) -> GenerationRequest:
    """A request with seed 0 and the documented defaults, changed by field name."""
    name = changes.pop("scheme", DEFAULT_SCHEME)
    scheme = scheme_parameters(
        name, **{k: changes.pop(k) for k in list(changes) if k in parameters_of(name).specs()}
    )
    sampling = SamplingParameters(
        **{k: changes.pop(k) for k in list(changes) if k in SamplingParameters.__slots__}
    )
    return GenerationRequest(prompt, **{"seed": 0, "scheme": scheme, "sampling": sampling, **changes})


def unchecked(request: GenerationRequest, **changes: Any) -> GenerationRequest:
    """The request past its own checks, as a client without any would send it."""
    request = replace(request)
    for name, value in changes.items():
        object.__setattr__(request, name, value)
    return request


def request_message(request: GenerationRequest, **changes: Any) -> Any:
    """The request as protobuf, to be changed or sent past the client's own checks."""
    return wire.generate_request_to_proto(unchecked(request, **changes))


async def generate(client: AsyncClient, request: GenerationRequest) -> Generated:
    """Run one generation to its end."""
    started, finished, tokens = None, None, []
    async for event in client.events(request):
        if isinstance(event, GenerationStarted):
            started = event
        elif isinstance(event, GenerationFinished):
            finished = event
        else:
            tokens += event
    assert started is not None, "no first event"
    assert finished is not None, "no last event"
    return Generated(started, tuple(tokens), finished)


class CuttableLink:
    """A TCP relay on loopback that can drop every connection at once."""

    def __init__(self) -> None:
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.connections = 0
        self.down = False
        """Let no new connection through."""

    async def start(self, address: str) -> str:
        """Relay a fresh port to `address`; returns HOST:PORT of the fresh one."""
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Drop every connection, without a farewell."""
        for writer in self._writers:
            writer.transport.abort()

    async def stop(self) -> None:
        """Close for good."""
        self.cut()
        if self._server is not None:
            self._server.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self.down:
                raise ConnectionRefusedError
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        self._writers |= pair
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await asyncio.gather(self.pump(reader, far_writer), self.pump(far_reader, writer))
        self._writers -= pair
        for end in pair:
            end.transport.abort()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction of one connection."""
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
