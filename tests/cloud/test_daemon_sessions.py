"""The cloud daemon over a real ephemeral port: sessions, one and many."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy.typing as npt
import pytest

from fakes import Prefix, scheme_with
from tests.cloud.gated_cloud import Gate, server_info, undisturbed, watched
from thinwire.cloud.batch_queue import PREFILL_CHUNK_TOKENS
from thinwire.common import wire
from thinwire.common.schemes import scheme_names
from thinwire.common.session.messages import Opened, Verdict
from verify_peer import SIZE, TARGET, EdgeText, running_cloud, whole_text


@pytest.mark.parametrize("scheme", scheme_names())
async def test_a_session_runs_from_open_to_close(scheme: str) -> None:
    """Rounds of many lengths, γ = 0 among them; Closed counts them, and everything is freed."""
    target = watched()
    text = EdgeText(scheme=scheme_with(scheme, lattice_resolution=20, support_size=3))
    async with running_cloud(target) as cloud:
        peer, opened = await cloud.opened(text)
        for length in (0, 1, 4, 0, 8):
            await peer.say(text.block(length))
            text.take(await peer.hear())
        assert cloud.server.sessions == 1
        await peer.closed()

        assert opened == Opened(opened.session_id, 1, 512, (5,), 3, 1)
        assert cloud.server.sessions == 0
        assert await target.freed_within(1)


async def test_a_prompt_of_one_token_and_one_longer_than_a_chunk_are_fed_whole() -> None:
    """The target sees each prefix exactly as long as it is."""
    lengths: list[int] = []

    def law(prefix: Prefix) -> npt.NDArray[Any]:
        lengths.append(len(prefix))
        return TARGET(prefix)

    long = tuple(n % SIZE for n in range(2 * PREFILL_CHUNK_TOKENS + 10))
    async with running_cloud(watched(law, context_length=2048)) as cloud:
        await whole_text(cloud, EdgeText((3,)), 1, length=0)
        await whole_text(cloud, EdgeText(long), 1, length=0)

    chunk = PREFILL_CHUNK_TOKENS
    assert lengths == [1, chunk, 2 * chunk, len(long) - 1, len(long)]


async def test_a_verdict_carries_the_clouds_own_times() -> None:
    """Time in line and at work are told apart, and together are within the round trip."""
    gate, first, second = Gate(token=1), EdgeText((1, 2)), EdgeText((2, 2))
    async with running_cloud(watched(gate)) as cloud:
        holding, _ = await cloud.opened(first)
        await gate.entered()
        waiting, _ = await cloud.opened(second)
        begun = time.perf_counter()
        await waiting.say(second.block())
        await server_info(cloud.channel)  # the round is there by now
        gate.open()
        verdict = await waiting.hear()
        round_trip_us = (time.perf_counter() - begun) * 1e6
        await holding.closed()

    assert isinstance(verdict, Verdict)
    assert verdict.verify_us > 0
    assert verdict.queue_us > 0
    assert verdict.queue_us + verdict.verify_us <= round_trip_us


async def test_the_event_loop_answers_while_the_model_works() -> None:
    """GetServerInfo, health and a second Open are served while a pass holds the model's thread."""
    gate = Gate()
    async with running_cloud(watched(gate)) as cloud:
        peer, _ = await cloud.opened(EdgeText())
        await gate.entered()
        info = await server_info(cloud.channel)
        other, _ = await cloud.opened(EdgeText((1, 2)))
        serving = await wire.is_serving(cloud.channel, wire.VERIFIER_SERVICE, timeout_s=5)
        gate.open()
        await peer.closed()
        await other.closed()

    assert info.sessions == 1
    assert serving


async def test_many_sessions_at_once_do_not_disturb_each_other() -> None:
    """Eight interleaved texts are those of eight lone ones."""
    texts = [EdgeText((n % SIZE, 1), seed=n) for n in range(8)]
    async with running_cloud(watched()) as cloud:
        together = await asyncio.gather(*(whole_text(cloud, text, 6, length=3) for text in texts))

    alone = [await undisturbed(EdgeText((n % SIZE, 1), seed=n), 6, length=3) for n in range(8)]
    assert together == alone
