"""An edge written by hand: one Verify stream on which a test says what it likes, good or bad."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import grpc

from fakes import TableVocabulary, random_law
from thinwire.cloud.daemon import CloudServer
from thinwire.cloud.settings import CloudSettings
from thinwire.common import wire
from thinwire.common.causal_model import CausalModel, ServedModel
from thinwire.common.config import SamplingParameters
from thinwire.common.door.security import ClientSecurity, ServerSecurity
from thinwire.common.errors import ThinwireError
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes import SchemeParameters, make_scheme
from thinwire.common.schemes.k_sqs import KSqs
from thinwire.common.session.messages import (
    Close,
    CloseReason,
    DraftBlock,
    Open,
    Opened,
    PrefixHasher,
    Verdict,
    block_checksum,
)

SIZE = 6
VOCABULARY = TableVocabulary(SIZE)
TARGET = random_law(SIZE, 1)
DRAFT = random_law(SIZE, 2)
CLOSE = Close(CloseReason.FINISHED)
_TIMEOUT_S = 20.0
"""A stream that a test forgot ends by then."""


@dataclass(frozen=True, slots=True)
class RunningCloud:
    """A cloud daemon in this process and a channel to it."""

    server: CloudServer
    channel: grpc.aio.Channel
    address: str

    def stream(self, token: str | None = None) -> VerifyPeer:
        """A new Verify stream, with a token if there is one."""
        metadata = wire.call_metadata(ClientSecurity(token=token))
        return VerifyPeer(wire.VerifierStub(self.channel).Verify(timeout=_TIMEOUT_S, metadata=metadata))

    async def opened(self, text: EdgeText, token: str | None = None) -> tuple[VerifyPeer, Opened]:
        """A stream whose session is open."""
        peer = self.stream(token)
        await peer.say(text.open)
        opened = await peer.hear()
        assert isinstance(opened, Opened), opened
        return peer, opened


@asynccontextmanager
async def running_cloud(
    model: CausalModel | None,
    settings: CloudSettings | None = None,
    security: ServerSecurity | None = None,
) -> AsyncIterator[RunningCloud]:
    """Start on an ephemeral port, stop at the end; without `settings` every scheme is allowed."""
    settings = settings or CloudSettings(allow_dense_f16=True)
    served = model and ServedModel(model=model, vocabulary=VOCABULARY, eos_token_ids=(5,))
    server = CloudServer(served, settings=settings, security=security)
    address = f"127.0.0.1:{await server.start('127.0.0.1:0')}"
    try:
        async with grpc.aio.insecure_channel(address, options=wire.channel_options()) as channel:
            yield RunningCloud(server, channel, address)
    finally:
        await server.stop(0)


class VerifyPeer:
    """One Verify stream."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._writer = wire.EdgeStreamWriter()

    async def say(self, message: Open | DraftBlock | Close) -> None:
        """Write one message."""
        await self.say_proto(self._writer.to_proto(message))

    async def say_proto(self, request: Any) -> None:
        """Write whatever protobuf a test has made; a stream already refused says so when it is heard."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(request)

    async def hear(self) -> Opened | Verdict | None:
        """The next answer; None for Closed."""
        return wire.message_from_cloud(await self.hear_proto())

    async def hear_proto(self) -> Any:
        """The next answer as protobuf; grpc.aio.AioRpcError when the stream was refused."""
        response = await self._call.read()
        assert response is not grpc.aio.EOF, "the stream ended in good order; expected an answer"
        return response

    async def refusal(self) -> ThinwireError:
        """The error that ends this stream, whatever is answered before it."""
        try:
            while await self._call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return wire.error_from_rpc(error)
        raise AssertionError("the stream ended in good order; expected a refusal")

    async def closed(self) -> None:
        """Say Close; nothing but its answer and the stream's good end must come."""
        assert await self.until_closed() == []

    async def until_closed(self) -> list[Opened | Verdict]:
        """Say Close and wait for the stream's good end; returns what came before the answer to it."""
        await self.say(CLOSE)
        before = []
        while (answer := await self.hear()) is not None:
            before.append(answer)
        assert await self._call.code() is grpc.StatusCode.OK
        return before

    async def trailers(self) -> bytes:
        """The status details, serialised."""
        return bytes(dict(await self._call.trailing_metadata())["grpc-status-details-bin"])

    async def half_close(self) -> None:
        """Say that nothing more will come."""
        await self._call.done_writing()

    async def ended(self) -> None:
        """Wait for the stream's end, good or bad."""
        await self._call.code()

    def follow(self, former: VerifyPeer) -> None:
        """Be a later stream of the same session: what a round leaves out refers to the one before it."""
        self._writer = former._writer

    def tear(self) -> None:
        """Reset the stream, without Close."""
        self._call.cancel()


class EdgeText:
    """
    What an edge knows of its text, and the blocks it would send.

    Args:
        prompt: token ids.
        scheme: with its parameters.
        seed: of every draw.
    """

    def __init__(
        self,
        prompt: tuple[int, ...] = (0, 1, 2),
        *,
        scheme: SchemeParameters = KSqs.Parameters(support_size=3, lattice_resolution=20),  # noqa: B008 - frozen
        seed: int = 7,
    ) -> None:
        self.committed = prompt
        self.round = 1
        self.open = Open(VOCABULARY.identity, scheme, SamplingParameters(), seed, prompt)
        self._scheme = make_scheme(scheme, vocabulary_size=SIZE)
        self._state = self._scheme.initial_state()
        self._draws = KeyedDraws(seed)
        self._drafted: tuple[int, ...] = ()

    def block(self, length: int = 2) -> DraftBlock:
        """The next round; shorter where the scheme does not draft so much."""
        length = min(length, self._scheme.max_draft_length)
        tokens, state, prefix = [], self._state, self.committed
        for _ in range(length):
            drafted = self._scheme.quantize(DRAFT(prefix), state)
            token = self._scheme.sample(drafted, self._draws, position=len(prefix), attempt=0)
            state = self._scheme.next_state(state, drafted)
            tokens.append(token)
            prefix = (*prefix, token.token_id)
        self._drafted = prefix[len(self.committed) :]
        code = self._scheme.coding(self._state)
        payload = self._scheme.encode(tokens, coding=code)
        hasher = PrefixHasher()
        hasher.extend(self.committed)
        return self.sealed(
            DraftBlock(self.round, len(self.committed), hasher.value(), length, code, payload, 0)
        )

    def sealed(self, block: DraftBlock, **changes: Any) -> DraftBlock:
        """The block, changed, with its right checksum."""
        changed = replace(block, **changes)
        return replace(changed, checksum=block_checksum(changed, self.open.scheme))

    def take(self, verdict: Opened | Verdict | None) -> None:
        """Commit what the cloud answered to the last block."""
        assert isinstance(verdict, Verdict), verdict
        assert verdict.round == self.round
        self.committed += (*self._drafted[: verdict.accepted], verdict.next_token_id)
        assert verdict.committed_length == len(self.committed)
        self.round += 1

    def resuming(self, opened: Opened) -> Open:
        """The Open that takes the session over."""
        return replace(self.open, prompt_token_ids=(), session_id=opened.session_id)


async def whole_text(cloud: RunningCloud, text: EdgeText, rounds: int, *, length: int = 2) -> tuple[int, ...]:
    """The committed ids after `rounds` undisturbed rounds; the session is closed."""
    peer, _ = await cloud.opened(text)
    for _ in range(rounds):
        await peer.say(text.block(length))
        text.take(await peer.hear())
    await peer.closed()
    return text.committed
