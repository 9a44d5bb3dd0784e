"""
The bundled pair with a target that writes by itself: one text a seed, whatever drafts, over whatever link.

The text is held against its definition, made here without any session: the races of the target, one by one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

import torch_device
from faults.storm import FaultyLink
from loopback import CuttableLink, loopback, make_request
from thinwire.cloud.settings import CloudSettings
from thinwire.common import demo_pair
from thinwire.common.language_model import LanguageModel
from thinwire.common.law.distributions import warp
from thinwire.common.law.random_streams import KeyedDraws, Stream
from thinwire.common.session.generation import GenerationRequest
from thinwire.edge.settings import EdgeSettings

pytestmark = pytest.mark.skipif(
    not (demo_pair.target_path() / "model.safetensors").exists(), reason="the bundled pair is not here"
)

PROMPTS = ("def is_prime(n):", "class Queue:\n    def __init__(self, items):\n        ")
_CLOSE = re.compile(r"session (\w+) round (\d+): decision margin (\S+)")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the same text."""

    draft: str = "draft"
    delay_s: float = 0.0
    cuts: int = 0
    resume_ttl_s: float = 30.0
    copies: bool = True
    changes: tuple[tuple[str, object], ...] = ()
    """Of the request, none of which may change its text."""


WAYS = {
    "as it comes": Way(),
    "another draft model": Way(draft="target"),
    "without a draft": Way(changes=(("draft_length", 0),)),
    "without a draft or copies": Way(changes=(("draft_length", 0),), copies=False),
    "long guesses": Way(changes=(("draft_length", 16), ("min_block_acceptance", 0.0))),
    "over a slow link": Way(delay_s=0.08),
    "few passes": Way(changes=(("objective", "cloud"),)),
    "in rounds": Way(changes=(("lock_step", True),)),
    "after cuts": Way(cuts=3),
    "after cuts that cost the session": Way(cuts=3, resume_ttl_s=0.01),
}


@cache
def model(which: str, dtype: str) -> LanguageModel:
    """The bundled target or draft."""
    path = demo_pair.target_path() if which == "target" else demo_pair.draft_path()
    loaded = torch_device.load_on_device(str(path), dtype=dtype)
    if which == "target":
        loaded.pool_sequences(sessions=4)
    return loaded


def asked(count: int, tokens: int, way: Way) -> list[GenerationRequest]:
    """Greedy and sampled texts of different seeds."""
    return [
        make_request(
            PROMPTS[n % len(PROMPTS)],
            scheme="coupled",
            seed=40 + n,
            temperature=(0.0, 0.6, 1.0, 0.3)[n % 4],
            max_tokens=tokens,
            ignore_eos=True,
            **dict(way.changes),
        )
        for n in range(count)
    ]


@cache
def by_definition(number: int, tokens: int, dtype: str) -> tuple[int, ...]:
    """Each token wins the race at its position, with the target's law for weights; one token a pass."""
    request, target = asked(number + 1, tokens, Way())[number], model("target", dtype)
    prefix = tuple(target.vocabulary.encode(request.prompt))
    draws, sequence, ids = KeyedDraws(request.seed), target.open_sequence(), []
    feed: Sequence[int] = prefix
    for position in range(len(prefix), len(prefix) + tokens):
        row = warp(np.asarray(sequence.extend(feed, logit_rows=1)[0]), request.sampling)
        ids.append(draws.race(Stream.COUPLED, position, row)[0])
        feed = ids[-1:]
    sequence.close()
    return tuple(ids)


async def texts(way: Way, dtype: str, count: int, tokens: int) -> list[tuple[int, ...]]:
    """The texts that this way leads to; each is cut as often as it says."""
    target, draft = await asyncio.to_thread(lambda: (model("target", dtype), model(way.draft, dtype)))
    link = FaultyLink(way.delay_s) if way.delay_s else CuttableLink()
    made = []
    async with loopback(
        target,
        draft,
        draft.vocabulary,  # type: ignore[arg-type]
        proxy=link,
        cloud_settings=CloudSettings(resume_ttl_s=way.resume_ttl_s, no_copied_hints=not way.copies),
        edge_settings=EdgeSettings(backoff_s=0.05),
    ) as both:
        for request in asked(count, tokens, way):
            ids, cuts, chance = [], 0, random.Random(request.seed)
            cut_at = sorted(chance.sample(range(1, tokens - 1), way.cuts))
            async for event in both.client.events(request):
                if isinstance(event, tuple):
                    ids += [token.token_id for token in event]
                    if cuts < way.cuts and len(ids) > cut_at[cuts]:
                        cuts += 1
                        link.cut()
            made.append(tuple(ids))
    return made


@pytest.mark.parametrize("way", WAYS)
async def test_in_float64_every_way_leads_to_the_text_of_the_targets_races(way: str) -> None:
    """Token for token, greedy and sampled."""
    made = await texts(WAYS[way], "float64", 2, 32)

    assert made == [by_definition(n, 32, "float64") for n in range(2)]


async def test_close_decisions_are_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The count below has eyes: with a wider margin for close, steps of these texts are logged as close."""
    caplog.set_level(logging.INFO, logger="thinwire.cloud.live_session")
    monkeypatch.setattr("thinwire.cloud.live_session.CLOSE_DECISION_MARGIN", 0.05)
    await texts(WAYS["as it comes"], "float32", 2, 32)

    assert any(_CLOSE.match(record.getMessage()) for record in caplog.records)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
async def test_in_float32_a_text_differs_only_behind_a_close_decision(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Passes of other lengths move logits by some 1e-7; steps won by less than 1e-4 are counted."""
    caplog.set_level(logging.INFO, logger="thinwire.cloud.live_session")
    made = await texts(WAYS[way], "float32", 8, 96)
    close = sum(1 for record in caplog.records if _CLOSE.match(record.getMessage()))
    differing = sum(text != by_definition(n, 96, "float32") for n, text in enumerate(made))
    print(f"{way}: {differing} of 8 texts differ, {close} steps with a margin below 1e-4 of {8 * 96}")

    assert differing <= close
