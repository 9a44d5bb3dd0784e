"""Texts that an edge's drain cuts: their clients and the log learn why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from fakes import TableVocabulary, random_table
from loopback import WatchedModel, generate, loopback, make_request
from thinwire.common.errors import TransportError
from thinwire.common.session.generation import GenerationEvent

SIZE = 6
VOCABULARY = TableVocabulary(SIZE)
LAW = random_table(3, SIZE, zeros=False)
PATIENCE_S = 20.0


def model() -> WatchedModel:
    """A small table with room for a text that outlives the test."""
    return WatchedModel(LAW, context_length=100_000)


async def to_the_end(events: AsyncIterator[GenerationEvent]) -> None:
    """Take what is left."""
    async for _ in events:
        pass


@pytest.mark.parametrize("grace_s", [0.0, 0.2])
async def test_a_text_that_the_drain_cuts_is_unavailable_with_the_reason(
    grace_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Its client may go to another edge; CANCELLED would say that it had wanted so itself."""
    draft, target = model(), model()
    caplog.set_level(logging.INFO)
    async with loopback(target, draft, VOCABULARY) as both:
        events = both.client.events(make_request(max_tokens=90_000))
        await anext(events)
        await anext(events)
        stopping = asyncio.create_task(both.edge.stop(grace_s))
        with pytest.raises(TransportError) as cut:
            await asyncio.wait_for(to_the_end(events), PATIENCE_S)
        await stopping

        assert "this edge stops and cut the text; expected another edge" in cut.value.message
        assert cut.value.reason == "LINK"
        assert await target.freed_within(PATIENCE_S)
        assert await draft.freed_within(PATIENCE_S)
    (fields,) = (r.fields for r in caplog.records if r.getMessage() == "generation ended")  # type: ignore[attr-defined]
    assert (fields["reason"], fields["error"]) == ("error", "LINK")
    assert "this edge stops" in fields["failure"]
    assert not any(record.exc_info for record in caplog.records)


async def test_a_text_that_ends_within_the_grace_is_whole() -> None:
    """Nothing is cut before."""
    async with loopback(model(), model(), VOCABULARY) as both:
        text = asyncio.create_task(generate(both.client, make_request(max_tokens=30)))
        async with asyncio.timeout(PATIENCE_S):
            while not both.edge.running:
                await asyncio.sleep(0.01)
        await both.edge.stop(PATIENCE_S)

        assert len((await text).tokens) == 30
