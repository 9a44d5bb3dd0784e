"""What two tenants are told, what is counted of them, and what is said of it."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.capacity import __main__ as command
from bench.capacity.load import Load, is_for_want_of_room
from bench.capacity.measure import Seen
from bench.capacity.random_payloads import COUNT, random_texts
from bench.capacity.session import ForgottenSessionError, LostRefusalError, ReplayedSession
from bench.capacity.slices import DECODING, EXCESS, QUOTAS, Offer, Slice, schedule
from bench.capacity.tenants import LIMITED, STEADY, TenantPlan, by_offer, measure_tenants, report
from bench.capacity.texts import RecordedRound, RecordedText, write_texts
from loopback import WatchedModel
from security.credentials import Tokens
from thinwire.cloud.settings import CloudSettings
from thinwire.common import wire
from thinwire.common.door.security import ClientSecurity, ServerSecurity
from thinwire.common.errors import QuotaExceededError, ResourceExhaustedError
from thinwire.common.session.messages import Verdict
from verify_peer import TARGET, EdgeText, running_cloud

RATE = 10.0
"""Rounds a second; a loaded machine must still answer some rounds within the time before they are torn."""
PLAN = TenantPlan(texts=4, tokens=32, cycles=2, seconds=5.0, settle_s=1.5, threads=1)


def test_every_offer_gets_as_much_time_and_every_second_cycle_runs_backwards() -> None:
    """Without gaps; a drift of the machine then meets all of them."""
    slices = schedule(100.0, cycles=2, seconds=5.0, settle_s=1.5)

    assert [part.offer for part in slices] == [*QUOTAS, *reversed(QUOTAS)]
    assert slices[0] == Slice(Offer.AT_QUOTA, 100.0, 101.5, 106.5)
    assert [part.begin_s for part in slices[1:]] == [part.end_s for part in slices[:-1]]
    assert {part.end_s - part.counted_s for part in slices} == {5.0}


def test_one_quota_and_ten() -> None:
    """All ways of offering too much offer as much."""
    assert [offer.factor for offer in QUOTAS] == [1, EXCESS, EXCESS, EXCESS]
    assert [offer.factor for offer in DECODING] == [0, 1]


def test_what_ends_in_a_slice_counts_for_its_offer() -> None:
    """Neither the settling before it nor the instant of its end; the same offer's slices come together."""
    slices = schedule(0.0, cycles=2, seconds=2.0, settle_s=1.0)
    ends_s = [0.5, 1.0, 2.5, 3.0, 4.5, 22.5]
    steady = Load([(end_s, 0.010 + end_s / 1000, 1) for end_s in ends_s], counts=Counter(refusals=3))
    limited = Load(slices=[Counter(attempts=5, admitted=2, quota_refusals=3, torn=1) for _ in slices])

    found = by_offer(slices, steady, limited, [0.25] * 8)

    assert [seen.label["offer"] for seen in found] == [offer.value for offer in QUOTAS]
    assert found[0].round_s == [pytest.approx([0.011, 0.0125]), pytest.approx([0.0325])]
    assert found[1].round_s == [pytest.approx([0.0145]), []]
    assert found[2].round_s == found[3].round_s == [[], []]
    assert {(one.seconds, one.cpu_s, one.counts["attempts"]) for one in found} == {(4.0, 0.5, 10)}
    assert {(one.counts["quota_refusals"], one.counts["torn"]) for one in found} == {(6, 2)}
    assert sum(one.counts["steady_refusals"] for one in found) == 3


@pytest.mark.parametrize(("slowed_by", "word"), [(1.19, "met"), (1.21, "missed")])
def test_the_ratio_is_that_of_the_ninety_fifth_percentiles(slowed_by: float, word: str) -> None:
    """1.2 is the most that is wanted."""
    part = Slice(Offer.AT_QUOTA, 0.0, 0.0, 10.0)
    found = [Seen(offer=offer.value) for offer in QUOTAS]
    for seen in found:
        slower, counts = 1.0, {"admitted": 200}
        if seen is found[2]:
            slower, counts = slowed_by, {"attempts": 2000, "admitted": 200, "quota_refusals": 1800}
        seen.add(part, [Load([(1.0, slower * n / 1000, 1) for n in range(1, 102)])], 0.0, counts)
    found[0].counts["steady_refusals"] = 3

    text = report(PLAN, found, alone=50.0, quota=20.0)

    assert "ten times, patient: p95 1.00 times that at quota (≤ 1.2 wanted: met)." in text
    assert f"ten times, hostile: p95 {slowed_by:.2f} times that at quota (≤ 1.2 wanted: {word})." in text
    assert "| 51.0 / 96.0 | 1.00 | 96.0 to 96.0 |" in text
    assert "| 200.0 | 20.0 | 180.0 | 0.0 |" in text
    assert text.endswith(
        "Refused for want of room: 0 of the limited tenant's; of the steady tenant's, whatever for: 3."
    )
    assert json.loads(found[2].to_json())["round_p95_ms"] == pytest.approx(96.0 * slowed_by)


async def test_a_refused_round_is_sent_again_until_its_text_is_over(tmp_path: Path) -> None:
    """On a new stream of the same session; the verdicts are the recorded ones, and the next text begins."""
    recorded = await recorded_text(rounds=6)
    tokens = Tokens(tmp_path / "tokens.json")
    metadata = wire.call_metadata(ClientSecurity(token=tokens.add("acme", rounds_per_s=4.0)))
    async with running_cloud(WatchedModel(TARGET), security=ServerSecurity(access=tokens.access())) as cloud:
        session = ReplayedSession(cloud.channel, metadata, [recorded], 0)
        refusals: list[ResourceExhaustedError] = []
        exchanged = 0
        while exchanged < 7:
            try:
                sent_s, heard_s, _ = await session.exchange()
                exchanged += 1
                assert sent_s < heard_s
            except ResourceExhaustedError as refused:
                refusals.append(refused)
            held = cloud.server.sessions
        session.abandon()

    assert refusals
    assert all(isinstance(refused, QuotaExceededError) for refused in refusals)
    assert held == 1, "the first text's session was closed"
    assert session.draft_s == recorded.rounds[1].draft_s, "the second text's first round is decided"


async def test_a_session_the_cloud_forgot_begins_anew_and_wants_no_room() -> None:
    """It is told apart from a refusal for want of room, and the next text is decided as recorded."""
    recorded = await recorded_text(rounds=6)
    model = WatchedModel(TARGET)
    async with running_cloud(model, CloudSettings(resume_ttl_s=0.1)) as cloud:
        session = ReplayedSession(cloud.channel, wire.call_metadata(ClientSecurity()), [recorded], 0)
        for _ in range(2):
            await session.exchange()
        session.abandon()
        assert await model.freed_within(10)
        with pytest.raises(ForgottenSessionError) as forgotten:
            await session.exchange()
        await session.exchange()
        session.abandon()

    assert session.draft_s == recorded.rounds[1].draft_s, "the next text's first round is decided"
    assert not is_for_want_of_room(forgotten.value)
    assert not is_for_want_of_room(LostRefusalError("INTERNAL", retry_after_s=0.1))
    assert is_for_want_of_room(ResourceExhaustedError("all slots are taken."))


async def test_a_block_of_random_bytes_is_decoded_in_vain() -> None:
    """Each ends its session, and the next one has other bytes."""
    texts = random_texts(await recorded_text(rounds=1), 3)
    async with running_cloud(WatchedModel(TARGET)) as cloud:
        metadata = wire.call_metadata(ClientSecurity())
        session = ReplayedSession(cloud.channel, metadata, texts, 0, in_vain=True)
        answers = [await session.exchange() for _ in range(3)]

    assert len({text.rounds[0].request for text in texts}) == COUNT
    assert [tokens for _, _, tokens in answers] == [0, 0, 0]
    assert not session.counts["texts"]


async def test_both_tenants_are_measured_side_by_side(tmp_path: Path) -> None:
    """Processes of their own against one cloud: the steady one is never refused, the other is."""
    tokens = Tokens(tmp_path / "tokens.json")
    pair = tokens.add(STEADY), tokens.add(LIMITED, rounds_per_s=RATE)
    texts = tmp_path / "texts.jsonl"
    write_texts(texts, [await recorded_text(rounds=6)])
    # As nice as everybody: on a loaded machine a nicer process would be answered no round in time.
    plan = TenantPlan(texts=1, tokens=6, cycles=1, seconds=2.0, settle_s=1.0, threads=1, niceness=0)
    # As the bench's own cloud: its edges have one address here, and would have many elsewhere.
    settings = CloudSettings(max_sessions=100, max_unopened_per_peer=100, allow_dense_f16=True)
    security = ServerSecurity(access=tokens.access())
    async with running_cloud(WatchedModel(TARGET), settings, security) as cloud:
        daemon: Any = ThisProcess(cloud.address)
        found = await measure_tenants(plan, daemon, texts, pair, RATE)
    counts = {seen.label["offer"]: seen.counts for seen in found}

    assert found[0].counts["steady_refusals"] == 0
    assert all(seen.rounds > 0 for seen in found)
    assert all(0 < one["admitted"] <= one["attempts"] for one in counts.values())
    assert counts[Offer.PATIENT.value]["quota_refusals"] > 0
    assert counts[Offer.HOSTILE.value]["quota_refusals"] > 0
    assert counts[Offer.TEARING.value]["torn"] > 0
    assert sum(one["torn"] for one in counts.values()) == counts[Offer.TEARING.value]["torn"]
    assert sum(one["other_refusals"] for one in counts.values()) == 0


class ThisProcess:
    """A cloud in the test's own process, as `MeasuredDaemon` shows one."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def address(self) -> str:
        """HOST:PORT."""
        return self._address

    @property
    def cpu_s(self) -> float:
        """Seconds."""
        return time.process_time()


async def recorded_text(*, rounds: int) -> RecordedText:
    """As a table model's cloud decides it."""
    text, made = EdgeText(), []
    opening = wire.EdgeStreamWriter().to_proto(text.open).SerializeToString()
    writer = wire.EdgeStreamWriter()
    async with running_cloud(WatchedModel(TARGET)) as cloud:
        peer, _ = await cloud.opened(text)
        for number in range(rounds):
            request = writer.to_proto(text.block())
            await peer.say_proto(request)
            verdict = await peer.hear()
            assert isinstance(verdict, Verdict)
            text.take(verdict)
            made.append(
                RecordedRound(
                    request.SerializeToString(), number / 1000, verdict.accepted, verdict.next_token_id
                )
            )
        await peer.closed()
    return RecordedText("", opening, tuple(made))


def test_the_arguments_of_tenants(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own defaults; --edges is refused beside it."""
    asked = []

    async def noted(plan: TenantPlan, out: Path | None) -> str:
        asked.append((plan.cycles, plan.seconds, out))
        return "a table"

    monkeypatch.setattr(command, "run_tenants", noted)
    for arguments in (["--tenants"], ["--tenants", "--slices", "2", "--seconds", "3", "--out", "x.jsonl"]):
        monkeypatch.setattr(sys, "argv", ["bench.capacity", *arguments])
        assert command.main() == 0
    monkeypatch.setattr(sys, "argv", ["bench.capacity", "--tenants", "--edges", "1,2"])
    with pytest.raises(SystemExit) as ended:
        command.main()

    assert asked == [(6, 5.0, None), (2, 3.0, Path("x.jsonl"))]
    assert ended.value.code == 2
    assert "--edges has no place beside --tenants" in capsys.readouterr().err
