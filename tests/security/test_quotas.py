"""What a tenant may use: sessions, rounds and tokens a second, and a text that a quota only delays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fakes import ManualClock, TableVocabulary, random_law
from loopback import WatchedModel, generate, loopback, make_request
from security.credentials import Tokens
from thinwire.cloud.admission import MAX_HELD_BACK_S, MAX_PAUSE_S, MIN_PAUSE_S, Admission, RateBucket
from thinwire.cloud.settings import CloudSettings
from thinwire.common.door.security import ClientSecurity, ServerSecurity
from thinwire.common.door.tenants import Quotas
from thinwire.common.errors import EpochSupersededError, QuotaExceededError
from thinwire.edge.settings import EdgeSettings
from verify_peer import TARGET, EdgeText, running_cloud, whole_text

SIZE = 8
VOCABULARY = TableVocabulary(SIZE)


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    """An empty file to be."""
    return Tokens(tmp_path / "tokens.json")


def models() -> tuple[WatchedModel, WatchedModel]:
    """(target, draft)."""
    return WatchedModel(random_law(SIZE, 1)), WatchedModel(random_law(SIZE, 2))


# --- the buckets ------------------------------------------------------------------------------------------


def test_a_bucket_holds_a_quarter_of_a_second_and_what_costs_more_leaves_a_debt() -> None:
    """Whatever one request costs, it passes once the bucket is full; the debt is then waited for."""
    clock = ManualClock()
    bucket = RateBucket(10.0, clock())

    assert bucket.wait_s(25, clock()) == 0
    bucket.take(25, clock())
    assert bucket.wait_s(1, clock()) == pytest.approx(2.35)
    assert bucket.wait_s(25, clock()) == pytest.approx(2.5)
    clock.advance(2.35)
    assert bucket.wait_s(1, clock()) == 0
    assert bucket.wait_s(2, clock()) == pytest.approx(0.1)
    clock.advance(1e6)
    bucket.take(1.5, clock())
    assert bucket.wait_s(1, clock()) == 0
    assert bucket.wait_s(2, clock()) == pytest.approx(0.1)


def test_a_slow_rate_still_lets_one_request_in_at_a_time() -> None:
    """Below one a second the bucket holds one, and then none for as long as the rate says."""
    clock = ManualClock()
    bucket = RateBucket(0.5, clock())
    bucket.take(1, clock())
    clock.advance(1.999)

    assert bucket.wait_s(1, clock()) == MIN_PAUSE_S
    clock.advance(0.001)
    assert bucket.wait_s(1, clock()) == 0


def test_a_rate_holds_over_time() -> None:
    """A tenant that always asks again after the pause it was told gets its rate and what its bucket held."""
    clock = ManualClock()
    admission = Admission(lambda tenant: Quotas(rounds_per_s=5.0), longest_pause_s=5.0, now=clock)
    start_s, passed = clock(), 0
    while clock() - start_s < 100:
        try:
            admission.check("acme", rounds=1, tokens=5)
        except QuotaExceededError as error:
            clock.advance(error.retry_after_s)
            continue
        admission.take("acme", rounds=1, tokens=5)
        passed += 1

    assert 500 <= passed <= 506


def test_a_tenants_debt_is_its_own_and_every_rate_counts() -> None:
    """Tokens run out while rounds are left, and another tenant notices nothing."""
    clock = ManualClock()
    quotas = {"acme": Quotas(rounds_per_s=100.0, tokens_per_s=10.0), "rival": Quotas(tokens_per_s=10.0)}
    admission = Admission(quotas.__getitem__, longest_pause_s=0.4, now=clock)
    admission.check("acme", rounds=1, tokens=5)
    admission.take("acme", rounds=1, tokens=65)
    with pytest.raises(QuotaExceededError) as caught:
        admission.check("acme", rounds=1, tokens=5)

    assert caught.value.message == "tenant acme is above its 10 tokens/s; expected a pause of 6.50 s."
    assert caught.value.retry_after_s == 0.4
    admission.check("rival", rounds=1, tokens=5)


def test_a_changed_rate_holds_from_the_next_request_on() -> None:
    """As after SIGHUP; what was used before is not forgotten."""
    clock = ManualClock()
    quotas = {"acme": Quotas(rounds_per_s=1.0)}
    admission = Admission(quotas.__getitem__, longest_pause_s=100.0, now=clock)
    admission.take("acme", rounds=10, tokens=5)
    with pytest.raises(QuotaExceededError) as slow:
        admission.check("acme", rounds=1, tokens=5)
    quotas["acme"] = Quotas(rounds_per_s=10.0)
    with pytest.raises(QuotaExceededError) as quick:
        admission.check("acme", rounds=1, tokens=5)
    quotas["acme"] = Quotas()
    admission.check("acme", rounds=1, tokens=5)

    assert (slow.value.retry_after_s, quick.value.retry_after_s) == (pytest.approx(10), pytest.approx(1))


def test_each_refused_request_is_told_a_turn_of_its_own() -> None:
    """One behind the other, up to the longest pause; all of them come back and none has waited in vain."""
    clock = ManualClock()
    admission = Admission(lambda tenant: Quotas(rounds_per_s=40.0), longest_pause_s=0.11, now=clock)
    admission.take("acme", rounds=10)
    turns_s = []
    for _ in range(6):
        with pytest.raises(QuotaExceededError) as caught:
            admission.check("acme", rounds=1)
        turns_s.append(caught.value.retry_after_s)
    start_s = clock()
    for turn_s in turns_s[:4]:
        clock.advance(start_s + turn_s - clock())
        admission.charge("acme", rounds=1)

    assert turns_s == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.11, 0.11])


def test_turns_nobody_came_for_are_forgotten() -> None:
    """However many were told, whoever asks after the longest pause is told what the first was."""
    clock = ManualClock()
    admission = Admission(lambda tenant: Quotas(rounds_per_s=40.0), longest_pause_s=2.0, now=clock)
    admission.take("acme", rounds=10)
    for _ in range(1000):
        with pytest.raises(QuotaExceededError):
            admission.check("acme", rounds=1)
    clock.advance(2.0)
    admission.take("acme", rounds=10)
    with pytest.raises(QuotaExceededError) as caught:
        admission.check("acme", rounds=1)

    assert caught.value.retry_after_s == pytest.approx(0.025)


# --- the cloud --------------------------------------------------------------------------------------------


async def test_a_round_above_the_rate_is_refused_and_may_come_again(tokens: Tokens) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo; the session is kept, and the same bytes get their verdict later."""
    token = tokens.add("acme", rounds_per_s=2.0)
    text, twin = EdgeText(seed=5), EdgeText(seed=5)
    async with running_cloud(WatchedModel(TARGET), security=ServerSecurity(access=tokens.access())) as cloud:
        peer, opened = await cloud.opened(text, token)
        refusals = 0
        while text.round <= 6:
            await peer.say(text.block())
            try:
                text.take(await peer.hear())
            except Exception:
                error = await peer.refusal()
                assert isinstance(error, QuotaExceededError), error
                assert 0 < error.retry_after_s <= 1
                refusals += 1
                await asyncio.sleep(error.retry_after_s)
                again = cloud.stream(token)
                again.follow(peer)
                await again.say(text.resuming(opened))
                await again.hear()
                peer = again
        await peer.closed()
    async with running_cloud(WatchedModel(TARGET)) as free:
        undisturbed = await whole_text(free, twin, 6)

    assert refusals >= 3
    assert text.committed == undisturbed


async def test_an_edge_that_makes_no_pause_is_refused_once_or_twice_a_second(tokens: Tokens) -> None:
    """The refusal itself is held back, so that a session cannot have hundreds; another stream ends that."""
    token = tokens.add("acme", tokens_per_s=0.001)
    text = EdgeText()
    async with running_cloud(WatchedModel(TARGET), security=ServerSecurity(access=tokens.access())) as cloud:
        loop = asyncio.get_running_loop()
        peer, opened = await cloud.opened(text, token)
        begin_s = loop.time()
        await peer.say(text.block())
        first = await peer.refusal()
        held_s = loop.time() - begin_s
        again = cloud.stream(token)
        again.follow(peer)
        await again.say(text.resuming(opened))
        await again.hear()
        await again.say(text.block())
        third = cloud.stream(token)
        await third.say(text.resuming(opened))
        superseded = await again.refusal()

        assert isinstance(first, QuotaExceededError)
        assert held_s >= 0.49 * MAX_HELD_BACK_S
        assert MAX_PAUSE_S - MAX_HELD_BACK_S <= first.retry_after_s <= MAX_PAUSE_S - MAX_HELD_BACK_S / 2
        assert isinstance(superseded, EpochSupersededError)


async def test_a_replayed_round_costs_nothing(tokens: Tokens) -> None:
    """It is answered from memory even when the rate is used up."""
    token = tokens.add("acme", rounds_per_s=0.001)
    text = EdgeText()
    async with running_cloud(WatchedModel(TARGET), security=ServerSecurity(access=tokens.access())) as cloud:
        peer, _ = await cloud.opened(text, token)
        block = text.block()
        await peer.say(block)
        first = await peer.hear()
        await peer.say(block)

        assert await peer.hear() == first
        text.take(first)
        await peer.say(text.block())
        assert isinstance(await peer.refusal(), QuotaExceededError)


async def test_rounds_replayed_again_and_again_cost_as_much_as_others(tokens: Tokens) -> None:
    """An edge repeats one round a stream; what repeats for ever is held to the rate."""
    token = tokens.add("acme", rounds_per_s=0.001)
    text = EdgeText()
    async with running_cloud(WatchedModel(TARGET), security=ServerSecurity(access=tokens.access())) as cloud:
        peer, _ = await cloud.opened(text, token)
        for _ in range(2):
            await peer.say(text.block())
            await peer.hear()
        await peer.say(text.block())

        assert isinstance(await peer.refusal(), QuotaExceededError)
        assert cloud.server.sessions == 1


async def test_a_payload_that_is_dear_to_decode_is_charged_before_it_is_looked_at(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round of 37 kB costs what a token costs for each millisecond of its decoding, legal or not."""
    charged: list[int] = []
    take = Admission.take

    def noted(self: Admission, tenant: str, *, rounds: int = 0, tokens: int = 0) -> None:
        charged.append(tokens)
        take(self, tenant, rounds=rounds, tokens=tokens)

    monkeypatch.setattr(Admission, "take", noted)
    token = tokens.add("acme", tokens_per_s=1e6)
    async with running_cloud(WatchedModel(TARGET), security=ServerSecurity(access=tokens.access())) as cloud:
        text = EdgeText()
        peer, _ = await cloud.opened(text, token)
        await peer.say(text.block())
        text.take(await peer.hear())
        await peer.say(text.sealed(text.block(), draft_length=64, payload=b"\1" * 37_226))
        await peer.refusal()

    assert charged == [0, 3, 3, 65 + 563], "a stream, a prompt of 3, γ + 1, and γ + 1 with its decoding"


async def test_a_prompt_counts_among_the_tokens(tokens: Tokens) -> None:
    """Or a tenant that opens and closes would have the target's passes for nothing."""
    token = tokens.add("acme", tokens_per_s=1.0)
    async with running_cloud(WatchedModel(TARGET), security=ServerSecurity(access=tokens.access())) as cloud:
        peer, _ = await cloud.opened(EdgeText(), token)
        await peer.closed()
        second = cloud.stream(token)
        await second.say(EdgeText().open)

        assert "above its 1 tokens/s" in (await second.refusal()).message
        assert cloud.server.sessions == 0


async def test_a_tenant_at_its_sessions_is_refused_and_another_is_not(tokens: Tokens) -> None:
    """A kept session of its own makes room first; another tenant's is never taken for it."""
    acme, rival = tokens.add("acme", max_sessions=1), tokens.add("rival", max_sessions=1)
    settings = CloudSettings(max_sessions=8, allow_dense_f16=True)
    async with running_cloud(WatchedModel(TARGET), settings, ServerSecurity(access=tokens.access())) as cloud:
        held, _ = await cloud.opened(EdgeText(), acme)
        torn, kept = await cloud.opened(EdgeText(seed=2), rival)
        torn.tear()
        second = cloud.stream(acme)
        await second.say(EdgeText().open)
        error = await second.refusal()
        resumed = cloud.stream(rival)
        await resumed.say(EdgeText(seed=2).resuming(kept))

        assert isinstance(error, QuotaExceededError)
        assert error.message == "1 sessions of tenant acme are open; expected fewer than 1."
        assert getattr(await resumed.hear(), "session_id", None) == kept.session_id
        await held.closed()
        await resumed.closed()
        third, _ = await cloud.opened(EdgeText(), acme)
        await third.closed()


# --- the edge ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quotas", [{"rounds_per_s": 8.0}, {"tokens_per_s": 20.0}], ids=["rounds", "tokens"])
async def test_a_text_that_meets_its_quota_is_the_undisturbed_text(
    tokens: Tokens, quotas: dict[str, float]
) -> None:
    """The edge waits and resends; no token is lost, changed or doubled, and nobody is asked."""
    token = tokens.add("acme", **quotas)
    request = make_request(seed=9, max_tokens=40)
    async with loopback(
        *models(),
        VOCABULARY,
        cloud_security=ServerSecurity(access=tokens.access()),
        to_cloud=ClientSecurity(token=token),
    ) as both:
        held_back = await generate(both.client, request)
    async with loopback(*models(), VOCABULARY) as free:
        undisturbed = await generate(free.client, request)

    assert held_back.finished.statistics.reconnects >= 2
    assert undisturbed.finished.statistics.reconnects == 0
    assert held_back.tokens == undisturbed.tokens


async def test_a_second_text_waits_for_the_tenants_only_session(tokens: Tokens) -> None:
    """Both come out as they would alone."""
    token = tokens.add("acme", max_sessions=1)
    requests = [make_request(seed=seed, max_tokens=20) for seed in (1, 2)]
    async with loopback(
        *models(),
        VOCABULARY,
        cloud_security=ServerSecurity(access=tokens.access()),
        to_cloud=ClientSecurity(token=token),
    ) as both:
        together = await asyncio.gather(*(generate(both.client, request) for request in requests))
    async with loopback(*models(), VOCABULARY) as free:
        alone = [await generate(free.client, request) for request in requests]

    assert [text.tokens for text in together] == [text.tokens for text in alone]


async def test_a_quota_that_never_gives_way_fails_the_text_within_a_rounds_time(tokens: Tokens) -> None:
    """With the cloud's own status, after less than the time a round may take."""
    token = tokens.add("acme", rounds_per_s=0.001)
    async with loopback(
        *models(),
        VOCABULARY,
        cloud_security=ServerSecurity(access=tokens.access()),
        to_cloud=ClientSecurity(token=token),
        edge_settings=EdgeSettings(round_timeout_s=2.0),
    ) as both:
        with pytest.raises(QuotaExceededError, match=r"acme is above its 0\.001 rounds/s"):
            await generate(both.client, make_request(max_tokens=30))
