"""What an operator sees of a target that writes by itself, and what a tenant may ask of it; as for rounds."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from free_running_pair import own_text
from loopback import CuttableLink, WatchedModel, generate, loopback, make_request
from security.credentials import Tokens
from tests.integration.operations import VOCABULARY, models, scraped, until
from tests.integration.test_request_log import lines_of
from tests.integration.test_restarted_with_another_model import HaltingLaw
from thinwire.cloud.daemon import CloudServer
from thinwire.cloud.settings import CloudSettings
from thinwire.common import wire
from thinwire.common.causal_model import ServedModel
from thinwire.common.door.security import ClientSecurity, ServerSecurity
from thinwire.common.errors import (
    NonFiniteLogitsError,
    QuotaExceededError,
    SessionNotFoundError,
    TargetChangedError,
    TransportError,
    UnauthenticatedError,
)
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.observe import tracing
from thinwire.common.observe.tracing import tracing_to
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.coupled import Coupled, one_point
from thinwire.common.session.messages import FreeRun, Hints, Open, PrefixHasher
from thinwire.edge.settings import EdgeSettings
from verify_peer import TARGET, EdgeText, running_cloud

TOKENS = 60
SEED = 5


def asked(**changes: Any) -> Any:
    """A text of scheme coupled."""
    return make_request("abc", **{"scheme": "coupled", "seed": SEED, "max_tokens": TOKENS, **changes})


def expected(law: Any, tokens: int = TOKENS, seed: int = SEED) -> tuple[int, ...]:
    """By the target's races."""
    return own_text(law, KeyedDraws(seed), tokens, tuple(VOCABULARY.encode("abc")))


async def idle(both: Any) -> None:
    """Until nothing runs at either end."""
    await until(lambda: both.cloud.sessions == 0 and not both.edge.running)


# --- metrics, log, traces ---------------------------------------------------------------------------------


@pytest.mark.parametrize("draft_length", [0, 4])
async def test_both_daemons_count_what_the_statistics_say(draft_length: int) -> None:
    """Passes for rounds, rows of hints for drafts; every token and byte at both ends."""
    async with loopback(*models(), VOCABULARY) as both:
        done = await generate(both.client, asked(draft_length=draft_length))
        await idle(both)
        cloud, edge = await scraped(both.cloud.metrics), await scraped(both.edge.metrics)
    s, scheme = done.finished.statistics, "coupled"

    assert s.output_tokens == TOKENS == s.rounds + s.accepted_tokens
    for end in (cloud, edge):
        assert end["rounds_total", scheme] == s.rounds
        assert end.get(("spec_decode_num_draft_tokens_total", scheme), 0) == s.drafted_tokens
        assert end.get(("spec_decode_num_accepted_tokens_total", scheme), 0) == s.accepted_tokens
        assert end["generation_tokens_total", scheme] == TOKENS
        assert end["prompt_tokens_total", scheme] == 3
        assert end["uplink_bytes_total", scheme] == s.uplink_message_bytes
        assert end["queue_seconds_sum", ""] == pytest.approx(s.queue_s)
        assert end["verify_seconds_sum", ""] == pytest.approx(s.verify_s)
    # Hints that cross the last pass are counted where they were taken, and so by one end only.
    paid = 8 * cloud.get(("uplink_payload_bytes_total", scheme), 0)
    assert paid <= 8 * edge.get(("uplink_payload_bytes_total", scheme), 0) == s.uplink_payload_bits
    assert edge["downlink_bytes_total", scheme] == s.downlink_message_bytes
    closed = wire.closed_to_proto(s.rounds, 3 + TOKENS).ByteSize()
    assert cloud["downlink_bytes_total", scheme] == s.downlink_message_bytes + closed
    assert cloud["sessions_opened_total", scheme] == cloud["sessions_ended_total", "CLOSED"] == 1
    assert cloud["target_passes_total", ""] == s.rounds
    assert not any(value for (name, _), value in (cloud | edge).items() if name == "refusals_total")


async def test_resumes_and_sessions_opened_again_are_counted() -> None:
    """A link that is cut twice: `reconnects` in the statistics, `sessions_resumed` at the cloud."""
    target, draft = models(context_length=2000)
    link = CuttableLink()
    async with loopback(
        target, draft, VOCABULARY, proxy=link, edge_settings=EdgeSettings(backoff_s=0.05)
    ) as both:
        ids: list[int] = []
        finished: Any = None
        async for event in both.client.events(asked(max_tokens=400)):
            before = len(ids)
            ids += [token.token_id for token in event] if isinstance(event, tuple) else []
            if before < 50 <= len(ids) or before < 200 <= len(ids):
                link.cut()
            finished = event
        await idle(both)
        cloud, edge = await scraped(both.cloud.metrics), await scraped(both.edge.metrics)

    assert tuple(ids) == expected(target.law, 400)
    assert finished.statistics.reconnects == 2
    assert cloud["sessions_resumed_total", "coupled"] == edge["reconnects_total", ""] == 2


async def test_a_request_leaves_one_line_at_either_end(caplog: pytest.LogCaptureFixture) -> None:
    """The same session and counts, and nothing of the text."""
    caplog.set_level(logging.INFO)
    async with loopback(*models(), VOCABULARY) as both:
        done = await generate(both.client, asked())
        await idle(both)
    s = done.finished.statistics
    (edge,), (cloud,) = lines_of(caplog, "thinwire.edge.account"), lines_of(caplog, "thinwire.cloud.account")

    for line in (edge, cloud):
        assert (line["rounds"], line["scheme"], line["session"]) == (s.rounds, "coupled", edge["session"])
        assert (line["drafted_tokens"], line["accepted_tokens"]) == (s.drafted_tokens, s.accepted_tokens)
        assert line["bytes_up"] == s.uplink_message_bytes
        assert done.text not in json.dumps(line)
    assert (cloud["event"], cloud["reason"]) == ("session ended", "CLOSED")


async def test_a_trace_has_a_span_of_every_pass_at_both_ends() -> None:
    """One trace; queue and verify at the cloud, a trip at the edge; a long text's spans are bounded."""
    exporters = InMemorySpanExporter(), InMemorySpanExporter()
    tracings = [tracing_to(exporter, service="either") for exporter in exporters]
    statistics = []
    for tokens in (30, 300):
        target, draft = models(context_length=2000)
        async with loopback(
            target, draft, VOCABULARY, edge_tracing=tracings[0], cloud_tracing=tracings[1]
        ) as both:
            done = await generate(both.client, asked(max_tokens=tokens, draft_length=0))
            statistics.append(done.finished.statistics)
            await idle(both)
    for one in tracings:
        await asyncio.to_thread(one.close)
    names = [Counter[tuple[int, str]](), Counter[tuple[int, str]]()]
    for counts, exporter in zip(names, exporters, strict=True):
        for span in exporter.get_finished_spans():
            assert span.context is not None
            counts[span.context.trace_id, span.name] += 1
    traces = {trace for trace, _ in names[0]}
    assert traces == {trace for trace, _ in names[1]}
    assert len(traces) == 2
    short = min(traces, key=lambda trace: names[0][trace, "round trip"])
    (long,) = traces - {short}

    assert names[0][short, "round trip"] == statistics[0].rounds
    assert names[1][short, "verify"] == names[1][short, "queue"] == statistics[0].rounds
    assert sum(n for (trace, _), n in names[1].items() if trace == long) <= tracing.MAX_CHILD_SPANS
    assert statistics[1].rounds > tracing.MAX_CHILD_SPANS / 3


# --- drain and restart ------------------------------------------------------------------------------------


async def test_a_draining_cloud_that_stops_cuts_a_text_which_another_one_goes_on_with() -> None:
    """The edge holds what was written and opens anew; the target is the same, and so is the text."""
    target, draft = models(context_length=2000)
    halting = HaltingLaw(target.law, 100)
    slow = WatchedModel(halting, vocabulary_size=target.vocabulary_size, context_length=2000)
    async with loopback(slow, draft, VOCABULARY, fingerprint=b"target 1") as both:
        text = asyncio.create_task(generate(both.client, asked(max_tokens=200)))
        assert await asyncio.to_thread(halting.reached.wait, 20)
        dying = asyncio.create_task(both.cloud.stop(0))
        halting.go_on.set()
        await dying
        second = CloudServer(ServedModel(model=target, vocabulary=VOCABULARY, fingerprint=b"target 1"))
        await second.start(both.cloud_address)
        try:
            done = await text
        finally:
            await second.stop(0)

    assert done.token_ids == expected(target.law, 200)
    assert done.finished.statistics.rebuilds == 1


async def test_another_target_ends_the_text() -> None:
    """What was emitted is the beginning of the first target's text."""
    target, draft = models(context_length=2000)
    halting = HaltingLaw(target.law, 100)
    slow = WatchedModel(halting, vocabulary_size=target.vocabulary_size, context_length=2000)
    ids: list[int] = []

    async def take(both: Any) -> None:
        async for event in both.client.events(asked(max_tokens=200)):
            ids.extend(one.token_id for one in (event if isinstance(event, tuple) else ()))

    async with loopback(slow, draft, VOCABULARY, fingerprint=b"target 1") as both:
        text = asyncio.create_task(take(both))
        assert await asyncio.to_thread(halting.reached.wait, 20)
        dying = asyncio.create_task(both.cloud.stop(0))
        halting.go_on.set()
        await dying
        second = CloudServer(ServedModel(model=target, vocabulary=VOCABULARY, fingerprint=b"target 3"))
        await second.start(both.cloud_address)
        try:
            with pytest.raises(TargetChangedError):
                await text
        finally:
            await second.stop(0)

    assert 0 < len(ids) < 200
    assert tuple(ids) == expected(target.law, len(ids))


@pytest.mark.parametrize("grace_s", [0.0, 20.0])
async def test_an_edge_that_drains_cuts_a_text_with_the_reason_or_lets_it_end(grace_s: float) -> None:
    """UNAVAILABLE where the grace is over, the whole text where it lasts; both caches are free."""
    target, draft = models(context_length=20_000)
    tokens = 60 if grace_s else 15_000
    async with loopback(target, draft, VOCABULARY) as both:
        text = asyncio.create_task(generate(both.client, asked(max_tokens=tokens)))
        await until(lambda: target.passes > 3)
        await both.edge.stop(grace_s)
        if grace_s:
            assert len((await text).tokens) == tokens
        else:
            with pytest.raises(TransportError, match="this edge stops and cut the text"):
                await text
        await until(lambda: target.open_sequences == draft.open_sequences == 0)


# --- tenants ----------------------------------------------------------------------------------------------


def secured(tokens: Tokens, **quotas: float) -> dict[str, Any]:
    """A cloud with one tenant of these quotas, and how its edge dials it."""
    token = tokens.add("acme", **quotas)
    return {
        "cloud_security": ServerSecurity(access=tokens.access()),
        "to_cloud": ClientSecurity(token=token),
    }


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    """An empty file to be."""
    return Tokens(tmp_path / "tokens.json")


@pytest.mark.parametrize("quotas", [{"rounds_per_s": 8.0}, {"tokens_per_s": 60.0}], ids=["rounds", "tokens"])
async def test_a_text_that_meets_its_quota_is_the_undisturbed_text(
    tokens: Tokens, quotas: dict[str, float]
) -> None:
    """It is slowed, and never refused: no stream ends for it."""
    target, draft = models()
    async with loopback(target, draft, VOCABULARY, **secured(tokens, **quotas)) as both:
        done = await generate(both.client, asked())

    assert done.token_ids == expected(target.law)
    assert done.finished.statistics.reconnects == 0


@pytest.mark.parametrize("quotas", [{}, {"rounds_per_s": 0.5}], ids=["no rate", "a rate"])
async def test_hints_above_the_rate_are_read_as_acknowledgements(
    tokens: Tokens, quotas: dict[str, float]
) -> None:
    """The stream has used the rate up: true guesses get no row; the text is the same."""
    prompt, length = (1, 2), 20
    whole = prompt + own_text(TARGET, KeyedDraws(1), length, prompt)
    hasher = PrefixHasher()
    hasher.extend(prompt)
    run = FreeRun(len(whole), len(prompt), hasher.value(), ignore_eos=True)
    plain = EdgeText(prompt).open
    open_ = Open(plain.vocabulary, Coupled.Parameters(), plain.sampling, 1, prompt, free_run=run)
    halting = HaltingLaw(TARGET, 3)
    target = WatchedModel(halting, vocabulary_size=len(TARGET(prompt)))
    settings, token = CloudSettings(no_copied_hints=True), tokens.add("acme", **quotas)
    security = ServerSecurity(access=tokens.access())
    async with running_cloud(target, settings, security) as cloud:
        peer = cloud.stream(token)
        await peer.say(open_)
        await peer.hear()
        written: Any = await peer.hear()
        assert await asyncio.to_thread(halting.reached.wait, 20)
        ids, coder = whole[3:8], make_scheme(open_.scheme, vocabulary_size=plain.vocabulary.size)
        payload = coder.encode([DraftToken(one_point(token_id), 0) for token_id in ids], coding=0)
        await peer.say(Hints(3, 0, len(ids), payload))
        (live,) = cloud.server._registry
        await until(lambda: live.session._held_length == 3)  # type: ignore[attr-defined]
        halting.go_on.set()
        rows, made = 0, prompt + written.token_ids
        while len(made) < len(whole):
            written = await peer.hear()
            rows, made = rows + written.hint_rows, made + written.token_ids
        await peer.until_closed()

    assert made == whole
    assert rows == (0 if quotas else len(ids) - 1)  # the pass under way has the first


async def test_a_second_text_waits_for_the_tenants_only_session(tokens: Tokens) -> None:
    """Both come out as they would alone."""
    target, draft = models()
    async with loopback(target, draft, VOCABULARY, **secured(tokens, max_sessions=1)) as both:
        made = await asyncio.gather(*(generate(both.client, asked(seed=seed)) for seed in (1, 2)))

    assert [text.token_ids for text in made] == [expected(target.law, seed=seed) for seed in (1, 2)]


async def test_an_open_that_no_quota_lets_in_fails_the_text_within_a_rounds_time(tokens: Tokens) -> None:
    """With the cloud's own status."""
    edge = EdgeSettings(round_timeout_s=2.0)
    async with loopback(
        *models(), VOCABULARY, edge_settings=edge, **secured(tokens, rounds_per_s=0.001)
    ) as both:
        await generate(both.client, asked(max_tokens=3))
        with pytest.raises(QuotaExceededError, match=r"acme is above its 0\.001 rounds/s"):
            await generate(both.client, asked(max_tokens=3))


async def test_a_token_revoked_in_mid_text_fails_the_generation(tokens: Tokens) -> None:
    """With the next hints or acknowledgement; what was emitted stands, and the session is gone."""
    token = tokens.add("acme")
    access = tokens.access()
    target, draft = models(context_length=20_000)
    ids: list[int] = []
    async with loopback(
        target,
        draft,
        VOCABULARY,
        cloud_security=ServerSecurity(access=access),
        to_cloud=ClientSecurity(token=token),
    ) as both:

        async def take_and_revoke() -> None:
            digest = access.authenticate(token).token_sha256
            async for event in both.client.events(asked(max_tokens=15_000)):
                ids.extend(one.token_id for one in (event if isinstance(event, tuple) else ()))
                if len(ids) >= 40 and digest in tokens.path.read_text():
                    tokens.path.write_text(tokens.path.read_text().replace(digest, "0" * 64))
                    await asyncio.to_thread(access.reload)

        with pytest.raises(UnauthenticatedError, match="the token was revoked"):
            await take_and_revoke()
        await until(lambda: both.cloud.sessions == 0)

    assert 40 <= len(ids) < 14_000
    assert tuple(ids) == expected(target.law, len(ids))


async def test_another_tenants_session_cannot_be_taken_over(tokens: Tokens) -> None:
    """As if there were none; the owner's text goes on."""
    owner, stranger = tokens.add("acme"), tokens.add("rival")
    hasher, prompt = PrefixHasher(), (1, 2)
    hasher.extend(prompt)
    run = FreeRun(40, len(prompt), hasher.value())
    plain = EdgeText(prompt).open
    open_ = Open(plain.vocabulary, Coupled.Parameters(), plain.sampling, 1, prompt, free_run=run)
    async with running_cloud(WatchedModel(TARGET), security=ServerSecurity(access=tokens.access())) as cloud:
        peer = cloud.stream(owner)
        await peer.say(open_)
        opened: Any = await peer.hear()
        foreign = cloud.stream(stranger)
        await foreign.say(
            Open(plain.vocabulary, open_.scheme, plain.sampling, 1, (), opened.session_id, free_run=run)
        )
        assert type(await foreign.refusal()) is SessionNotFoundError
        first: Any = await peer.hear()
        await peer.until_closed()

    assert first.first_position == len(prompt)


# --- faults of a model ------------------------------------------------------------------------------------


async def test_logits_that_are_not_numbers_end_only_their_session() -> None:
    """In the middle of a text that the target writes by itself; another text beside it is whole."""
    target, draft = models(context_length=400)

    def broken(prefix: tuple[int, ...]) -> Any:
        if prefix[0] == 4 and len(prefix) == 30:
            raise NonFiniteLogitsError("the logits hold nan; expected finite numbers.")
        return target.law(prefix)

    law = WatchedModel(broken, vocabulary_size=target.vocabulary_size, context_length=400)
    async with loopback(law, draft, VOCABULARY) as both:
        beside = asyncio.create_task(generate(both.client, asked(max_tokens=200)))
        with pytest.raises(NonFiniteLogitsError):
            await generate(both.client, make_request("e", scheme="coupled", seed=SEED, max_tokens=200))
        assert (await beside).token_ids == expected(target.law, 200)
        await until(lambda: law.open_sequences == 0)
