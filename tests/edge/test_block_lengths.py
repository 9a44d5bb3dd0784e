"""The length of a block follows what was accepted: a misfit draft costs next to nothing in the end."""

from __future__ import annotations

import numpy as np
import pytest

from fakes import TableVocabulary, random_law
from loopback import WatchedModel, generate, loopback, make_request
from thinwire.cloud.settings import CloudSettings
from thinwire.common.session.statistics import RoundMeasured

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


class Lengths:
    """A round log that keeps the lengths of the blocks."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def round_measured(self, measured: RoundMeasured) -> None:
        """One more."""
        self.lengths.append(measured.draft_length)

    def generation_finished(self, *_: object, **__: object) -> None:
        """Nothing to keep."""


@pytest.mark.parametrize(("scheme", "tried", "fades"), [("k-sqs", 10, 32), ("dense-f16", 1, 16)])
async def test_a_faded_draft_is_tried_less_where_a_token_is_many_bytes(
    scheme: str, tried: int, fades: int
) -> None:
    """
    128 tokens after the draft has faded: once in 16, or once for 30 bytes of a payload that a token may have.

    At 1024 ids a token of dense-f16 has 2 kB, and is worth 69 empty rounds; it fades in half the time too.
    """
    size, log = 1024, Lengths()
    wrong = np.eye(size)[1]
    target = WatchedModel(lambda _: np.eye(size)[0], context_length=512)
    draft = WatchedModel(lambda _: wrong, context_length=512)
    served = CloudSettings(allow_dense_f16=True)
    async with loopback(target, draft, TableVocabulary(size), round_log=log, cloud_settings=served) as both:
        await generate(both.client, make_request(scheme=scheme, temperature=0.0, max_tokens=160))
    faded = log.lengths[log.lengths.index(0) :]

    assert log.lengths.index(0) <= fades
    assert sum(faded[:128]) <= tried
    assert sum(faded[:128]) >= tried // 2
