"""The length of a block follows what was accepted: a misfit draft costs next to nothing in the end."""

from __future__ import annotations

import pytest

from fakes import TableVocabulary, random_law
from loopback import WatchedModel, generate, loopback, make_request

SIZE = 8
VOCABULARY = TableVocabulary(SIZE)
TARGET = random_law(SIZE, 1)


def misfit(prefix: tuple[int, ...]) -> object:
    """Sure of the id that the target finds least likely."""
    law = TARGET(prefix)
    wrong = law * 0
    wrong[law.argmin()] = 1.0
    return wrong


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("scheme", ["k-sqs", "c-sqs", "dense-qs"])
async def test_a_misfit_draft_fades(scheme: str, temperature: float) -> None:
    """Some 30 drafted tokens, and then one in sixteen."""
    target, draft = WatchedModel(TARGET, context_length=512), WatchedModel(misfit, context_length=512)
    request = make_request(scheme=scheme, temperature=temperature, max_tokens=200)
    async with loopback(target, draft, VOCABULARY) as both:
        done = await generate(both.client, request)
        asked = await generate(
            both.client, make_request(scheme=scheme, max_tokens=200, min_block_acceptance=0.0)
        )
    statistics = done.finished.statistics

    assert statistics.tested_tokens <= 60
    assert statistics.drafted_tokens <= 120
    assert asked.finished.statistics.drafted_tokens > 600  # a fixed length is what was asked for


async def test_a_good_draft_keeps_its_length() -> None:
    """Nothing is cut where nearly all is accepted."""
    models = WatchedModel(TARGET, context_length=512), WatchedModel(TARGET, context_length=512)
    request = make_request(scheme="dense-qs", max_tokens=200, min_block_acceptance=1e-6)
    async with loopback(*models, VOCABULARY) as both:
        done = await generate(both.client, request)
    statistics = done.finished.statistics

    assert statistics.drafted_tokens / statistics.rounds > 5.5
