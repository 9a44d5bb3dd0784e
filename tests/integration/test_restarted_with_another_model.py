"""A cloud that is restarted in mid-text: the edge goes on with the same target and with no other."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy.typing as npt
import pytest

from fakes import Law, Prefix, TableVocabulary, random_law
from loopback import WatchedModel, generate, loopback, make_request
from thinwire.cloud.daemon import CloudServer
from thinwire.common.causal_model import ServedModel
from thinwire.common.errors import TargetChangedError
from thinwire.common.session.generation import GenerationFinished, GenerationRequest
from thinwire.edge.client import AsyncClient

SIZE = 8
CONTEXT_LENGTH = 256
VOCABULARY = TableVocabulary(SIZE)
REQUEST = make_request(seed=4, max_tokens=120)
WAIT_S = 20.0


class HaltingLaw:
    """A law that waits at a length until it is told to go on."""

    def __init__(self, law: Law, length: int) -> None:
        self._law = law
        self._length = length
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, prefix: Prefix) -> npt.NDArray[Any]:
        """(V,) probabilities."""
        if len(prefix) >= self._length:
            self.reached.set()
            assert self.go_on.wait(WAIT_S), "nobody said to go on"
        return self._law(prefix)


def table(law: Law) -> WatchedModel:
    """A model of it."""
    return WatchedModel(law, vocabulary_size=SIZE, context_length=CONTEXT_LENGTH)


async def collect(client: AsyncClient, request: GenerationRequest, tokens: list[int]) -> GenerationFinished:
    """The text's tokens go to `tokens` as they come."""
    async for event in client.events(request):
        if isinstance(event, tuple):
            tokens.extend(token.token_id for token in event)
        elif isinstance(event, GenerationFinished):
            return event
    raise AssertionError("the text ended without its last event")


async def restarted_in_mid_text(law: Law, fingerprint: bytes, tokens: list[int]) -> GenerationFinished:
    """A text whose cloud, with the target of seed 1, dies at length 40 and comes back with this one."""
    halting = HaltingLaw(random_law(SIZE, 1), 40)
    async with loopback(
        table(halting), table(random_law(SIZE, 2)), VOCABULARY, fingerprint=b"target 1"
    ) as both:
        text = asyncio.create_task(collect(both.client, REQUEST, tokens))
        assert await asyncio.to_thread(halting.reached.wait, WAIT_S)
        dying = asyncio.create_task(both.cloud.stop(0))
        halting.go_on.set()
        await dying
        second = CloudServer(ServedModel(model=table(law), vocabulary=VOCABULARY, fingerprint=fingerprint))
        await second.start(both.cloud_address)
        try:
            return await text
        finally:
            await second.stop(0)


async def undisturbed() -> tuple[int, ...]:
    """The ids of the text with the target of seed 1."""
    async with loopback(table(random_law(SIZE, 1)), table(random_law(SIZE, 2)), VOCABULARY) as free:
        return (await generate(free.client, REQUEST)).token_ids


async def test_another_target_ends_the_text_and_what_was_emitted_stands() -> None:
    """FAILED_PRECONDITION with both fingerprints; the tokens are the beginning of the undisturbed text."""
    tokens: list[int] = []
    with pytest.raises(TargetChangedError) as caught:
        await restarted_in_mid_text(random_law(SIZE, 3), b"target 3", tokens)
    whole = await undisturbed()

    assert caught.value.message == (
        f"the cloud's target model has the fingerprint {b'target 3'.hex()}; expected {b'target 1'.hex()}, "
        "with which this text began: it cannot go on with another model."
    )
    assert 20 < len(tokens) < len(whole)
    assert tuple(tokens) == whole[: len(tokens)]


async def test_the_same_target_goes_on_as_if_nothing_had_been() -> None:
    """One rebuild, and the undisturbed text."""
    tokens: list[int] = []
    finished = await restarted_in_mid_text(random_law(SIZE, 1), b"target 1", tokens)

    assert finished.statistics.rebuilds == 1
    assert tuple(tokens) == await undisturbed()
