"""The capacity benchmark's arithmetic, its records, and what it takes for a refusal."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from bench.capacity.__main__ import Plan, order_of
from bench.capacity.load import Load
from bench.capacity.measure import Seen
from bench.capacity.session import LOST_STATUS_PAUSE_S, refusal_of
from bench.capacity.slices import Offer, Slice
from bench.capacity.texts import RecordedRound, RecordedText, read_texts, record, write_texts
from thinwire.common.errors import ResourceExhaustedError, SessionNotFoundError, ThinwireError

PART = Slice(Offer.AT_QUOTA, 9.0, 10.0, 20.0)


def test_recorded_texts_survive_their_file(tmp_path: Path) -> None:
    """What is written is what is read."""
    text = RecordedText("def f():\n", b"\0\xff", (RecordedRound(b"x", 0.0125, 3, 17),))
    write_texts(tmp_path / "texts", [text, text])

    assert read_texts(tmp_path / "texts") == [text, text]


async def test_a_text_is_recorded_as_it_crosses_between_the_shipped_daemons(tmp_path: Path) -> None:
    """Every round with its draft time; the verdicts make up the text."""
    draft_ms = await record(tmp_path, tmp_path / "texts", count=1, tokens=8, threads=1)
    (text,) = read_texts(tmp_path / "texts")

    assert draft_ms > 0
    assert text.open
    assert all(one.draft_s > 0 and one.request for one in text.rounds)
    assert 8 <= sum(one.accepted + 1 for one in text.rounds) < 16


def test_only_answers_within_the_measurement_count() -> None:
    """From its counted beginning to before its end."""
    load = Load([(now_s, 0.5, 2) for now_s in (9.99, 10.0, 19.99, 20.0)])

    assert load.within(PART) == [(0.5, 2), (0.5, 2)]


def test_the_figures_of_a_cell() -> None:
    """Tokens a second, the daemon's CPU a token, and the percentiles of its rounds; sums over slices."""
    cell = Seen(way="x", edges=4)
    cell.add(PART, [Load([(15.0, n / 1000, 1) for n in range(1, 51)])], 0.25, {"texts": 1})
    cell.add(PART, [Load([(15.0, n / 1000, 1) for n in range(51, 102)])], 0.255, {"texts": 2})
    values = json.loads(cell.to_json())

    assert cell.tokens_per_s == 101 / 20
    assert cell.cpu_ms_per_token == 5.0
    assert cell.percentiles_ms == pytest.approx((51.0, 96.0))
    assert (values["way"], values["rounds"], values["seconds"], values["texts"]) == ("x", 101, 20.0, 3)
    assert math.isnan(Seen().percentiles_ms[0])


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
    assert order_of(ratios) == sentence


def ended(code: grpc.StatusCode, reason: str | None = None, pause_s: int | None = None) -> Any:
    """What a stream raises that ended so; with details where there is a reason."""
    details: list[Any] = []
    if reason is not None:
        details.append(error_details_pb2.ErrorInfo(reason=reason, domain="thinwire"))
    if pause_s is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=pause_s)))
    packed = [any_pb2.Any() for _ in details]
    for one, detail in zip(packed, details, strict=True):
        one.Pack(detail)
    status = status_pb2.Status(code=code.value[0], details=packed).SerializeToString()
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", status)) if details else grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details="Internal error from Core")


def test_a_refusal_whose_status_got_lost_is_a_refusal() -> None:
    """INTERNAL without details is gRPC's own; it is waited out like one that kept its status."""
    lost = refusal_of(ended(grpc.StatusCode.INTERNAL))
    kept = refusal_of(ended(grpc.StatusCode.RESOURCE_EXHAUSTED, ResourceExhaustedError.reason, 2))

    assert (lost.message, lost.retry_after_s) == ("Internal error from Core", LOST_STATUS_PAUSE_S)
    assert kept.retry_after_s == 2.0


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (ended(grpc.StatusCode.INTERNAL, ThinwireError.reason), ThinwireError),
        (ended(grpc.StatusCode.NOT_FOUND, SessionNotFoundError.reason), SessionNotFoundError),
        (ended(grpc.StatusCode.UNKNOWN), ThinwireError),
    ],
)
def test_what_ended_a_stream_and_is_no_refusal_is_raised(error: Any, raised: type[ThinwireError]) -> None:
    """An INTERNAL that the cloud means says so."""
    with pytest.raises(ThinwireError) as found:
        refusal_of(error)

    assert type(found.value) is raised


def test_the_whole_table_is_estimated_at_about_a_quarter_of_an_hour() -> None:
    """Seven numbers of edges, two pacings, three ways, two slices of 3.5 s each."""
    plan = Plan((1, 2, 4, 8, 16, 32, 64), (0.0, 50.0), texts=12, tokens=96, slices=2, seconds=3.5, threads=1)

    assert 13 * 60 <= plan.estimated_s <= 17 * 60
