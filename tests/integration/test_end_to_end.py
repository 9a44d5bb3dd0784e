"""Two real daemons with table models, over gRPC on ephemeral ports."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fakes import TableVocabulary, random_table
from loopback import CuttableLink, WatchedModel, generate, loopback, make_request, unchecked
from thinwire.cloud.settings import CloudSettings
from thinwire.common.causal_model import ServedModel
from thinwire.common.errors import ResourceExhaustedError, TransportError
from thinwire.common.schemes import scheme_names
from thinwire.common.session.messages import FinishReason, TokenKind
from thinwire.edge.client import connect
from thinwire.edge.daemon import EdgeServer
from thinwire.edge.settings import EdgeSettings
from thinwire.edge.telemetry import RoundLog

SIZE = 8
VOCABULARY = TableVocabulary(SIZE)
TARGET = random_table(1, SIZE, zeros=False)
DRAFT = random_table(2, SIZE, zeros=False)
ALL_SCHEMES = CloudSettings(allow_dense_f16=True)


def models(context_length: int = 512) -> tuple[WatchedModel, WatchedModel]:
    """(target, draft)."""
    return (
        WatchedModel(TARGET, context_length=context_length),
        WatchedModel(DRAFT, context_length=context_length),
    )


def argmax_text(prompt: tuple[int, ...], count: int) -> tuple[int, ...]:
    """The target's greedy continuation, ties to the smaller id."""
    prefix = prompt
    for _ in range(count):
        prefix = (*prefix, int(np.argmax(TARGET(prefix))))
    return prefix[len(prompt) :]


@pytest.mark.parametrize("scheme", scheme_names())
async def test_a_greedy_text_is_the_targets_argmax_text(scheme: str) -> None:
    """At temperature 0 every scheme gives the target's own greedy text, token for token."""
    async with loopback(*models(), VOCABULARY, cloud_settings=ALL_SCHEMES) as both:
        done = await generate(both.client, make_request(scheme=scheme, temperature=0.0, max_tokens=60))

    assert done.token_ids == argmax_text((0,), 60)
    assert done.reason is FinishReason.LENGTH


@pytest.mark.parametrize("scheme", scheme_names())
async def test_the_same_seed_gives_the_same_text(scheme: str) -> None:
    """A text is a function of prompt, parameters and seed; fresh bits differ."""
    async with loopback(*models(), VOCABULARY, cloud_settings=ALL_SCHEMES) as both:
        first = await generate(both.client, make_request(scheme=scheme, seed=7, max_tokens=50))
        again = await generate(both.client, make_request(scheme=scheme, seed=7, max_tokens=50))
        fresh = [
            await generate(both.client, unchecked(make_request(max_tokens=50), seed=None)) for _ in range(2)
        ]

    assert first.token_ids == again.token_ids
    assert first.text == again.text
    if scheme != "coupled":  # where a cloud runs free, what came as a hint and what did not is chance
        assert first.tokens == again.tokens
    assert first.started.seed == 7
    assert fresh[0].started.seed != fresh[1].started.seed
    assert fresh[0].token_ids != fresh[1].token_ids


async def test_statistics_count_what_was_streamed() -> None:
    """Tokens by kind, rounds, bits and times agree with the events and with each other."""
    async with loopback(*models(), VOCABULARY) as both:
        done = await generate(both.client, make_request(scheme="c-sqs", max_tokens=100))
    s = done.finished.statistics

    assert s.output_tokens == len(done.tokens) == 100
    assert s.resampled_tokens == sum(t.kind is TokenKind.RESAMPLED for t in done.tokens)
    assert s.drafted_tokens >= s.tested_tokens >= s.accepted_tokens
    assert s.tested_tokens == s.kept_positions
    assert 0 < s.uplink_payload_bits < 8 * s.uplink_message_bytes
    assert s.downlink_message_bytes >= 10 * s.rounds
    assert 0 < s.first_token_s < s.total_s
    assert s.draft_s + s.network_s + s.queue_s + s.verify_s <= s.total_s
    assert s.dropped_mass_guarantee is not None
    assert s.mean_dropped_mass <= s.dropped_mass_guarantee


async def test_a_text_ends_with_the_targets_end_of_text_token() -> None:
    """EOS is kept as a token, shows no text, and nothing follows it; --ignore-eos goes on."""
    greedy = argmax_text((0,), 60)
    eos = greedy[10]
    first = greedy.index(eos)
    async with loopback(*models(), VOCABULARY, eos_token_ids=(eos,)) as both:
        ended = await generate(both.client, make_request(temperature=0.0, max_tokens=60))
        ignored = await generate(both.client, make_request(temperature=0.0, max_tokens=60, ignore_eos=True))

    assert ended.reason is FinishReason.EOS
    assert ended.token_ids == greedy[: first + 1]
    assert ended.text == VOCABULARY.decode(greedy[:first])
    assert ignored.token_ids == greedy


async def test_a_text_ends_before_a_stop_string() -> None:
    """The match itself and everything behind it is cut off."""
    whole = VOCABULARY.decode(argmax_text((0,), 60))
    stop = whole[20:24]
    async with loopback(*models(), VOCABULARY) as both:
        done = await generate(both.client, make_request(temperature=0.0, max_tokens=60, stop=("zz", stop)))

    assert done.reason is FinishReason.STOP
    assert done.text == whole[: whole.index(stop)]


@pytest.mark.parametrize("draft_length", [0, 1, 5, 64])
async def test_max_tokens_is_never_overshot(draft_length: int) -> None:
    """γ is cut in the last round; γ = 0 is the cloud's own text."""
    async with loopback(*models(), VOCABULARY) as both:
        request = make_request(temperature=0.0, max_tokens=13, draft_length=draft_length)
        done = await generate(both.client, request)

    assert done.token_ids == argmax_text((0,), 13)
    assert done.reason is FinishReason.LENGTH


@pytest.mark.parametrize(("target_context", "draft_context"), [(24, 64), (64, 24), (24, 24)])
async def test_a_context_that_fills_up_ends_the_text(target_context: int, draft_context: int) -> None:
    """Prompt and output together fill the target's context exactly, whatever the draft's is."""
    target = WatchedModel(TARGET, context_length=target_context)
    draft = WatchedModel(DRAFT, context_length=draft_context)
    async with loopback(target, draft, VOCABULARY) as both:
        done = await generate(both.client, make_request("abc", max_tokens=100))

    assert done.reason is FinishReason.CONTEXT
    assert len(done.tokens) == target_context - 3


async def test_an_uplink_budget_holds_in_every_round(tmp_path: Path) -> None:
    """No round of two or more tokens is above the budget; the round log shows each of them."""
    log = RoundLog(str(tmp_path / "rounds.jsonl"))
    async with loopback(*models(), VOCABULARY, round_log=log) as both:
        request = make_request(max_tokens=80, draft_length=8, uplink_budget_bits=60)
        done = await generate(both.client, request)
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "rounds.jsonl").read_text().splitlines()]
    rounds = [line for line in lines if line["kind"] == "round"]

    assert len(rounds) == done.finished.statistics.rounds
    assert [r["round"] for r in rounds] == list(range(1, len(rounds) + 1))
    assert all(r["uplink_payload_bits"] <= 64 or r["draft_length"] == 1 for r in rounds)
    assert sum(r["uplink_payload_bits"] for r in rounds) == done.finished.statistics.uplink_payload_bits
    assert sum(r["accepted"] for r in rounds) == done.finished.statistics.accepted_tokens
    assert lines[-1]["kind"] == "generation"


async def test_many_generations_at_once_do_not_disturb_each_other() -> None:
    """Eight interleaved generations give the texts of eight lone ones."""
    async with loopback(*models(), VOCABULARY) as both:
        lone = [await generate(both.client, make_request(seed=s, max_tokens=30)) for s in range(8)]
        together = await asyncio.gather(
            *(generate(both.client, make_request(seed=s, max_tokens=30)) for s in range(8))
        )

    assert [t.token_ids for t in together] == [t.token_ids for t in lone]


async def test_a_client_that_goes_away_frees_both_sides_within_a_second() -> None:
    """A cancelled Generate closes the session here and at the cloud."""
    target, draft = models(context_length=100_000)
    async with loopback(target, draft, VOCABULARY) as both:
        events = both.client.events(make_request(max_tokens=90_000))
        for _ in range(5):
            await anext(events)
        assert both.cloud.sessions == 1
        await events.aclose()
        draft_freed, target_freed = await asyncio.gather(draft.freed_within(1), target.freed_within(1))
        after = await generate(both.client, make_request(max_tokens=5))

        assert draft_freed
        assert target_freed
        assert len(after.tokens) == 5
    assert both.cloud.sessions == 0


async def test_a_cancelled_draft_stops_before_its_next_token() -> None:
    """Drafting in the model's thread is interrupted between two tokens of a block."""
    entered, go_on = threading.Event(), threading.Event()

    def gated(prefix: tuple[int, ...]) -> npt.NDArray[Any]:
        if len(prefix) >= 3:
            entered.set()
            go_on.wait(10)
        return DRAFT(prefix)

    draft = WatchedModel(gated, vocabulary_size=SIZE, context_length=512)
    async with loopback(models()[0], draft, VOCABULARY) as both:
        events = both.client.events(make_request(draft_length=64))
        await anext(events)
        first_tokens = asyncio.ensure_future(anext(events))
        assert await asyncio.to_thread(entered.wait, 5)
        passes = draft.passes
        first_tokens.cancel()
        status = await both.client.status(timeout_s=5)
        assert status.generations == 1
        await events.aclose()
        # The edge notices the cancelled call before the draft may go on.
        await asyncio.wait_for(_cancelled(both.edge), 5)
        go_on.set()

        assert await draft.freed_within(1)
        assert draft.passes == passes


async def _cancelled(edge: EdgeServer) -> None:
    """Wait until the edge's only generation is being cancelled."""
    while all(task.cancelling() == 0 for task in edge.running):
        await asyncio.sleep(0)


async def test_a_cut_link_is_mended_and_the_text_is_the_same() -> None:
    """The stream is resumed, the pending round resent as the same bytes, and not one token differs."""
    request = make_request(max_tokens=300, scheme="c-sqs")
    link = CuttableLink()
    settings = EdgeSettings(backoff_s=0.01)
    async with loopback(*models(), VOCABULARY, proxy=link, edge_settings=settings) as both:
        whole = await generate(both.client, request)
        tokens, finished = [], None
        async for event in both.client.events(request):
            if isinstance(event, tuple):
                tokens += event
                if len(tokens) < 200:
                    link.cut()
            finished = event

    assert tokens == list(whole.tokens)
    assert finished.statistics.reconnects >= 1
    assert link.connections >= 2


async def test_a_session_the_cloud_forgot_is_opened_again_and_the_text_is_the_same() -> None:
    """It goes on from the committed tokens in a new session, and not one token differs."""
    request = make_request(max_tokens=300, scheme="c-sqs")
    link = CuttableLink()
    settings = EdgeSettings(backoff_s=0.3)
    target, draft = models()
    async with loopback(
        target,
        draft,
        VOCABULARY,
        proxy=link,
        edge_settings=settings,
        cloud_settings=CloudSettings(resume_ttl_s=0.01),
    ) as both:
        whole = await generate(both.client, request)
        tokens, finished, cuts = [], None, 0
        async for event in both.client.events(request):
            if isinstance(event, tuple):
                tokens += event
                if len(tokens) > 100 * (cuts + 1) - 50 and cuts < 2:
                    cuts += 1
                    link.cut()
            finished = event

    assert tokens == list(whole.tokens)
    assert finished.statistics.rebuilds == 2
    assert finished.statistics.output_tokens == 300


async def test_one_generation_too_many_is_refused_with_a_pause_to_wait() -> None:
    """RESOURCE_EXHAUSTED with RetryInfo; a slot that came free is used."""
    gate = threading.Event()

    def gated(prefix: tuple[int, ...]) -> npt.NDArray[Any]:
        gate.wait(10)
        return DRAFT(prefix)

    draft = WatchedModel(gated, vocabulary_size=SIZE, context_length=512)
    settings = EdgeSettings(max_generations=1)
    async with loopback(models()[0], draft, VOCABULARY, edge_settings=settings) as both:
        first = both.client.events(make_request(max_tokens=5))
        await anext(first)
        with pytest.raises(ResourceExhaustedError, match="expected fewer than 1"):
            await generate(both.client, make_request())
        gate.set()
        async for _ in first:
            pass
        done = await generate(both.client, make_request(max_tokens=5))

    assert len(done.tokens) == 5


async def test_a_cloud_that_is_not_there_is_reported_within_the_connect_deadline() -> None:
    """UNAVAILABLE, naming the address; the edge serves on."""
    loop = asyncio.get_running_loop()
    edge = EdgeServer(
        ServedModel(model=models()[1], vocabulary=VOCABULARY),
        cloud_address="127.0.0.1:1",
        settings=EdgeSettings(connect_timeout_s=0.3),
    )
    address = f"127.0.0.1:{await edge.start('127.0.0.1:0')}"
    started_s = loop.time()
    async with connect(address) as client:
        with pytest.raises(TransportError, match=r"the cloud at 127\.0\.0\.1:1 did not answer within 0\.3 s"):
            await generate(client, make_request())
        elapsed_s = loop.time() - started_s
        status = await client.status(timeout_s=5)
    await edge.stop(0)

    assert elapsed_s < 2.0
    assert status.cloud_info is None
    assert status.generations_finished == 1


async def test_a_draining_edge_lets_its_generation_finish() -> None:
    """SIGTERM's path: no new generations, those in flight go on within the grace."""
    gate = threading.Event()

    def gated(prefix: tuple[int, ...]) -> npt.NDArray[Any]:
        gate.wait(60)
        return DRAFT(prefix)

    draft = WatchedModel(gated, vocabulary_size=SIZE, context_length=512)
    async with loopback(models()[0], draft, VOCABULARY) as both:
        events = both.client.events(make_request(max_tokens=20))
        await anext(events)
        # A grace that no stalled machine outlasts: what is left when it ends is cancelled, as it should be.
        stopping = asyncio.ensure_future(both.edge.stop(60))
        with pytest.raises(TransportError):
            async with connect(both.edge_address) as late:
                await generate(late, make_request())
        gate.set()
        rest = [event async for event in events]
        await stopping

    assert rest[-1].reason is FinishReason.LENGTH


async def test_status_shows_both_sides() -> None:
    """GetStatus reports the edge and, through it, the cloud."""
    async with loopback(*models(), VOCABULARY) as both:
        await generate(both.client, make_request(max_tokens=9))
        status = await both.client.status(timeout_s=5)

    assert status.generations_finished == 1
    assert status.output_tokens == 9
    assert status.schemes == scheme_names()
    assert status.cloud_info is not None
    assert status.cloud_info.context_length == 512
