"""The driver's own duties, backoff and the deadlines of rounds; cloud and models are stand-ins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import chain, repeat
from typing import Any

import grpc
import pytest

from fakes import Reader, TableModel, TableVocabulary, random_table
from thinwire.common import wire
from thinwire.common.errors import DeadlineError, TransportError
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes import make_scheme
from thinwire.common.session.generation import GenerationEvent, GenerationRequest
from thinwire.common.session.messages import Opened
from thinwire.edge.cloud_link import CloudLink
from thinwire.edge.drafter import Drafter
from thinwire.edge.generation import GenerationRun
from thinwire.edge.meter import GenerationMeter
from thinwire.edge.session import EdgeSession
from thinwire.edge.settings import EdgeSettings
from thinwire.edge.text_stream import TextStream

SIZE = 5
VOCABULARY = TableVocabulary(SIZE)


class StubbornCloud(wire.VerifierServicer):
    """Opens every session and never answers a round, or ends every stream at once."""

    def __init__(self, *, hang: bool) -> None:
        self._hang = hang
        self.streams = 0
        self.requests: list[Any] = []

    async def Verify(self, requests: AsyncIterator[Any], context: Any) -> None:  # noqa: N802
        self.streams += 1
        resumed = self.streams > 1
        if not self._hang:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        async for request in requests:
            self.requests.append(request)
            if request.WhichOneof("message") == "open":
                opened = Opened(bytes(16), self.streams, 64, (), 1, 1)
                assert resumed == bool(request.open.session_id)
                await context.write(wire.reply_to_proto(opened))


@asynccontextmanager
async def stubborn(cloud: StubbornCloud) -> AsyncIterator[str]:
    """The address of a server of `cloud`."""
    server = grpc.aio.server(options=wire.server_options())
    wire.add_verifier(cloud, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


async def run(
    address: str, settings: EdgeSettings, *, fault: Exception | None = None
) -> tuple[list[GenerationEvent], list[float]]:
    """Run one generation; returns its events and the pauses before reconnects, or raises in the first."""
    pauses: list[float] = []
    reader = Reader()
    parameters = GenerationRequest("", seed=1)
    scheme = make_scheme(parameters.scheme, vocabulary_size=SIZE)
    session = EdgeSession(
        parameters,
        (0,),
        vocabulary=VOCABULARY.identity,
        scheme=scheme,
        text=TextStream(VOCABULARY.decode),
        context_length=64,
        round_timeout_s=settings.round_timeout_s,
        patience_s=settings.patience_s,
    )
    model = TableModel(random_table(4, SIZE))

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if fault is not None:
            raise fault

    link, now = CloudLink(address, settings), asyncio.get_running_loop().time
    try:
        with ThreadPoolExecutor(1) as executor:
            await GenerationRun(
                session,
                Drafter(model, scheme, parameters.sampling, KeyedDraws(1)),
                link,
                executor=executor,
                settings=settings,
                client=reader,
                meter=GenerationMeter(scheme, session.statistics, started_s=now()),
                sleep=sleep,
            ).run()
    except Exception as error:
        error.pauses = pauses  # type: ignore[attr-defined]
        raise
    finally:
        await link.close()
        assert model.open_sequences == 0
    return reader.events, pauses


async def test_reconnects_back_off_with_jitter_and_end() -> None:
    """Pauses double from backoff_s to max_backoff_s, jittered down to their half; then it fails."""
    cloud = StubbornCloud(hang=False)
    settings = EdgeSettings(patience_s=0.2, backoff_s=0.1, max_backoff_s=0.5)
    async with stubborn(cloud) as address:
        with pytest.raises(TransportError, match="is lost: gone") as caught:
            await run(address, settings)
    pauses = caught.value.pauses  # type: ignore[attr-defined]

    assert cloud.streams == len(pauses) + 1
    assert len(pauses) >= 5  # the test's pauses take no time
    for pause, longest in zip(pauses, chain((0.1, 0.2, 0.4), repeat(0.5)), strict=False):
        assert longest / 2 <= pause <= longest


async def test_a_round_that_is_never_answered_is_resent_unchanged_and_then_fails() -> None:
    """Each resumed stream carries the same bytes; the last deadline ends the generation."""
    cloud = StubbornCloud(hang=True)
    settings = EdgeSettings(patience_s=0.5, round_timeout_s=0.2, close_timeout_s=0.1)
    async with stubborn(cloud) as address:
        with pytest.raises(DeadlineError, match=r"round 1 took longer than 0\.2 s"):
            await run(address, settings)
    blocks = [r.SerializeToString() for r in cloud.requests if r.WhichOneof("message") == "draft_block"]

    assert cloud.streams == len(blocks) >= 3
    assert len(set(blocks)) == 1


async def test_a_bug_in_a_reconnect_ends_the_text() -> None:
    """Nobody awaits that task, and a text must not wait for it for ever."""
    async with stubborn(StubbornCloud(hang=False)) as address:
        with pytest.raises(RuntimeError, match="a bug"):
            async with asyncio.timeout(20):
                await run(address, EdgeSettings(), fault=RuntimeError("a bug"))
