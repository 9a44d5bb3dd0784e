"""Scheme `coupled` over gRPC: one text a seed, whatever is drafted and whatever the link does."""

from __future__ import annotations

import pytest

from fakes import Law, TableVocabulary, random_law
from loopback import CuttableLink, WatchedModel, generate, loopback, make_request
from thinwire.cloud.settings import CloudSettings
from thinwire.common.law.random_streams import KeyedDraws, Stream
from thinwire.common.session.messages import TokenKind
from thinwire.edge.settings import EdgeSettings

SIZE = 8
VOCABULARY = TableVocabulary(SIZE)
TARGET = random_law(SIZE, 1)


def own_text(seed: int, count: int) -> tuple[int, ...]:
    """The text by its definition: each token wins the coupled race at its position, with weights p."""
    draws, prefix = KeyedDraws(seed), (0,)
    for _ in range(count):
        prefix = (*prefix, draws.race(Stream.COUPLED, len(prefix), TARGET(prefix))[0])
    return prefix[1:]


@pytest.mark.parametrize("draft", [TARGET, random_law(SIZE, 2), random_law(SIZE, 3)])
@pytest.mark.parametrize("length", [0, 6, 9])
@pytest.mark.parametrize("lock_step", [False, True])
async def test_every_draft_and_none_gives_the_text_of_the_targets_races(
    draft: Law, length: int, lock_step: bool
) -> None:
    """In rounds or free-running; a draft that is the target itself is never wrong."""
    target = WatchedModel(TARGET)
    request = make_request(scheme="coupled", lock_step=lock_step, seed=5, max_tokens=60, draft_length=length)
    cloud, edge = CloudSettings(no_copied_hints=True), EdgeSettings(no_copied_hints=True)
    async with loopback(
        target, WatchedModel(draft), VOCABULARY, cloud_settings=cloud, edge_settings=edge
    ) as both:
        done = await generate(both.client, request)
        assert await target.freed_within(5)
    statistics = done.finished.statistics

    assert done.token_ids == own_text(5, 60)
    assert statistics.output_tokens == 60
    assert statistics.rounds + statistics.accepted_tokens == 60
    if draft is TARGET:
        assert TokenKind.RESAMPLED not in {token.kind for token in done.tokens}
        assert statistics.accepted_tokens == statistics.tested_tokens


@pytest.mark.parametrize("lock_step", [False, True])
@pytest.mark.parametrize("resume_ttl_s", [0.01, 30.0])
async def test_a_link_that_is_cut_leaves_the_text_alone(lock_step: bool, resume_ttl_s: float) -> None:
    """Cut twice, for longer than the cloud keeps a session or shorter: it is opened anew, or resumed."""
    link = CuttableLink()
    request = make_request(scheme="coupled", lock_step=lock_step, seed=5, max_tokens=600)
    tokens, finished, cuts = [], None, 0
    async with loopback(
        WatchedModel(TARGET, context_length=1024),
        WatchedModel(random_law(SIZE, 2), context_length=1024),
        VOCABULARY,
        proxy=link,
        edge_settings=EdgeSettings(backoff_s=0.3),
        cloud_settings=CloudSettings(resume_ttl_s=resume_ttl_s),
    ) as both:
        async for event in both.client.events(request):
            if isinstance(event, tuple):
                tokens += event
                if len(tokens) > 100 * (cuts + 1) and cuts < 2:
                    cuts += 1
                    link.cut()
            finished = event

    assert tuple(token.token_id for token in tokens) == own_text(5, 600)
    assert finished.statistics.reconnects == 2
    assert (finished.statistics.rebuilds == 2) is (resume_ttl_s < 1)
