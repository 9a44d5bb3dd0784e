"""The whole draft law as float16 over gRPC: off unless allowed, exact, and within a message."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fakes import TableModel, TableVocabulary, random_law
from loopback import CuttableLink, WatchedModel, generate, loopback, make_request
from thinwire.cloud.settings import CloudSettings
from thinwire.common.errors import ConfigError, PayloadInvalidError
from thinwire.common.schemes import scheme_names
from thinwire.common.schemes.dense_f16 import MAX_DENSE_ROUND_BYTES, DenseF16
from thinwire.common.session.messages import FinishReason
from thinwire.edge.settings import EdgeSettings
from thinwire.edge.telemetry import RoundLog
from verify_peer import SIZE as PEER_SIZE
from verify_peer import TARGET as PEER_TARGET
from verify_peer import EdgeText, running_cloud

PARAMETERS = DenseF16.Parameters()


SIZE = 8
VOCABULARY = TableVocabulary(SIZE)
TARGET = random_law(SIZE, 1)
DRAFT = random_law(SIZE, 2)
ALLOWED = CloudSettings(allow_dense_f16=True)


def models(context_length: int = 512) -> tuple[WatchedModel, WatchedModel]:
    """(target, draft)."""
    return (
        WatchedModel(TARGET, context_length=context_length),
        WatchedModel(DRAFT, context_length=context_length),
    )


async def test_a_cloud_refuses_the_scheme_unless_it_was_allowed() -> None:
    """INVALID_ARGUMENT with the names it serves, which its account of itself lists; others go on."""
    async with loopback(*models(), VOCABULARY) as both:
        with pytest.raises(
            ConfigError, match="'dense-f16', which this cloud does not serve; expected one of"
        ):
            await generate(both.client, make_request(scheme="dense-f16"))
        status = await both.client.status(timeout_s=5)
        done = await generate(both.client, make_request(max_tokens=5))

    assert status.cloud_info is not None
    assert status.cloud_info.schemes == tuple(n for n in scheme_names() if n != "dense-f16")
    assert len(done.tokens) == 5


async def test_a_cloud_that_allows_it_says_so() -> None:
    """The names a client may ask for."""
    async with loopback(*models(), VOCABULARY, cloud_settings=ALLOWED) as both:
        status = await both.client.status(timeout_s=5)

    assert status.cloud_info is not None
    assert status.cloud_info.schemes == scheme_names()


async def test_a_greedy_text_is_the_targets_argmax_text() -> None:
    """At temperature 0, token for token."""
    prefix = (0,)
    for _ in range(40):
        prefix = (*prefix, int(np.argmax(TARGET(prefix))))
    async with loopback(*models(), VOCABULARY, cloud_settings=ALLOWED) as both:
        done = await generate(both.client, make_request(scheme="dense-f16", temperature=0.0, max_tokens=40))

    assert done.token_ids == prefix[1:]
    assert done.reason is FinishReason.LENGTH


async def test_the_same_seed_gives_the_same_text_over_a_link_that_is_cut() -> None:
    """A resent round is the same bytes, and every round costs 16 V + 8 bits a drafted token."""
    request = make_request(scheme="dense-f16", seed=7, max_tokens=150)
    link = CuttableLink()
    async with loopback(
        *models(),
        VOCABULARY,
        cloud_settings=ALLOWED,
        proxy=link,
        edge_settings=EdgeSettings(backoff_s=0.01),
    ) as both:
        whole = await generate(both.client, request)
        tokens, finished = [], None
        async for event in both.client.events(request):
            if isinstance(event, tuple):
                tokens += event
                if len(tokens) < 60:
                    link.cut()
            finished = event
    s = whole.finished.statistics

    assert tokens == list(whole.tokens)
    assert finished.statistics.reconnects >= 1
    assert s.uplink_payload_bits == (16 * SIZE + 8) * s.drafted_tokens
    assert 0 < s.accepted_tokens <= s.tested_tokens
    assert s.resampled_tokens > 0


async def test_a_long_draft_over_a_large_vocabulary_is_cut_to_the_rounds_bytes(tmp_path: Path) -> None:
    """V = 32 768, γ = 64 asked for: blocks of 63 tokens, 4 MiB less a little, go through both ends."""
    size = 32_768
    law = np.zeros(size)
    law[:5] = [0.4, 0.3, 0.2, 0.06, 0.04]
    log = RoundLog(str(tmp_path / "rounds.jsonl"))
    models_ = [TableModel(lambda prefix: law, vocabulary_size=size, context_length=256) for _ in range(2)]
    async with loopback(*models_, TableVocabulary(size), cloud_settings=ALLOWED, round_log=log) as both:
        request = make_request(
            scheme="dense-f16", seed=3, max_tokens=100, draft_length=64, min_block_acceptance=0.0
        )
        done = await generate(both.client, request)
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "rounds.jsonl").read_text().splitlines()]
    lengths = [line["draft_length"] for line in lines if line["kind"] == "round"]

    assert len(done.tokens) == 100
    assert lengths[0] == 63
    assert lines[0]["uplink_payload_bits"] == 8 * 63 * (2 * size + 2) <= 8 * MAX_DENSE_ROUND_BYTES


async def test_the_cloud_refuses_a_block_that_is_too_long_or_no_law() -> None:
    """The length before decoding, the law in decoding; both end this session alone."""
    text = EdgeText(scheme=PARAMETERS)
    target = TableModel(PEER_TARGET, vocabulary_size=PEER_SIZE)
    async with running_cloud(target, ALLOWED) as cloud:
        errors = []
        for change in (
            lambda payload: payload + b"\0",
            lambda payload: payload[:-1],
            lambda payload: b"\xff" * len(payload),
        ):
            peer, _ = await cloud.opened(text)
            good = text.block(2)
            await peer.say(text.sealed(good, payload=change(good.payload)))
            errors.append(await peer.refusal())

    assert [type(error) for error in errors] == [PayloadInvalidError] * 3
    assert [error.message for error in errors] == [
        "the payload has 27 bytes; expected at most 26.",
        "the payload has 25 bytes; expected 26.",
        "the float16 of id 0 is 0xFFFF; expected 0x0000 to 0x3C00, a number from 0 to 1.",
    ]
