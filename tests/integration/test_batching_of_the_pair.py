"""The bundled pair, one cloud and many sessions: the texts are those of lone sessions, and memory returns."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

import torch_device
from loopback import Loopback, generate, loopback, make_request
from thinwire.cloud.live_session import CLOSE_DECISION_MARGIN
from thinwire.cloud.settings import CloudSettings
from thinwire.common import demo_pair
from thinwire.common.causal_model import Extended, ExtendRequest
from thinwire.common.language_model import LanguageModel
from thinwire.common.language_model.kv_pool import PAGE_TOKENS
from thinwire.common.session.generation import GenerationRequest

pytestmark = pytest.mark.skipif(
    not (demo_pair.target_path() / "model.safetensors").exists(), reason="the bundled pair is not here"
)

PROMPTS = (
    "def is_prime(n):",
    "import os\nimport sys\n\n\ndef main(argv):\n    ",
    "class Queue:\n    def __init__(self, items):\n",
    "for i in range(10):\n    print(",
)
SCHEMES = ("k-sqs", "c-sqs", "dense-qs", "cloud-ar")
SESSIONS = 8
LONG_PASS_S = 0.05
_CLOSE = re.compile(r"session (\w+) round (\d+): decision margin (\S+)")


def requests(count: int, tokens: int) -> list[GenerationRequest]:
    """Texts of different prompts, lengths, schemes, draft lengths and seeds."""
    return [
        make_request(
            PROMPTS[n % 4] * (1 + n // 3),
            scheme=SCHEMES[n // 2 % 4],
            max_tokens=tokens + 3 * n,
            draft_length=(4, 2, 6, 1)[n % 4],
            temperature=(1.0, 0.3, 0.7)[n % 3],
            seed=100 + n,
            ignore_eos=True,
        )
        for n in range(count)
    ]


@dataclass(frozen=True, slots=True)
class Compared:
    """The same texts one after the other and all at once."""

    alone: list[tuple[int, ...]]
    together: list[tuple[int, ...]]
    passes_alone: int
    passes_together: int


@cache  # every test leaves the pool empty
def models(dtype: str) -> tuple[LanguageModel, LanguageModel]:
    """The bundled pair, target first, which has a KV pool."""
    target, draft = (
        torch_device.load_on_device(str(path), dtype=dtype)
        for path in (demo_pair.target_path(), demo_pair.draft_path())
    )
    target.pool_sequences(sessions=SESSIONS)
    assert target.packs
    return target, draft


async def both_ways(dtype: str, asked: list[GenerationRequest]) -> Compared:
    """One cloud, one edge: every request by itself, then all of them at once."""
    target, draft = await asyncio.to_thread(models, dtype)
    async with running(target, draft) as both:
        alone = [(await generate(both.client, request)).token_ids for request in asked]
        passes_alone = both.cloud.passes
        with long_passes(target):
            together = await asyncio.gather(*(generate(both.client, request) for request in asked))
        assert target.kv_pool is not None
        passes = both.cloud.passes - passes_alone
    assert target.kv_pool.free_bytes == target.kv_pool.bytes
    return Compared(alone, [text.token_ids for text in together], passes_alone, passes)


@contextmanager
def long_passes(target: LanguageModel) -> Iterator[None]:
    """Hold every pass so long that all drafts come in line meanwhile, as a large model's would."""
    extend_batch = target.extend_batch

    def held(requests: Sequence[ExtendRequest]) -> list[Extended]:
        time.sleep(LONG_PASS_S)
        return extend_batch(requests)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, "extend_batch", held)
        yield


def running(target: LanguageModel, draft: LanguageModel, settings: CloudSettings | None = None) -> Any:
    """Both daemons around the two models."""
    return loopback(target, draft, draft.vocabulary, cloud_settings=settings)  # type: ignore[arg-type]


async def test_in_float64_three_sessions_at_once_get_the_texts_they_get_alone() -> None:
    """The short twin: token for token."""
    texts = await both_ways("float64", requests(3, 10))

    assert texts.together == texts.alone
    assert texts.passes_together < texts.passes_alone


@pytest.mark.slow
async def test_in_float64_eight_sessions_at_once_get_the_texts_they_get_alone() -> None:
    """Four schemes, prompts and lengths of all kinds: token for token."""
    texts = await both_ways("float64", requests(SESSIONS, 20))

    assert texts.together == texts.alone
    assert texts.passes_together < texts.passes_alone / 2


@pytest.mark.slow
async def test_in_float32_a_text_differs_only_behind_a_close_decision(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Rounds with a margin below 1e-4 are logged, and without such a round texts are equal."""
    caplog.set_level(logging.INFO, logger="thinwire.cloud.live_session")
    texts = await both_ways("float32", requests(SESSIONS, 20))
    close = [found for record in caplog.records if (found := _CLOSE.match(record.getMessage()))]
    differing = sum(one != other for one, other in zip(texts.together, texts.alone, strict=True))

    assert all(float(found[3]) < CLOSE_DECISION_MARGIN for found in close)
    assert differing <= len({found[1] for found in close})


async def test_pool_memory_returns_after_close_and_after_expiry() -> None:
    """The same pages, seen in the pool: held while a session is there, free when it is closed or expired."""
    target, draft = models("float32")
    pool = target.kv_pool
    assert pool is not None
    async with running(target, draft, CloudSettings(resume_ttl_s=0.2)) as both:
        await generate(both.client, make_request(PROMPTS[1], max_tokens=5))
        free = [await settled(both, pool.bytes, target)]
        events = both.client.events(make_request(PROMPTS[1], max_tokens=500, ignore_eos=True))
        for _ in range(3):
            await anext(events)
        held = pool.bytes - pool.free_bytes
        await both.edge.stop(0)  # its stream is torn, and the session expires
        with pytest.raises(Exception):  # noqa: B017, PT011 - however the edge's end looks to its client
            async for _ in events:
                pass
        free.append(await settled(both, pool.bytes, target))

    assert 0 < held <= 8 * PAGE_TOKENS * pool.token_bytes
    assert free == [pool.bytes, pool.bytes]


async def settled(both: Loopback, expected: int, target: LanguageModel) -> int:
    """Free bytes of the pool, once all sessions are over and their caches closed; within ten seconds."""
    assert target.kv_pool is not None
    async with asyncio.timeout(10):
        while both.cloud.sessions or target.kv_pool.free_bytes != expected:
            await asyncio.sleep(0.02)
    return target.kv_pool.free_bytes
