"""The cloud daemon over a real ephemeral port: repeated rounds, torn streams and resumes."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import pytest

from fakes import Prefix, scheme_with
from tests.cloud.gated_cloud import Gate, server_info, undisturbed, watched
from thinwire.cloud.batch_queue import PREFILL_CHUNK_TOKENS
from thinwire.common import wire
from thinwire.common.errors import EpochSupersededError
from thinwire.common.schemes import scheme_names
from thinwire.common.session.messages import Opened
from verify_peer import SIZE, EdgeText, running_cloud


@pytest.mark.parametrize("scheme", scheme_names())
async def test_a_repeated_round_gets_the_same_bytes(scheme: str) -> None:
    """No new pass, no new draws, not even new times; and the session goes on."""
    text = EdgeText(scheme=scheme_with(scheme, lattice_resolution=20, support_size=3))
    target = watched()
    async with running_cloud(target) as cloud:
        peer, _ = await cloud.opened(text)
        for _ in range(4):
            block = text.block(4)
            await peer.say(block)
            first = await peer.hear_proto()
            passes = target.passes
            for _ in range(3):
                await peer.say(block)
                again = await peer.hear_proto()

                assert again.SerializeToString(deterministic=True) == first.SerializeToString(
                    deterministic=True
                )
            assert target.passes == passes
            text.take(wire.message_from_cloud(first))
        await peer.closed()


@pytest.mark.parametrize("scheme", scheme_names())
async def test_a_torn_session_is_resumed_and_the_text_is_the_same(scheme: str) -> None:
    """Torn after every round; each resume counts one epoch more and says where the session stands."""
    parameters = scheme_with(scheme, lattice_resolution=20, support_size=3)
    text = EdgeText(scheme=parameters)
    async with running_cloud(watched()) as cloud:
        peer, opened = await cloud.opened(text)
        for epoch in range(2, 7):
            await peer.say(text.block(3))
            text.take(await peer.hear())
            peer.tear()
            peer, torn = cloud.stream(), peer
            peer.follow(torn)
            await peer.say(text.resuming(opened))
            resumed = await peer.hear()

            assert resumed == Opened(opened.session_id, epoch, 512, (5,), len(text.committed), text.round)
        await peer.closed()
        assert cloud.server.sessions == 0

    assert text.committed == await undisturbed(EdgeText(scheme=parameters), 5, length=3)


async def test_a_newer_stream_takes_the_session_over() -> None:
    """The former stream ends with ABORTED, EPOCH_SUPERSEDED; the newer one goes on."""
    text = EdgeText()
    async with running_cloud(watched()) as cloud:
        former, opened = await cloud.opened(text)
        await former.say(text.block())
        text.take(await former.hear())
        newer = cloud.stream()
        await newer.say(text.resuming(opened))
        assert isinstance(await newer.hear(), Opened)
        error = await former.refusal()
        await newer.say(text.block())
        text.take(await newer.hear())
        await newer.closed()

        assert type(error) is EpochSupersededError
        assert error.status == "ABORTED"
        assert "epoch 1; the session is held by epoch 2" in error.message

    assert text.committed == await undisturbed(EdgeText(), 2)


async def test_a_round_torn_in_mid_verification_is_decided_once() -> None:
    """The pass goes on without the stream; the resumed one gets its verdict for the same bytes."""
    gate, text = Gate(), EdgeText((0,))
    target = watched(gate)
    async with running_cloud(target) as cloud:
        peer, opened = await cloud.opened(text)
        block = text.block()
        await peer.say(block)
        await gate.entered()
        peer.tear()
        newer = cloud.stream()
        await newer.say(text.resuming(opened))
        resumed = await newer.hear()
        await newer.say(block)
        gate.open()
        verdict = await newer.hear()
        text.take(verdict)
        passes = target.passes
        # The repeat may reach the cloud after the verdict, and is then answered with it once more.
        repeats = await newer.until_closed()

    assert isinstance(resumed, Opened)
    assert resumed.next_round == 1
    assert passes == 1
    assert set(repeats) <= {verdict}
    assert text.committed == await undisturbed(EdgeText((0,)), 1)


async def test_a_round_that_comes_before_the_prompt_is_fed_waits_for_it() -> None:
    """Torn and resumed while the prompt goes in piece by piece: the round sees the whole of it."""
    chunk, lengths = PREFILL_CHUNK_TOKENS, []
    prompt = tuple(n % SIZE for n in range(4 * chunk + 1))
    gate, text = Gate(), EdgeText(prompt)

    def law(prefix: Prefix) -> npt.NDArray[Any]:
        lengths.append(len(prefix))
        return gate(prefix)

    async with running_cloud(watched(law, context_length=2048)) as cloud:
        peer, opened = await cloud.opened(text)
        await gate.entered()
        peer.tear()
        newer = cloud.stream()
        await newer.say(text.resuming(opened))
        assert isinstance(await newer.hear(), Opened)
        await newer.say(text.block(4))
        await server_info(cloud.channel)  # the round is there by now
        gate.open()
        text.take(await newer.hear())
        await newer.closed()

    assert lengths == [chunk, 2 * chunk, 3 * chunk, 4 * chunk, *range(4 * chunk + 1, 4 * chunk + 6)]
    assert text.committed == await undisturbed(EdgeText(prompt), 1, length=4)
