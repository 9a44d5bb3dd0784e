"""The capacity benchmark's arithmetic and its records."""

from __future__ import annotations

import json
import math

import pytest

from bench.capacity.__main__ import order_of
from bench.capacity.measure import Cell
from bench.capacity.messages import BatchRequest
from bench.capacity.replay import Seen
from bench.capacity.texts import RecordedRound, RecordedText


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
