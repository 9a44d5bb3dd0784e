"""Many sessions in shared passes over real gRPC: each gets what it gets alone, and the bounds hold."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fakes import Prefix, TableModel, scheme_with
from loopback import WatchedModel, generate, loopback, make_request
from thinwire.cloud.batch_queue import PREFILL_CHUNK_TOKENS
from thinwire.cloud.settings import CloudSettings
from thinwire.common import wire
from thinwire.common.causal_model import Extended, ExtendRequest
from thinwire.common.errors import NonFiniteLogitsError, PayloadInvalidError, ResourceExhaustedError
from thinwire.common.schemes import scheme_names
from thinwire.common.session.messages import Opened
from verify_peer import (
    DRAFT,
    SIZE,
    TARGET,
    VOCABULARY,
    EdgeText,
    RunningCloud,
    VerifyPeer,
    running_cloud,
    whole_text,
)

GATE_S = 10.0
"""A pass that a test forgot goes on by then."""


class SteppedModel(WatchedModel):
    """A table model each of whose passes waits, in the model's thread, until it is let go on."""

    def __init__(self, law: Any = TARGET) -> None:
        super().__init__(law, vocabulary_size=SIZE, context_length=4096)
        self._entered = threading.Semaphore(0)
        self._turns = threading.Semaphore(0)
        self._free = False

    def extend_batch(self, requests: Sequence[ExtendRequest]) -> list[Extended]:
        """Once it is its turn."""
        self._entered.release()
        if not self._free:
            assert self._turns.acquire(timeout=GATE_S), "nobody let the pass go on"
        return super().extend_batch(requests)

    async def entered(self) -> None:
        """Wait until the next pass stands at the gate."""
        assert await asyncio.to_thread(self._entered.acquire, timeout=GATE_S), "no pass came"

    def go_on(self) -> None:
        """Let the pass at the gate go on."""
        self._turns.release()

    def open(self) -> None:
        """Let every pass go on, now and later."""
        self._free = True
        self._turns.release()


class CrampedModel(TableModel):
    """A table model whose sequences share a cache of `room` tokens."""

    def __init__(self, room: int) -> None:
        super().__init__(TARGET, context_length=4096)
        self.room = room
        self._held: dict[int, int] = {}

    @property
    def held(self) -> int:
        """Tokens that open sequences hold."""
        return sum(self._held.values())

    def open_sequence(self, *, reserve_tokens: int = 0) -> Any:
        """A new sequence, if there is room for what is reserved."""
        self._hold(-1, reserve_tokens)
        self._held.pop(-1)
        sequence = super().open_sequence()
        self._held[id(sequence)] = reserve_tokens
        close = sequence.close

        def close_and_free() -> None:
            self._held.pop(id(sequence))
            close()

        sequence.close = close_and_free  # type: ignore[method-assign]
        return sequence

    def extend_batch(self, requests: Sequence[ExtendRequest]) -> list[Extended]:
        """Each where there is room for it."""
        answers: list[Extended] = []
        for request in requests:
            key = id(request.sequence)
            try:
                self._hold(key, max(self._held[key], request.sequence.length + len(request.token_ids)))
                answers += super().extend_batch([request])
            except ResourceExhaustedError as error:
                answers.append(error)
        return answers

    def _hold(self, key: int, tokens: int) -> None:
        before = self._held.get(key, 0)
        if self.held - before + tokens > self.room:
            raise ResourceExhaustedError(f"{tokens} tokens; expected at most {self.room - self.held}.")
        self._held[key] = tokens


async def arrived(cloud: RunningCloud) -> None:
    """All that was said to the cloud before is there by now."""
    await wire.VerifierStub(cloud.channel).GetServerInfo(wire.server_info_request(), timeout=5)


async def lone_text(text: EdgeText, rounds: int, *, length: int = 2) -> tuple[int, ...]:
    """The text as a cloud of its own gives it."""
    async with running_cloud(TableModel(TARGET, context_length=4096)) as cloud:
        return await whole_text(cloud, text, rounds, length=length)


async def resumed(cloud: RunningCloud, text: EdgeText, opened: Opened, former: VerifyPeer) -> VerifyPeer:
    """A new stream of the same session."""
    peer = cloud.stream()
    peer.follow(former)
    await peer.say(text.resuming(opened))
    assert isinstance(await peer.hear(), Opened)
    return peer


# --- the same as alone --------------------------------------------------------------------------------------


def various_texts() -> list[tuple[EdgeText, int]]:
    """Eight sessions with their draft lengths: every scheme, prompts of 2 to 400 tokens."""
    prompts = [tuple((3 * n + m) % SIZE for m in range(length)) for n, length in enumerate(PROMPT_LENGTHS)]
    names = [*scheme_names(), *scheme_names()]
    return [
        (
            EdgeText(prompt, scheme=scheme_with(name, lattice_resolution=20, support_size=3), seed=seed),
            (4, 1, 0, 8, 2, 5, 3, 6)[seed],
        )
        for seed, (prompt, name) in enumerate(zip(prompts, names, strict=False))
    ]


PROMPT_LENGTHS = (2, 400, 7, 31, 300, 3, 90, 12)


async def test_eight_sessions_in_shared_passes_get_the_texts_they_get_alone() -> None:
    """Different schemes, prompts and block lengths, tokens equal one by one; and the passes were shared."""
    model = SteppedModel()
    async with running_cloud(model) as cloud:
        texts = various_texts()
        first, _ = await cloud.opened(EdgeText((0, 1)))
        await model.entered()
        running = [asyncio.ensure_future(whole_text(cloud, text, 8, length=length)) for text, length in texts]
        while cloud.server.sessions < 9:
            await arrived(cloud)
        model.open()
        together = await asyncio.gather(*running)
        await first.closed()

    alone = [await lone_text(text, 8, length=length) for text, length in various_texts()]
    assert together == alone
    assert max(len(batch) for batch in model.batches) >= 3
    assert max(sum(batch) for batch in model.batches) <= CloudSettings().max_batch_tokens
    assert sum(len(batch) for batch in model.batches) > len(model.batches) + 8


async def test_one_by_one_is_a_setting() -> None:
    """With one sequence a pass the texts are the same, and no pass is shared."""
    model = TableModel(TARGET, context_length=4096)
    settings = CloudSettings(max_batch_sequences=1, allow_dense_f16=True)
    async with running_cloud(model, settings) as cloud:
        together = await asyncio.gather(
            *(whole_text(cloud, text, 4, length=length) for text, length in various_texts())
        )

    assert together == [await lone_text(text, 4, length=length) for text, length in various_texts()]
    assert {len(batch) for batch in model.batches} == {1}


# --- one pass after the other -------------------------------------------------------------------------------


async def test_a_long_prompt_does_not_stall_the_rounds_of_others() -> None:
    """While a prompt of six pieces is fed, every round that comes is in the next pass, beside one piece."""
    chunk = PREFILL_CHUNK_TOKENS
    model = SteppedModel()
    async with running_cloud(model) as cloud:
        long, _ = await cloud.opened(EdgeText(tuple(n % SIZE for n in range(6 * chunk + 1))))
        await model.entered()
        texts = [EdgeText((1,)), EdgeText((2,))]
        peers = [(await cloud.opened(text))[0] for text in texts]
        for _ in range(3):
            for peer, text in zip(peers, texts, strict=True):
                await peer.say(text.block(2))
            await arrived(cloud)
            model.go_on()  # a piece of the prompt, alone
            await model.entered()
            model.go_on()  # the next piece, and both rounds
            for peer, text in zip(peers, texts, strict=True):
                text.take(await peer.hear())
            if len(model.batches) < 6:
                await model.entered()
        model.open()
        for peer in (*peers, long):
            await peer.closed()

    assert [sorted(batch) for batch in model.batches[:6]] == [[chunk], [3, 3, chunk]] * 3


async def test_a_lone_session_never_waits_for_company() -> None:
    """Its pieces and rounds are passes of their own, as many as there are."""
    model = TableModel(TARGET, context_length=4096)
    async with running_cloud(model) as cloud:
        await whole_text(cloud, EdgeText(tuple(n % SIZE for n in range(301))), 3)
        passes = cloud.server.passes

    assert model.batches == [[256], [44], [3], [3], [3]]
    assert passes == 5


# --- one session's failure ----------------------------------------------------------------------------------


async def test_nan_in_one_row_ends_one_session() -> None:
    """Three rounds share a pass; the one whose law is NaN is refused, the others get their verdicts."""

    def law(prefix: Prefix) -> npt.NDArray[Any]:
        return np.full(SIZE, np.nan) if prefix[0] == 5 else TARGET(prefix)

    model = SteppedModel(law)
    async with running_cloud(model) as cloud:
        holding, _ = await cloud.opened(EdgeText((0, 1)))
        await model.entered()
        texts = [EdgeText((1,)), EdgeText((5,)), EdgeText((2,))]
        peers = [(await cloud.opened(text))[0] for text in texts]
        for peer, text in zip(peers, texts, strict=True):
            await peer.say(text.block(2))
        await arrived(cloud)
        model.open()
        error = await peers[1].refusal()
        for n in (0, 2):
            texts[n].take(await peers[n].hear())
            await peers[n].closed()
        await holding.closed()

    assert model.batches[1] == [3, 3, 3]
    assert error.status == "INTERNAL"
    assert error.reason == NonFiniteLogitsError.reason
    assert texts[0].committed == await lone_text(EdgeText((1,)), 1)
    assert texts[2].committed == await lone_text(EdgeText((2,)), 1)


async def test_a_payload_that_cannot_be_decoded_ends_one_session() -> None:
    """The blocks that came with it are decoded and verified."""
    model = SteppedModel()
    async with running_cloud(model) as cloud:
        holding, _ = await cloud.opened(EdgeText((0, 1)))
        await model.entered()
        texts = [EdgeText((1,)), EdgeText((2,))]
        peers = [(await cloud.opened(text))[0] for text in texts]
        bad = texts[1].block(2)
        await peers[1].say(texts[1].sealed(bad, payload=bad.payload + b"\0"))
        await peers[0].say(texts[0].block(2))
        await arrived(cloud)
        model.open()
        error = await peers[1].refusal()
        texts[0].take(await peers[0].hear())
        await peers[0].closed()
        await holding.closed()

    assert type(error) is PayloadInvalidError
    assert texts[0].committed == await lone_text(EdgeText((1,)), 1)


# --- the bounds ---------------------------------------------------------------------------------------------


async def test_a_round_too_many_in_line_is_refused_for_now_and_may_come_again() -> None:
    """RESOURCE_EXHAUSTED with a pause; the session is kept, and the same bytes then get the lone verdict."""
    model = SteppedModel()
    async with running_cloud(model, CloudSettings(max_queued_rounds=1)) as cloud:
        holding, _ = await cloud.opened(EdgeText((0, 1)))
        await model.entered()
        texts = [EdgeText((1,)), EdgeText((2,))]
        peers, opens = [], []
        for text in texts:
            peer, opened = await cloud.opened(text)
            peers.append(peer)
            opens.append(opened)
            await peer.say(text.block(3))
            await arrived(cloud)
        model.open()
        error = await peers[1].refusal()
        texts[0].take(await peers[0].hear())
        peers[1] = await resumed(cloud, texts[1], opens[1], peers[1])
        await peers[1].say(texts[1].block(3))
        texts[1].take(await peers[1].hear())
        for peer in (*peers, holding):
            await peer.closed()

    assert type(error) is ResourceExhaustedError
    assert error.retry_after_s == 1.0
    assert error.message == "1 rounds wait for the target model; expected fewer than 1."
    assert texts[1].committed == await lone_text(EdgeText((2,)), 1, length=3)
    assert model.open_sequences == 0


async def test_an_open_without_room_for_its_prompt_is_refused_and_finds_it_later() -> None:
    """The memory of a closed session is there again for the next one; the refused one held nothing."""
    model = CrampedModel(room=50)
    async with running_cloud(model) as cloud:
        first, _ = await cloud.opened(EdgeText((1,) * 40))
        late = cloud.stream()
        await late.say(EdgeText((2,) * 11).open)
        error = await late.refusal()
        sessions, held = cloud.server.sessions, model.held
        await first.closed()
        await arrived(cloud)
        text = await whole_text(cloud, EdgeText((2,) * 11), 2)

    assert type(error) is ResourceExhaustedError
    assert (sessions, held) == (1, 40)
    assert text == await lone_text(EdgeText((2,) * 11), 2)
    assert (model.held, model.open_sequences) == (0, 0)


async def test_a_round_without_room_is_refused_and_its_session_makes_room_for_the_others() -> None:
    """Nobody waits for memory that nobody gives back: the oldest session without a stream is ended."""
    model = CrampedModel(room=24)
    async with running_cloud(model) as cloud:
        texts = [EdgeText((1,) * 10), EdgeText((2,) * 10)]
        peers = [(await cloud.opened(text))[0] for text in texts]
        await peers[0].say(texts[0].block(4))
        texts[0].take(await peers[0].hear())
        await peers[1].say(texts[1].block(4))
        error = await peers[1].refusal()
        await arrived(cloud)
        for _ in range(2):
            await peers[0].say(texts[0].block(3))
            texts[0].take(await peers[0].hear())
        await peers[0].closed()
        while model.held:  # the model's thread gives the memory back, behind the answer
            await asyncio.sleep(0.01)
        # Whoever was refused opens again from what is committed, here the prompt.
        again = await whole_text(cloud, EdgeText((2,) * 10), 1, length=4)

    assert type(error) is ResourceExhaustedError
    assert error.retry_after_s > 0
    assert len(texts[0].committed) > 12
    assert again == await lone_text(EdgeText((2,) * 10), 1, length=4)
    assert model.held == 0


async def test_two_texts_that_do_not_fit_together_both_come_whole() -> None:
    """Real edges: the one without room waits, opens again from what is committed, and is as if alone."""
    asked = [make_request("a", seed=seed, max_tokens=60) for seed in (1, 2)]
    async with loopback(
        TableModel(TARGET, context_length=512), TableModel(DRAFT, context_length=512), VOCABULARY
    ) as both:
        alone = [await generate(both.client, request) for request in asked]
    model = CrampedModel(room=80)
    draft = TableModel(DRAFT, context_length=512)
    async with loopback(model, draft, VOCABULARY) as both:
        together = await asyncio.gather(*(generate(both.client, request) for request in asked))
        while both.cloud.sessions:
            await asyncio.sleep(0.01)

    assert [text.token_ids for text in together] == [text.token_ids for text in alone]
    assert sum(text.finished.statistics.reconnects for text in together) > 0
    assert model.held == 0
