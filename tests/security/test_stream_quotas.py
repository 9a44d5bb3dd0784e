"""What a stream costs its tenant: a round as soon as it is there, which pays for the first round on it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fakes import ManualClock, TableVocabulary, random_law
from loopback import WatchedModel, generate, loopback, make_request
from security.credentials import Tokens
from thinwire.cloud.admission import (
    MAX_HELD_BACK_S,
    MAX_HELD_BACK_STREAMS,
    MAX_PAUSE_S,
    MIN_PAUSE_S,
    Admission,
)
from thinwire.cloud.settings import CloudSettings
from thinwire.common.door.security import ClientSecurity, ServerSecurity
from thinwire.common.door.tenants import Access
from thinwire.common.errors import DeadlineError, QuotaExceededError, TransportError
from thinwire.common.observe.metrics import PREFIX
from verify_peer import TARGET, EdgeText, RunningCloud, running_cloud

SIZE = 8
VOCABULARY = TableVocabulary(SIZE)
ONE_AND_NO_MORE = 0.001
"""Rounds a second: the bucket begins with one, and the next comes after any test."""


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    """An empty file to be."""
    return Tokens(tmp_path / "tokens.json")


def counted(cloud: RunningCloud, name: str) -> float | None:
    """A counter of the cloud's, None before its first."""
    return cloud.server.metrics.registry.get_sample_value(f"{PREFIX}{name}_total", {"scheme": "k-sqs"})


async def test_an_open_above_the_rate_is_refused_before_anything_is_done_for_it(tokens: Tokens) -> None:
    """It is held back, told a pause, and passes once the rate allows it."""
    token = tokens.add("acme", rounds_per_s=ONE_AND_NO_MORE)
    access = tokens.access()
    async with running_cloud(WatchedModel(TARGET), security=ServerSecurity(access=access)) as cloud:
        first, _ = await cloud.opened(EdgeText(), token)
        await first.closed()
        second = cloud.stream(token)
        await second.say(EdgeText().open)
        error = await second.refusal()

        assert isinstance(error, QuotaExceededError)
        assert error.message.startswith("tenant acme is above its 0.001 rounds/s; expected a pause of ")
        assert MAX_PAUSE_S - MAX_HELD_BACK_S <= error.retry_after_s <= MAX_PAUSE_S - MAX_HELD_BACK_S / 2
        assert (counted(cloud, "sessions_opened"), counted(cloud, "prompt_tokens")) == (1, 3)
        assert cloud.server.sessions == 0
        tokens.add("acme", rounds_per_s=None)
        await asyncio.to_thread(access.reload)
        third, _ = await cloud.opened(EdgeText(), token)
        await third.closed()


async def test_a_stream_torn_before_its_open_is_charged_too(tokens: Tokens) -> None:
    """What is charged is the stream; one that says nothing until its deadline, likewise."""
    token = tokens.add("acme", rounds_per_s=ONE_AND_NO_MORE)
    settings = CloudSettings(open_timeout_s=0.2, allow_dense_f16=True)
    async with running_cloud(WatchedModel(TARGET), settings, ServerSecurity(access=tokens.access())) as cloud:
        silent = cloud.stream(token)
        assert isinstance(await silent.refusal(), DeadlineError)
        second = cloud.stream(token)
        await second.say(EdgeText().open)

        assert isinstance(await second.refusal(), QuotaExceededError)


async def test_an_open_that_resumes_is_charged_and_the_session_outlives_its_refusal(tokens: Tokens) -> None:
    """A tenant that tears its streams pays for each; what it was refused comes later, on the same session."""
    token = tokens.add("acme", rounds_per_s=ONE_AND_NO_MORE)
    access = tokens.access()
    text = EdgeText()
    async with running_cloud(WatchedModel(TARGET), security=ServerSecurity(access=access)) as cloud:
        torn, opened = await cloud.opened(text, token)
        torn.tear()
        second = cloud.stream(token)
        await second.say(text.resuming(opened))
        assert isinstance(await second.refusal(), QuotaExceededError)
        tokens.add("acme", rounds_per_s=None)
        await asyncio.to_thread(access.reload)
        third = cloud.stream(token)
        await third.say(text.resuming(opened))

        assert getattr(await third.hear(), "session_id", None) == opened.session_id
        await third.closed()


async def test_a_stream_pays_for_one_round_and_a_replay_does_not_use_it_up(tokens: Tokens) -> None:
    """The first round that is new is free; the one behind it is not."""
    token = tokens.add("acme")
    access = tokens.access()
    text = EdgeText()
    async with running_cloud(WatchedModel(TARGET), security=ServerSecurity(access=access)) as cloud:
        torn, opened = await cloud.opened(text, token)
        block = text.block()
        await torn.say(block)
        verdict = await torn.hear()
        text.take(verdict)
        torn.tear()
        tokens.add("acme", rounds_per_s=ONE_AND_NO_MORE)
        await asyncio.to_thread(access.reload)
        peer = cloud.stream(token)
        peer.follow(torn)
        await peer.say(text.resuming(opened))  # takes the one
        await peer.hear()
        await peer.say(block)
        assert await peer.hear() == verdict
        await peer.say(text.block())
        text.take(await peer.hear())
        await peer.say(text.block())

        assert isinstance(await peer.refusal(), QuotaExceededError)


async def test_a_cloud_that_takes_no_sessions_charges_nothing(tokens: Tokens) -> None:
    """While it loads its model, edges may try as often as they like."""
    token = tokens.add("acme", rounds_per_s=ONE_AND_NO_MORE)
    async with running_cloud(None, security=ServerSecurity(access=tokens.access())) as cloud:
        for _ in range(3):
            peer = cloud.stream(token)
            await peer.say(EdgeText().open)
            assert type(await peer.refusal()) is TransportError


async def test_refused_streams_are_held_back_up_to_a_bound() -> None:
    """By tenant; one more is told at once, and none is counted when all are told."""
    admission = Admission(Access().quotas, now=ManualClock())
    refusal = QuotaExceededError("later.", retry_after_s=0.25)
    held = [asyncio.create_task(admission.hold_back("acme", refusal)) for _ in range(MAX_HELD_BACK_STREAMS)]
    await asyncio.sleep(0)

    assert await admission.hold_back("acme", refusal) is refusal
    assert all(MIN_PAUSE_S <= left.retry_after_s <= 0.125 for left in await asyncio.gather(*held))
    assert admission._held_back.total() == 0


async def test_a_rate_of_one_round_at_a_time_lets_every_round_through(tokens: Tokens) -> None:
    """A bucket that holds one round: the stream on which a round comes again must not use up its turn."""
    token = tokens.add("acme", rounds_per_s=1.5)
    request = make_request(seed=9, max_tokens=10, draft_length=2)
    async with loopback(
        WatchedModel(random_law(SIZE, 1)),
        WatchedModel(random_law(SIZE, 2)),
        VOCABULARY,
        cloud_security=ServerSecurity(access=tokens.access()),
        to_cloud=ClientSecurity(token=token),
    ) as both:
        held_back = await generate(both.client, request)
    async with loopback(
        WatchedModel(random_law(SIZE, 1)), WatchedModel(random_law(SIZE, 2)), VOCABULARY
    ) as free:
        undisturbed = await generate(free.client, request)

    assert undisturbed.finished.statistics.rounds >= 4
    assert held_back.tokens == undisturbed.tokens
