"""The capacity benchmark's arithmetic and its records."""

from __future__ import annotations

import json
import math
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from bench.capacity.__main__ import Plan, order_of
from bench.capacity.measure import Cell
from bench.capacity.messages import BatchRequest
from bench.capacity.replay import LOST_STATUS_PAUSE_S, Seen, refusal_of
from bench.capacity.texts import RecordedRound, RecordedText
from thinwire.common.errors import ResourceExhaustedError, SessionNotFoundError, ThinwireError


def test_recorded_texts_and_requests_survive_their_line() -> None:
    """What is written is what is read."""
    text = RecordedText("def f():\n", "aGVsbG8=", (RecordedRound("eA==", 0.0125, 3, 17),))
    asked = BatchRequest("ß \n", 96, 7, 16)

    assert RecordedText.from_json(text.to_json()) == text
    assert "\n" not in text.to_json()
    assert BatchRequest.from_bytes(asked.to_bytes()) == asked


def test_only_answers_within_the_measurement_count() -> None:
    """From its beginning to before its end; before the beginning is known, nothing does."""
    seen = Seen()
    seen.took(3, 1.0, 2.0)
    seen.begin_s, seen.end_s = 10.0, 20.0
    for now_s in (9.99, 10.0, 19.99, 20.0):
        seen.took(2, now_s - 0.5, now_s)

    assert seen.tokens == 4
    assert seen.round_s == [0.5, 0.5]


def test_a_cells_figures() -> None:
    """Tokens a second, the daemon's CPU a token, and the percentiles of its rounds."""
    cell = Cell("x", 4, 0.0, seconds=2.0, tokens=100, cpu_s=0.5, round_s=[n / 1000 for n in range(1, 102)])
    values = json.loads(cell.to_json())

    assert cell.tokens_per_s == 50.0
    assert cell.cpu_ms_per_token == 5.0
    assert cell.percentiles_ms == pytest.approx((51.0, 96.0))
    assert (values["rounds"], values["tokens_per_s"]) == (101, 50.0)
    assert math.isnan(Cell("x", 1, 0.0).percentiles_ms[0])


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
    details = []
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
