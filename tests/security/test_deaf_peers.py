"""Peers that stop reading: what frees waits for none of them, and no one else is kept waiting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from fakes import TableModel
from loopback import WatchedModel, generate, loopback, make_request, request_message
from thinwire.cloud.free_running import WINDOW_TOKENS
from thinwire.cloud.settings import CloudSettings
from thinwire.common import wire
from thinwire.common.schemes.coupled import Coupled
from thinwire.common.session.free_run import MAX_HINT_ROWS
from thinwire.common.session.messages import FreeRun, Hints, Open, PrefixHasher
from thinwire.common.wire.outbox import MAX_WAITING
from thinwire.edge.settings import EdgeSettings
from verify_peer import (
    CLOSE,
    DRAFT,
    SIZE,
    TARGET,
    VOCABULARY,
    EdgeText,
    RunningCloud,
    running_cloud,
    whole_text,
)

SHORT_S = 0.3
LONG_S = 60.0
"""Longer than any test."""


@asynccontextmanager
async def closed_window(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel that lets nothing come down until it is asked for."""
    options = [*wire.channel_options(), ("grpc.http2.lookahead_bytes", 0)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield channel


@asynccontextmanager
async def deaf_to(cloud: RunningCloud) -> AsyncIterator[RunningCloud]:
    """The same cloud, over a closed window."""
    async with closed_window(cloud.address) as channel:
        yield RunningCloud(cloud.server, channel, cloud.address)


def watched() -> WatchedModel:
    """A target that tells when its last sequence is closed."""
    return WatchedModel(TARGET, vocabulary_size=SIZE, context_length=512)


async def test_close_frees_at_once_though_nobody_reads_its_answer() -> None:
    """Ten sessions whose peers take nothing hold no slot and no cache once they said Close."""
    target = watched()
    async with running_cloud(target, CloudSettings(write_timeout_s=LONG_S, max_sessions=1)) as cloud:
        async with deaf_to(cloud) as deaf:
            for seed in range(10):
                peer = deaf.stream()
                await peer.say(EdgeText(seed=seed).open)
                await peer.say(CLOSE)
                while cloud.server.sessions or not target.freed.is_set():
                    await asyncio.sleep(0.01)
                target.freed.clear()
            await whole_text(cloud, EdgeText(), 2)
        async with asyncio.timeout(10):  # the model's thread frees them, soon after
            while target.open_sequences:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("rounds", [0, 1, 3 * MAX_WAITING], ids=["Opened", "a verdict", "many replays"])
async def test_a_peer_that_takes_nothing_loses_its_stream(
    rounds: int, caplog: pytest.LogCaptureFixture
) -> None:
    """At every message of a conversation; its session is kept as after any torn stream, and then freed."""
    target, text = watched(), EdgeText()
    settings = CloudSettings(write_timeout_s=SHORT_S, resume_ttl_s=SHORT_S)
    async with running_cloud(target, settings) as cloud, deaf_to(cloud) as deaf:
        peer = deaf.stream()
        await peer.say(text.open)
        for _ in range(rounds):
            await peer.say(text.block())

        assert await target.freed_within(10)
        assert cloud.server.sessions == 0
        assert "expected it to read its stream" in (await peer.refusal()).message
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("acknowledged", [False, True])
async def test_a_peer_that_takes_nothing_of_a_free_running_target_loses_its_stream(
    acknowledged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The target stops at its window; the session is kept as after any torn stream, and then freed."""
    target, prompt = watched(), (1, 2)
    settings = CloudSettings(write_timeout_s=SHORT_S, resume_ttl_s=SHORT_S)
    plain, hasher = EdgeText(prompt).open, PrefixHasher()
    hasher.extend(prompt)
    run = FreeRun(500, len(prompt), hasher.value())
    async with running_cloud(target, settings) as cloud, deaf_to(cloud) as deaf:
        peer = deaf.stream()
        await peer.say(Open(plain.vocabulary, Coupled.Parameters(), plain.sampling, 1, prompt, free_run=run))
        if acknowledged:
            await peer.say(Hints(len(prompt), 0, 0, b""))

        assert await target.freed_within(10)
        assert cloud.server.sessions == 0
        assert "expected it to read its stream" in (await peer.refusal()).message
    assert 0 < target.passes <= WINDOW_TOKENS + MAX_HINT_ROWS
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("heard", [0, 1, 3], ids=["the beginning", "the first tokens", "later ones"])
async def test_a_client_that_stops_reading_gives_its_slot_back(heard: int) -> None:
    """Its generation ends at both ends, and the next one is served."""
    target, draft = watched(), TableModel(DRAFT, context_length=512)
    settings = EdgeSettings(max_generations=1, write_timeout_s=SHORT_S)
    async with (
        loopback(target, draft, VOCABULARY, edge_settings=settings) as pair,
        closed_window(pair.edge_address) as channel,
    ):
        message = request_message(make_request("abc", max_tokens=200, draft_length=1))
        call: Any = wire.GeneratorStub(channel).Generate(message)
        await call.wait_for_connection()
        for _ in range(heard):
            await call.read()
        while not pair.edge.running:
            await asyncio.sleep(0.01)
        while pair.edge.running:
            await asyncio.sleep(0.01)

        assert await target.freed_within(5)
        assert draft.open_sequences == 0
        served = await generate(pair.client, make_request("abc", max_tokens=5))
        assert served.finished.statistics.output_tokens == 5
        call.cancel()
