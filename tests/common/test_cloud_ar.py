"""The scheme without a draft: empty rounds, the cloud's own text, and numbers that divide by nothing."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fakes import TableModel, TableVocabulary, random_law
from loopback import CuttableLink, WatchedModel, generate, loopback, make_request
from thinwire.common.errors import ConfigError, LocalProtocolError, PayloadInvalidError
from thinwire.common.law.draft_token import DraftToken, QuantizedDistribution
from thinwire.common.law.random_streams import KeyedDraws, Stream
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.cloud_ar import CloudAr
from thinwire.common.session.generation import GenerationStarted
from thinwire.common.session.messages import FinishReason, TokenKind
from thinwire.edge.report import Display, statistics_rows
from thinwire.edge.settings import EdgeSettings
from thinwire.edge.telemetry import RoundLog, statistics_to_dict
from verify_peer import SIZE as PEER_SIZE
from verify_peer import TARGET as PEER_TARGET
from verify_peer import EdgeText, running_cloud

SIZE = 8
VOCABULARY = TableVocabulary(SIZE)
TARGET = random_law(SIZE, 1)
DRAFT = random_law(SIZE, 2)
SCHEME = make_scheme(CloudAr.Parameters(), vocabulary_size=SIZE)
TOKEN = DraftToken(QuantizedDistribution(np.array([3]), np.array([1]), 1), 0)


def models(context_length: int = 512) -> tuple[WatchedModel, WatchedModel]:
    """(target, draft)."""
    one, other = (WatchedModel(law, context_length=context_length) for law in (TARGET, DRAFT))
    return one, other


def text_of_the_bonus_draws(seed: int, prompt: tuple[int, ...], count: int) -> tuple[int, ...]:
    """The text by its definition: each token wins the bonus race at its position, with weights p."""
    draws, prefix = KeyedDraws(seed), prompt
    for _ in range(count):
        winner, _ = draws.race(Stream.BONUS, len(prefix), TARGET(prefix))
        prefix = (*prefix, winner)
    return prefix[len(prompt) :]


def test_an_empty_block_has_no_bytes_and_comes_back_empty() -> None:
    """γ = 0 is the only length, 0 the only size and code."""
    state = SCHEME.initial_state()
    code = SCHEME.coding(state)

    assert SCHEME.encode((), coding=code) == b""
    assert SCHEME.decode(b"", draft_length=0, coding=code) == ()
    assert (SCHEME.max_draft_length, SCHEME.max_payload_bytes(0), code) == (0, 0, 0)
    assert SCHEME.block_bits((), coding=code) == 0
    assert SCHEME.state_after_verdict((state,), 0) is state
    assert SCHEME.guarantee(1) is None


@pytest.mark.parametrize(("payload", "length", "code"), [(b"\1", 0, 0), (b"", 1, 0), (b"", 0, 1)])
def test_anything_but_an_empty_block_is_refused(payload: bytes, length: int, code: int) -> None:
    """A byte, a token or a support-size code."""
    with pytest.raises(PayloadInvalidError, match="expected 0, 0 and 0"):
        SCHEME.decode(payload, draft_length=length, coding=code)


def test_drafting_is_a_bug_of_ours() -> None:
    """A distribution offered, or a token sent."""
    state = SCHEME.initial_state()
    with pytest.raises(LocalProtocolError, match="draft distribution; expected none"):
        SCHEME.quantize(TARGET((0,)), state)
    with pytest.raises(LocalProtocolError, match="holds 1 tokens; expected none"):
        SCHEME.encode([TOKEN], coding=0)


@pytest.mark.parametrize("draft_length", [0, 1, 4, 64])
async def test_the_draft_model_never_runs_and_every_token_is_the_clouds(draft_length: int) -> None:
    """Over gRPC: a round a token, no payload, the text of the bonus draws, whatever length was asked for."""
    target, draft = models()
    async with loopback(target, draft, VOCABULARY) as both:
        request = make_request("abc", scheme="cloud-ar", seed=5, draft_length=draft_length, max_tokens=40)
        done = await generate(both.client, request)
    s = done.finished.statistics

    assert done.token_ids == text_of_the_bonus_draws(5, (0, 1, 2), 40)
    assert {token.kind for token in done.tokens} == {TokenKind.BONUS}
    assert done.reason is FinishReason.LENGTH
    assert (draft.passes, draft.open_sequences, target.open_sequences) == (0, 0, 0)
    assert s.rounds == s.output_tokens == 40
    assert (s.drafted_tokens, s.tested_tokens, s.uplink_payload_bits) == (0, 0, 0)


async def test_the_text_is_that_of_every_scheme_at_draft_length_0() -> None:
    """Nothing is drafted there either, so the same bonus draws make the text."""
    async with loopback(*models(), VOCABULARY) as both:
        texts = [
            await generate(both.client, make_request(scheme=scheme, seed=9, draft_length=0, max_tokens=25))
            for scheme in ("cloud-ar", "k-sqs", "c-sqs", "dense-qs")
        ]

    assert len({text.token_ids for text in texts}) == 1


async def test_an_end_of_text_and_a_stop_string_end_the_text() -> None:
    """The first token that ends the text is the last one asked for."""
    whole = text_of_the_bonus_draws(5, (0,), 30)
    eos = whole[6]
    text = VOCABULARY.decode(whole)
    stop = text[10:13]
    request = make_request(scheme="cloud-ar", seed=5, max_tokens=30)
    async with loopback(*models(), VOCABULARY, eos_token_ids=(eos,)) as both:
        ended = await generate(both.client, request)
    async with loopback(*models(), VOCABULARY) as both:
        stopped = await generate(both.client, replace(request, stop=(stop,)))

    assert ended.reason is FinishReason.EOS
    assert ended.token_ids == whole[: whole.index(eos) + 1]
    assert stopped.reason is FinishReason.STOP
    assert stopped.text == text[: text.index(stop)]


async def test_a_cut_link_is_mended_and_the_text_is_the_same() -> None:
    """An empty round is resent like any other: the same bytes get the same token."""
    link = CuttableLink()
    async with loopback(
        *models(), VOCABULARY, proxy=link, edge_settings=EdgeSettings(backoff_s=0.01)
    ) as both:
        tokens, finished = [], None
        async for event in both.client.events(make_request(scheme="cloud-ar", seed=5, max_tokens=60)):
            if isinstance(event, tuple):
                tokens += event
                if len(tokens) in (10, 20, 30):
                    link.cut()
            finished = event

    assert tuple(token.token_id for token in tokens) == text_of_the_bonus_draws(5, (0,), 60)
    assert finished.statistics.reconnects >= 1


async def test_rates_of_nothing_are_shown_as_dashes(tmp_path: Path) -> None:
    """No draft, no test, no position kept: no division by zero, in the table, in JSON or in the round log."""
    log = RoundLog(str(tmp_path / "rounds.jsonl"))
    async with loopback(*models(), VOCABULARY, round_log=log) as both:
        done = await generate(both.client, make_request(scheme="cloud-ar", max_tokens=5))
    log.close()
    s = done.finished.statistics
    rows = dict(statistics_rows(done.finished, done.started))
    lines = [json.loads(line) for line in (tmp_path / "rounds.jsonl").read_text().splitlines()]

    assert math.isnan(s.acceptance_rate)
    assert math.isnan(s.mean_dropped_mass)
    assert s.dropped_mass_guarantee is None
    assert rows["block efficiency"] == "1.00 tokens a round"
    assert rows["acceptance rate"] == "– of tested draft tokens"
    assert rows["resampling rate"] == "0.000 of output tokens"
    assert rows["uplink payload"] == "– bits a drafted token, 0.0 bits an output token"
    assert rows["mean dropped mass"] == "–"
    assert rows["  guaranteed at most"] == "–"
    assert statistics_to_dict(s)["acceptance_rate"] is None
    assert [line["draft_length"] for line in lines if line["kind"] == "round"] == [0] * 5
    assert all(line["support_sizes"] == [] for line in lines if line["kind"] == "round")
    console = Console(file=io.StringIO())
    display = Display(console, console, prompt=None)
    for event in (GenerationStarted(0, 1, CloudAr.Parameters(), 4), done.tokens, done.finished):
        display.show(event)
    assert done.text in console.file.getvalue()


async def test_the_cloud_refuses_a_drafted_token() -> None:
    """An edge that drafts all the same breaks the scheme: INVALID_ARGUMENT before anything is decoded."""
    text = EdgeText(scheme=CloudAr.Parameters())
    async with running_cloud(TableModel(PEER_TARGET, vocabulary_size=PEER_SIZE)) as cloud:
        peer, _ = await cloud.opened(text)
        await peer.say(text.sealed(text.block(0), draft_length=1, payload=b"\1"))
        error = await peer.refusal()

    assert type(error) is ConfigError
    assert error.message == "draft_length is 1; expected an integer from 0 to 0."
