"""The capacity benchmark: what is replayed, counted and said of many edges and of two tenants."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from bench.capacity import __main__ as command
from bench.capacity import measure, tenants
from bench.capacity.daemons import CLOUD, serving
from bench.capacity.free_edge import free_edge
from bench.capacity.load import DECODING, EXCESS, QUOTAS, Job, Load, Slice
from bench.capacity.measure import Plan, Seen, Way, append_lines, schedule
from bench.capacity.session import LOST_STATUS_PAUSE_S, Answer, ReplayedSession, refusal_of
from bench.capacity.texts import (
    RANDOM_TEXTS,
    RecordedRound,
    RecordedText,
    random_texts,
    read_texts,
    record,
    request_of,
    write_texts,
)
from loopback import WatchedModel
from security.credentials import Tokens
from thinwire.cloud.settings import CloudSettings
from thinwire.common import wire
from thinwire.common.door.security import ClientSecurity, ServerSecurity
from thinwire.common.errors import (
    QuotaExceededError,
    ResourceExhaustedError,
    SessionNotFoundError,
    ThinwireError,
)
from thinwire.common.session.messages import Verdict
from verify_peer import TARGET, EdgeText, running_cloud

RATE = 10.0
"""Rounds a second; a loaded machine must still answer some rounds within the time before they are torn."""
PLAN = Plan(offers=QUOTAS, slices=2, settle_s=1.5, seconds=5.0)
NO_TOKEN = wire.call_metadata(ClientSecurity())


async def recorded_text(*, rounds: int) -> RecordedText:
    """As a table model's cloud decides it."""
    text, writer, made = EdgeText(), wire.EdgeStreamWriter(), []
    opening = wire.EdgeStreamWriter().to_proto(text.open).SerializeToString()
    async with running_cloud(WatchedModel(TARGET)) as cloud:
        peer, _ = await cloud.opened(text)
        for number in range(rounds):
            request = writer.to_proto(text.block())
            await peer.say_proto(request)
            verdict = await peer.hear()
            assert isinstance(verdict, Verdict)
            text.take(verdict)
            decided = verdict.accepted, verdict.next_token_id
            made.append(RecordedRound(request.SerializeToString(), number / 1000, *decided))
        await peer.closed()
    return RecordedText("", opening, tuple(made))


async def test_a_text_is_recorded_as_it_crosses_between_the_shipped_daemons(tmp_path: Path) -> None:
    """Every round with its draft time; the verdicts make up the text; it survives its file."""
    draft_ms = await record(tmp_path, tmp_path / "texts", count=1, tokens=8, threads=1)
    (text,) = read_texts(tmp_path / "texts")

    assert draft_ms > 0
    assert text.open
    assert all(one.draft_s > 0 and one.request for one in text.rounds)
    assert 8 <= sum(one.accepted + 1 for one in text.rounds) < 16
    write_texts(tmp_path / "texts", [text, text])
    assert read_texts(tmp_path / "texts") == [text, text]


async def test_hints_are_recorded_with_what_the_edge_held_and_sent_again_then(tmp_path: Path) -> None:
    """
    Beside a cloud that writes by itself: the text is the same with the hints as recorded and without any.

    Recorded at passes of 20 ms, so that guesses come in time. With hints it takes fewer messages down.
    """
    paced = {"count": 1, "tokens": 24, "threads": 1, "scheme": "coupled", "paced_ms": 20.0}
    await record(tmp_path, tmp_path / "texts", **paced)
    (text,) = read_texts(tmp_path / "texts")
    length = len(request_of(text.open).open.prompt_token_ids)
    counts, passes = Counter[str](), {}
    cloud = (CLOUD, "--threads", "1", "--paced", "20,0", "--no-copied-hints")
    async with (
        serving(tmp_path, {"cloud": cloud}) as daemons,
        grpc.aio.insecure_channel(await daemons["cloud"].address()) as channel,
    ):
        for is_hinted in (True, False):
            edge = free_edge(channel, NO_TOKEN, [text], 0, counts, is_hinted=is_hinted)
            tokens, passes[is_hinted] = 0, 0
            while tokens < 24:
                answer = await asyncio.wait_for(anext(edge), 60)
                tokens, passes[is_hinted] = tokens + answer.tokens, passes[is_hinted] + 1
                assert answer.took_s > 0
            await asyncio.wait_for(anext(edge), 60)  # the next text, once this one was closed
            await edge.aclose()

    assert len(text.tokens) == 24
    assert all(length <= hint.held_length < length + 24 and hint.after_s >= 0 for hint in text.hints)
    assert any(request_of(hint.request).hints.draft_length for hint in text.hints)
    assert counts == {"texts": 2, "other_verdicts": 0}
    assert passes[True] < passes[False] == 24


def test_the_figures_of_a_cell(tmp_path: Path) -> None:
    """Tokens a second, the daemon's CPU a token, and the percentiles of its rounds; sums over slices."""
    part = Slice(QUOTAS[0], 9.0, 10.0, 20.0)
    cell = Seen(way="x", edges=4)
    cell.add(part, [Load([Answer(15.0, n / 1000, 1) for n in range(1, 51)])], 0.25, {"texts": 1})
    cell.add(part, [Load([Answer(15.0, n / 1000, 1) for n in range(51, 102)])], 0.255, {"texts": 2})
    append_lines(tmp_path / "lines", [cell.line()])

    assert json.loads((tmp_path / "lines").read_text()) == {
        "way": "x",
        "edges": 4,
        "texts": 3,
        "seconds": 20.0,
        "tokens": 101,
        "cpu_s": pytest.approx(0.505),
        "rounds": 101,
        "tokens_per_s": 101 / 20,
        "cpu_ms_per_token": pytest.approx(5.0),
        "p95_ms_by_slice": pytest.approx([47.55, 98.5]),
        "round_p50_ms": pytest.approx(51.0),
        "round_p95_ms": pytest.approx(96.0),
    }


@pytest.mark.parametrize(
    ("ratios", "sentence"),
    [
        ([(1, 0.5), (4, 0.9)], "Against transformers, batched: lost at every number of edges."),
        ([(1, 1.5)], "Against transformers, batched: won at every number of edges."),
        (
            [(1, 0.8), (2, 1.2), (4, 1.3), (8, 0.9)],
            "Against transformers, batched the order flips between 1 and 2 edges (won from there on), "
            "between 4 and 8 edges (lost from there on).",
        ),
    ],
)
def test_the_order_and_where_it_flips(ratios: list[tuple[int, float]], sentence: str) -> None:
    """Every change is named, with the numbers of edges on both sides of it."""
    assert command.order_of(ratios) == sentence


def test_the_whole_table_is_estimated_at_about_a_quarter_of_an_hour() -> None:
    """Seven numbers of edges, two pacings, three ways, two slices of 3.5 s each."""
    assert 13 * 60 <= command.estimated_s(command.EDGES) <= 17 * 60


def ended(code: grpc.StatusCode, reason: type[ThinwireError] | None) -> grpc.aio.AioRpcError:
    """What a stream raises that ended so; with details, a pause of 2 s among them, if there is a reason."""
    status = status_pb2.Status(code=code.value[0])
    if reason is not None:
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason.reason, domain="thinwire"))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2)))
    details = [("grpc-status-details-bin", status.SerializeToString())] if reason else []
    words = "Internal error from Core"
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*details), details=words)


@pytest.mark.parametrize(
    ("code", "reason", "refusal"),
    [
        # INTERNAL without details is gRPC's own; it is waited out like a refusal that kept its status.
        (grpc.StatusCode.INTERNAL, None, ("", LOST_STATUS_PAUSE_S)),
        (grpc.StatusCode.NOT_FOUND, SessionNotFoundError, ("", 0.0)),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, QuotaExceededError, ("quota_refusals", 2.0)),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ResourceExhaustedError, ("other_refusals", 2.0)),
    ],
)
def test_a_refusal_says_what_it_was_for(
    code: grpc.StatusCode, reason: type[ThinwireError] | None, refusal: tuple[str, float]
) -> None:
    """And how long to wait."""
    assert refusal_of(ended(code, reason)) == refusal


@pytest.mark.parametrize(
    ("code", "reason"), [(grpc.StatusCode.INTERNAL, ThinwireError), (grpc.StatusCode.UNKNOWN, None)]
)
def test_what_ended_a_stream_and_is_no_refusal_is_raised(
    code: grpc.StatusCode, reason: type[ThinwireError] | None
) -> None:
    """An INTERNAL that the cloud means says so."""
    with pytest.raises(ThinwireError, match="Internal error from Core") as found:
        refusal_of(ended(code, reason))

    assert type(found.value) is ThinwireError


def test_every_offer_gets_as_much_time_and_every_second_cycle_runs_backwards() -> None:
    """Without gaps; a drift of the machine then meets all of them. All that offer too much offer as much."""
    slices = schedule(PLAN, 100.0)

    assert [part.offer for part in slices] == [*QUOTAS, *reversed(QUOTAS)]
    assert slices[0] == Slice(QUOTAS[0], 100.0, 101.5, 106.5)
    assert [part.begin_s for part in slices[1:]] == [part.end_s for part in slices[:-1]]
    assert {part.end_s - part.counted_s for part in slices} == {5.0}
    assert [offer.quotas for offer in QUOTAS + DECODING] == [1, EXCESS, EXCESS, EXCESS, 0, 1]


def test_what_ends_in_a_slice_counts_for_its_offer() -> None:
    """Neither the settling before it nor the instant of its end; the same offer's slices come together."""
    slices = schedule(replace(PLAN, seconds=2.0, settle_s=1.0), 0.0)
    ends_s = [0.5, 1.0, 2.5, 3.0, 4.5, 22.5]
    steady = Load([Answer(end_s, 0.010 + end_s / 1000, 1) for end_s in ends_s], counts=Counter(refusals=3))
    limited = Load(slices=[Counter(attempts=5, admitted=2, quota_refusals=3, torn=1) for _ in slices])

    lines = tenants.by_offer(slices, [steady, limited], [0.25] * 8)

    assert [line["offer"] for line in lines] == [offer.name for offer in QUOTAS]
    assert [line["rounds"] for line in lines] == [3, 1, 0, 0]
    assert lines[0]["p95_ms_by_slice"] == pytest.approx([12.425, 32.5])
    assert lines[1]["p95_ms_by_slice"] == pytest.approx([14.5, float("nan")], nan_ok=True)
    assert [line.get("steady_refusals") for line in lines] == [3, None, None, None]
    counted = {"seconds": 4.0, "cpu_s": 0.5, "attempts": 10, "admitted": 4, "quota_refusals": 6, "torn": 2}
    assert all(counted.items() <= line.items() for line in lines)


@pytest.mark.parametrize(("slowed_by", "word"), [(1.19, "met"), (1.21, "missed")])
def test_the_ratio_is_that_of_the_ninety_fifth_percentiles(slowed_by: float, word: str) -> None:
    """1.2 is the most that is wanted."""
    slices = schedule(Plan(offers=QUOTAS, slices=1, seconds=10.0), 0.0)
    answers = [
        Answer(part.begin_s, (slowed_by if part.offer is QUOTAS[2] else 1.0) * n / 1000, 1)
        for part in slices
        for n in range(1, 102)
    ]
    counts = [Counter(admitted=200) for _ in slices]
    counts[2].update(attempts=2000, quota_refusals=1800)
    loads = Load(answers, Counter(refusals=3)), Load(slices=counts)
    lines = tenants.by_offer(slices, loads, [0.0] * 4)

    text = tenants.report(PLAN, lines, alone=50.0, quota=20.0)

    assert "ten times, patient: p95 1.00 times that at quota (≤ 1.2 wanted: met)." in text
    assert f"ten times, hostile: p95 {slowed_by:.2f} times that at quota (≤ 1.2 wanted: {word})." in text
    assert "| 51.0 / 96.0 | 1.00 | 96.0 to 96.0 |" in text
    assert "| 200.0 | 20.0 | 180.0 | 0.0 |" in text
    assert text.endswith(
        "Refused for want of room: 0 of the limited tenant's; of the steady tenant's, whatever for: 3."
    )


async def test_a_refused_round_is_sent_again_until_its_text_is_over(tmp_path: Path) -> None:
    """On a new stream of the same session; the verdicts are the recorded ones, and the next text begins."""
    recorded = await recorded_text(rounds=6)
    tokens = Tokens(tmp_path / "tokens.json")
    metadata = wire.call_metadata(ClientSecurity(token=tokens.add("acme", rounds_per_s=4.0)))
    async with running_cloud(WatchedModel(TARGET), security=ServerSecurity(access=tokens.access())) as cloud:
        session = ReplayedSession(cloud.channel, metadata, [recorded])
        admitted, refused = [], []
        while len(admitted) < 7:
            answer = await session.exchange()
            (admitted if answer.pause_s is None else refused).append(answer)
            held = cloud.server.sessions
        session.abandon()

    assert {answer.kind for answer in admitted} == {"admitted"}
    assert {answer.kind for answer in refused} == {"quota_refusals"}
    assert all(0 < answer.took_s < answer.at_s for answer in admitted)
    assert held == 1, "the first text's session was closed"
    assert session.counts == {"texts": 1, "other_verdicts": 0}
    assert session.draft_s == recorded.rounds[1].draft_s, "the second text's first round is decided"


async def test_a_session_the_cloud_forgot_begins_anew_and_wants_no_room() -> None:
    """It is told apart from a refusal for want of room, and the next text is decided as recorded."""
    recorded = await recorded_text(rounds=6)
    model = WatchedModel(TARGET)
    async with running_cloud(model, CloudSettings(resume_ttl_s=0.1)) as cloud:
        session = ReplayedSession(cloud.channel, NO_TOKEN, [recorded])
        for _ in range(2):
            await session.exchange()
        session.abandon()
        assert await model.freed_within(10)
        forgotten, answer = await session.exchange(), await session.exchange()
        session.abandon()

    assert session.draft_s == recorded.rounds[1].draft_s, "the next text's first round is decided"
    assert (forgotten.kind, forgotten.pause_s) == ("", 0.0)
    assert answer.kind == "admitted"


async def test_a_block_of_random_bytes_is_decoded_in_vain() -> None:
    """Each ends its session, and the next one has other bytes."""
    texts = random_texts(await recorded_text(rounds=1), 3)
    async with running_cloud(WatchedModel(TARGET)) as cloud:
        session = ReplayedSession(cloud.channel, NO_TOKEN, texts, in_vain=True)
        answers = [await session.exchange() for _ in range(3)]

    assert len({text.rounds[0].request for text in texts}) == RANDOM_TEXTS
    assert [(answer.tokens, answer.kind) for answer in answers] == 3 * [(0, "admitted")]
    assert not session.counts["texts"]


async def test_both_tenants_are_measured_side_by_side(tmp_path: Path) -> None:
    """Processes of their own against one cloud: the steady one is never refused, the other is."""
    tokens = Tokens(tmp_path / "tokens.json")
    pair = tokens.add(tenants.STEADY), tokens.add(tenants.LIMITED, rounds_per_s=RATE)
    texts = tmp_path / "texts.jsonl"
    write_texts(texts, [await recorded_text(rounds=6)])
    # As nice as everybody: on a loaded machine a nicer process would be answered no round in time.
    plan = Plan(offers=QUOTAS, slices=1, settle_s=1.0, seconds=2.0, niceness=0)
    # As the bench's own cloud: its edges have one address here, and would have many elsewhere.
    settings = CloudSettings(max_sessions=100, max_unopened_per_peer=100, allow_dense_f16=True)
    security = ServerSecurity(access=tokens.access())
    async with running_cloud(WatchedModel(TARGET), settings, security) as cloud:
        daemon: Any = SimpleNamespace(address=AsyncMock(return_value=cloud.address), cpu_s=0.0)
        lines = await tenants.measure_tenants(plan, daemon, texts, pair, RATE)
    _, patient, hostile, tearing = lines

    assert lines[0]["steady_refusals"] == 0
    assert all(line["rounds"] > 0 for line in lines)
    assert all(0 < line["admitted"] <= line["attempts"] for line in lines)
    assert patient["quota_refusals"] > 0
    assert hostile["quota_refusals"] > 0
    assert tearing["torn"] > 0
    assert not any(line.get("torn") for line in lines[:-1])
    assert not any(line.get("other_refusals") for line in lines)


async def test_the_ways_take_turns_and_each_has_its_daemon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The most edges first, split over two processes; a line a way, written as it comes."""
    asked = []

    async def measured(daemon: Any, jobs: Sequence[Job], plan: Plan) -> Any:
        asked.append((daemon, [(job.numbers, job.is_hinted) for job in jobs]))
        answers = [Answer(1.0, 0.05, 2) for _ in range(10)]
        return [Slice(QUOTAS[0], 0.0, 0.0, 10.0)], [Load(answers)], [0.5]

    monkeypatch.setattr(measure, "measure", measured)
    free = partial(Job, texts=tmp_path)
    ways = {
        name: Way(daemon, lambda edges, is_hinted=is_hinted: partial(free, is_hinted=is_hinted))
        for name, daemon, is_hinted in (("coupled", "one", True), ("plain streams", "other", False))
    }
    plan, daemons = Plan(edges=(1, 4), slices=2, seconds=10.0), {"one": "a cloud", "other": "another"}
    rows = [row async for row in measure.measure_ways(plan, daemons, ways, 50.0, tmp_path / "lines")]

    assert [edges for edges, _ in rows] == [4, 1]
    halves = range(2), range(2, 4)
    assert asked[:4] == 2 * [
        ("a cloud", [(numbers, True) for numbers in halves]),
        ("another", [(numbers, False) for numbers in halves]),
    ]
    assert [line["tokens_per_s"] for _, lines in rows for line in lines] == 4 * [2.0]
    written = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert [line["way"] for line in written] == 2 * ["coupled", "plain streams"]


def test_the_arguments_of_tenants(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own defaults; --edges is refused beside it."""
    asked = []

    async def noted(plan: Plan, out: Path | None) -> str:
        asked.append((plan.slices, plan.seconds, plan.offers, out))
        return "a table"

    monkeypatch.setattr(tenants, "run", noted)
    for words in ("--tenants", "--tenants --decoding --slices 2 --seconds 3 --out x.jsonl"):
        monkeypatch.setattr(sys, "argv", ["bench.capacity", *words.split()])
        assert command.main() == 0
    monkeypatch.setattr(sys, "argv", ["bench.capacity", "--tenants", "--edges", "1,2"])
    with pytest.raises(SystemExit) as refused:
        command.main()
    monkeypatch.setattr(sys, "argv", ["bench.capacity", "--tenants", "--free"])
    with pytest.raises(SystemExit):
        command.main()

    assert asked == [(6, 5.0, QUOTAS, None), (2, 3.0, DECODING, Path("x.jsonl"))]
    assert refused.value.code == 2
    said = capsys.readouterr().err
    assert "--edges has no place beside --tenants" in said
    assert "--free has no place beside --tenants" in said
