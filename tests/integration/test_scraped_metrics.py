"""What a scraper sees of two real daemons: counts that agree with the statistics of each text."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes import TableModel
from loopback import Generated, generate, loopback, make_request, unchecked
from security.credentials import Tokens
from tests.integration.operations import VOCABULARY, models, scraped, until
from thinwire.cloud.settings import CloudSettings
from thinwire.common import wire
from thinwire.common.door.security import ServerSecurity
from thinwire.common.errors import ConfigError, UnauthenticatedError
from verify_peer import TARGET, EdgeText, running_cloud

SCHEMES = ("k-sqs", "c-sqs", "dense-qs", "cloud-ar")


async def test_both_daemons_count_what_the_statistics_say() -> None:
    """Rounds, drafts, tokens, payload, bytes and seconds of a few texts, at either end of the link."""
    async with loopback(*models(), VOCABULARY) as both:
        done: dict[str, Generated] = {}
        for scheme in SCHEMES:
            done[scheme] = await generate(both.client, make_request("abc", scheme=scheme, max_tokens=30))
        await until(lambda: both.cloud.sessions == 0 and not both.edge.running)
        cloud, edge = await scraped(both.cloud.metrics), await scraped(both.edge.metrics)

    for scheme, one in done.items():
        s = one.finished.statistics
        for end in (cloud, edge):
            assert end["rounds_total", scheme] == s.rounds
            assert end.get(("spec_decode_num_draft_tokens_total", scheme), 0) == s.drafted_tokens
            assert end.get(("spec_decode_num_accepted_tokens_total", scheme), 0) == s.accepted_tokens
            assert end["prompt_tokens_total", scheme] == 3
            assert 8 * end["uplink_payload_bytes_total", scheme] == s.uplink_payload_bits
            assert end["uplink_bytes_total", scheme] == s.uplink_message_bytes
        assert edge["generation_tokens_total", scheme] == s.output_tokens
        assert cloud["generation_tokens_total", scheme] == s.rounds + s.accepted_tokens
        assert edge["downlink_bytes_total", scheme] == s.downlink_message_bytes
        closed = wire.closed_to_proto(s.rounds, 3 + s.rounds + s.accepted_tokens).ByteSize()
        assert cloud["downlink_bytes_total", scheme] == s.downlink_message_bytes + closed
        assert cloud["sessions_opened_total", scheme] == 1
    all_ = [one.finished.statistics for one in done.values()]
    for end in (cloud, edge):
        accepted = sum(s.accepted_tokens for s in all_)
        assert sum(n for (name, _), n in end.items() if name.endswith("per_pos_total")) == accepted
        assert end["queue_seconds_count", ""] == sum(s.rounds for s in all_)
        assert end["queue_seconds_sum", ""] == pytest.approx(sum(s.queue_s for s in all_))
        assert end["verify_seconds_sum", ""] == pytest.approx(sum(s.verify_s for s in all_))
    for phase in ("draft", "encode", "network"):
        total_s = sum(getattr(s, f"{phase}_s") for s in all_)
        assert total_s > 0
        # A block that was drafted for a text that had ended is drafted all the same, and in no statistics.
        assert edge[f"{phase}_seconds_sum", ""] == pytest.approx(total_s, rel=0.5)
    assert edge["generation_seconds_sum", ""] == pytest.approx(sum(s.total_s for s in all_))
    assert edge["time_to_first_token_seconds_sum", ""] == pytest.approx(sum(s.first_token_s for s in all_))
    assert edge["generations_finished_total", "length"] == len(SCHEMES)
    assert cloud["sessions_ended_total", "CLOSED"] == len(SCHEMES)
    assert cloud["target_passes_total", ""] >= sum(s.rounds for s in all_)
    assert all(value == 0 for (name, _), value in (cloud | edge).items() if name == "refusals_total")


async def test_the_statistics_tell_the_time_of_every_phase() -> None:
    """Draft, encode, network, queue and verify do not overlap; the rest is the edge's own."""
    async with loopback(*models(), VOCABULARY) as both:
        done = await generate(both.client, make_request("abc", scheme="dense-qs", max_tokens=60))
    s = done.finished.statistics
    phases = (s.draft_s, s.encode_s, s.network_s, s.queue_s, s.verify_s)

    assert min(phases) > 0
    assert sum(phases) <= s.total_s


async def test_gauges_show_a_text_while_it_runs_and_return_to_zero() -> None:
    """One session and one generation in the middle of a text; none after it, though its client went away."""
    target, draft = models(context_length=5000)
    async with loopback(target, draft, VOCABULARY) as both:
        events = both.client.events(make_request("abc", max_tokens=4000))
        async for event in events:
            if isinstance(event, tuple):
                break
        during = [await scraped(end.metrics) for end in (both.cloud, both.edge)]
        await events.aclose()
        await until(lambda: both.cloud.sessions == 0 and not both.edge.running)
        after = [await scraped(end.metrics) for end in (both.cloud, both.edge)]

    assert (during[0]["sessions", ""], during[1]["generations", ""]) == (1, 1)
    assert (after[0]["sessions", ""], after[1]["generations", ""]) == (0, 0)
    assert after[1]["generations_finished_total", "cancelled"] == 1
    assert after[1]["generation_seconds_count", ""] == 0


async def test_refusals_are_counted_by_reason_at_both_ends() -> None:
    """A scheme that is switched off at the cloud, and a request that the edge itself cannot take."""
    async with loopback(*models(), VOCABULARY) as both:
        with pytest.raises(ConfigError):
            await generate(both.client, make_request("abc", scheme="dense-f16"))
        with pytest.raises(ConfigError):
            await generate(both.client, unchecked(make_request("abc"), max_tokens=0))
        await until(lambda: not both.edge.running)
        cloud, edge = await scraped(both.cloud.metrics), await scraped(both.edge.metrics)

    assert cloud["refusals_total", "PARAMETER_OUT_OF_RANGE"] == 1
    assert edge["refusals_total", "PARAMETER_OUT_OF_RANGE"] == 2
    assert edge["generations_finished_total", "error"] == 1
    assert cloud["sessions", ""] == 0
    assert not [name for name, _ in cloud if name == "sessions_opened_total"]


async def test_a_full_cloud_and_a_wrong_token_are_counted(tmp_path: Path) -> None:
    """RESOURCE_EXHAUSTED by the registry, UNAUTHENTICATED by the guard, which lets nobody reach a handler."""
    async with running_cloud(TableModel(TARGET), settings=CloudSettings(max_sessions=1)) as cloud:
        await cloud.opened(EdgeText())
        other = cloud.stream()
        await other.say(EdgeText().open)
        await other.refusal()
        full = await scraped(cloud.server.metrics)
    tokens = Tokens(tmp_path / "tokens.json")
    tokens.add("acme")
    security = ServerSecurity(access=tokens.access())
    async with loopback(*models(), VOCABULARY, edge_security=security) as both:
        with pytest.raises(UnauthenticatedError):
            await generate(both.client, make_request("abc"))
        guarded = await scraped(both.edge.metrics)

    assert full["refusals_total", "RESOURCE_EXHAUSTED"] == 1
    assert guarded["refusals_total", "UNAUTHENTICATED"] == 1
