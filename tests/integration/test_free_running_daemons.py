"""Real daemons with a target that writes by itself: rates, a full queue, slow clients, what is left over."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fakes import TableVocabulary, random_law
from loopback import CuttableLink, Loopback, WatchedModel, generate, loopback, make_request
from security.credentials import Tokens
from thinwire.cloud.settings import CloudSettings
from thinwire.common.door.security import ClientSecurity, ServerSecurity
from thinwire.edge.account import GenerateCall
from thinwire.edge.settings import EdgeSettings

SIZE = 8
VOCABULARY = TableVocabulary(SIZE)
TARGET = random_law(SIZE, 1)
DRAFT = random_law(SIZE, 2)


def pair(context_length: int = 20_000) -> tuple[WatchedModel, WatchedModel]:
    """(target, draft)."""
    models = WatchedModel(TARGET, context_length=context_length)
    return models, WatchedModel(DRAFT, context_length=context_length)


def secured(tmp_path: Path, **quotas: float) -> dict[str, object]:
    """A cloud with one tenant of these quotas, and how its edge dials it."""
    tokens = Tokens(tmp_path / "tokens.json")
    token = tokens.add("acme", **quotas)
    access = ServerSecurity(access=tokens.access())
    return {"cloud_security": access, "to_cloud": ClientSecurity(token=token)}


async def test_a_running_text_does_not_shut_out_another_of_its_tenant(tmp_path: Path) -> None:
    """The second one's prompt needs a full bucket, which the first one's passes would keep empty."""
    settings = EdgeSettings(round_timeout_s=30.0)
    secure = secured(tmp_path, tokens_per_s=200)
    async with loopback(*pair(), VOCABULARY, edge_settings=settings, **secure) as both:
        first = asyncio.create_task(
            generate(both.client, make_request(scheme="coupled", seed=5, max_tokens=15_000))
        )
        await asyncio.sleep(0.7)
        second = await generate(both.client, make_request("ab" * 40, scheme="coupled", seed=6, max_tokens=5))
        first.cancel()
        await asyncio.wait([first])

    assert len(second.tokens) == 5


async def test_a_rate_slows_a_text_down_and_waits_for_nobody_who_is_gone(tmp_path: Path) -> None:
    """The text comes whole; a session that is over leaves no task that waits for its turn."""
    async with loopback(*pair(), VOCABULARY, **secured(tmp_path, tokens_per_s=40)) as both:
        whole = await generate(both.client, make_request(scheme="coupled", seed=5, max_tokens=30))
        stream = both.client.events(make_request("abcd" * 6, scheme="coupled", seed=5, max_tokens=500))
        await anext(stream)
        await stream.aclose()
        await _until_idle(both)
        left = [task for task in asyncio.all_tasks() if "_work_off" in repr(task)]

    assert len(whole.tokens) == 30
    assert left == []


async def _until_idle(both: Loopback) -> None:
    async with asyncio.timeout(10):
        while both.cloud.sessions:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)


@pytest.mark.parametrize("scheme", ["k-sqs", "coupled"])
async def test_a_full_queue_puts_texts_off_and_fails_none(scheme: str) -> None:
    """Six at once with room for one round in line; none is kept out for good."""
    settings = CloudSettings(max_queued_rounds=1)
    async with loopback(*pair(), VOCABULARY, cloud_settings=settings) as both:
        texts = await asyncio.gather(
            *(generate(both.client, make_request(scheme=scheme, seed=n, max_tokens=40)) for n in range(6))
        )

    assert [len(text.tokens) for text in texts] == [40] * 6


@pytest.mark.parametrize("draft_length", [0, 4])
async def test_a_client_that_takes_nothing_stops_the_target_within_its_window(
    monkeypatch: pytest.MonkeyPatch, draft_length: int
) -> None:
    """With a draft and without one: what is not acknowledged is not written far ahead of."""

    async def never(call: GenerateCall) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(GenerateCall, "room", never)
    target, draft = pair()
    request = make_request(scheme="coupled", seed=5, max_tokens=2000, draft_length=draft_length)
    async with loopback(target, draft, VOCABULARY) as both:
        text = asyncio.create_task(generate(both.client, request))
        await asyncio.wait([text], timeout=2)
        is_done, passes = text.done(), target.passes
        text.cancel()
        await asyncio.wait([text])

    assert not is_done
    assert passes < 300


async def test_a_session_whose_link_is_lost_is_freed_in_the_end() -> None:
    """Whatever its target was doing: a pass, or a wait for a hint."""
    link = CuttableLink()
    target, draft = pair()
    settings = CloudSettings(resume_ttl_s=0.2)
    edge = EdgeSettings(patience_s=0.1, backoff_s=5.0, max_backoff_s=5.0)
    async with loopback(
        target, draft, VOCABULARY, proxy=link, cloud_settings=settings, edge_settings=edge
    ) as both:
        request = make_request(scheme="coupled", objective="cloud", max_tokens=15_000)
        stream = both.client.events(request)
        for _ in range(50):
            await anext(stream)
        link.cut()
        await stream.aclose()
        await _until_idle(both)

    assert target.open_sequences == 0
