"""From what was observed to a record: pure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from bench.grid.measure import ObservationError, Observed, finished_record, round_lines
from tests.bench.bench_data import make_counters, make_record


def model_pass(role: str, tokens: int, lasted_s: float = 0.01) -> dict[str, Any]:
    """A line of a pass log."""
    return {"kind": "pass", "role": role, "tokens": tokens, "measured_s": 0.004, "lasted_s": lasted_s}


def observed_of(arrivals: list[list[float]], passes: list[dict[str, Any]], **answer: Any) -> Observed:
    """A text whose first byte was the link's first, without rounds of an edge."""
    answer = {"arrivals": arrivals, "text_sha256": "ab", "statistics": {}, **answer}
    return Observed(answer, make_counters(0, 0), make_counters(700, 800), passes, [])


COUNTS = {"rounds": 2, "drafted_tokens": 6, "tested_tokens": 5, "accepted_tokens": 3, "resampled_tokens": 1}
STATISTICS = {**COUNTS, "uplink_payload_bits": 640, "draft_s": 0.1, "network_s": 0.2, "verify_s": 0.05}
EDGE_ROUNDS = [
    {"schema": 1, "kind": "round", "round": 1, "accepted": 2, "uplink_payload_bits": 320},
    {"schema": 1, "kind": "round", "round": 2, "accepted": 1, "uplink_payload_bits": 320},
    {"schema": 1, "kind": "generation", "reason": "length"},
]


def test_a_text_of_thinwire_takes_counts_from_the_edge_and_passes_from_the_cloud() -> None:
    """Times from the client, bytes from the link."""
    passes = [model_pass("target", 40), model_pass("target", 4), model_pass("target", 4)]
    observed = replace(
        observed_of([[0.5, 3, 1], [0.9, 2, 2]], passes, statistics=STATISTICS),
        before=make_counters(1000, 500, packets=10),
        after=make_counters(1800, 900, packets=19, dropped=1),
        edge_rounds=EDGE_ROUNDS,
    )

    record = finished_record(make_record(), observed)

    assert (record.output_tokens, record.first_token_s, record.last_token_s) == (5, 0.5, 0.9)
    assert record.largest_gap_s == pytest.approx(0.4)
    assert (record.wire_up_bytes, record.wire_down_bytes) == (800, 400)
    assert (record.wire_up_packets, record.wire_down_packets, record.dropped_packets) == (9, 9, 2)
    assert (record.target_passes, record.target_tokens) == (3, 48)
    assert record.target_s == pytest.approx(0.03)
    assert record.target_measured_s == pytest.approx(0.012)
    assert (record.rounds, record.accepted_tokens, record.uplink_payload_bits) == (2, 3, 640)
    rounds = [json.loads(line) for line in round_lines(record, observed)]
    assert [(r["round"], r["tokens"], r["arrival_s"], r["accepted"]) for r in rounds] == [
        (1, 3, 0.5, 2),
        (2, 2, 0.9, 1),
    ]
    assert {r["attempt"] for r in rounds} == {record.attempt}


def test_acceptance_of_assisted_generation_is_read_off_its_passes() -> None:
    """
    Prompt of 20 tokens; 3 drafted and 2 kept, 3 drafted and 3 kept, 1 drafted and 0 kept.

    Drafted 7, accepted 5, tested 3 + 3 + 1, and two rounds that ended in another token than the drafted one.
    """
    passes = [
        model_pass("draft", 20, 0.001),
        model_pass("draft", 1, 0.001),
        model_pass("target", 23),
        model_pass("draft", 2, 0.001),
        model_pass("target", 4),
        model_pass("target", 2),
        {"kind": "served", "server_s": 0.3},
    ]
    numbers = [1, 1, 1, 2, 2, 2, 2, 3]
    observed = observed_of([[0.1 * (n + 1), 1, number] for n, number in enumerate(numbers)], passes)

    record = finished_record(make_record(way="assisted", is_peer=True), observed)

    assert (record.rounds, record.drafted_tokens, record.accepted_tokens) == (3, 7, 5)
    assert (record.tested_tokens, record.resampled_tokens) == (7, 2)
    assert (record.target_passes, record.target_tokens) == (3, 29)
    assert record.draft_s == pytest.approx(0.003)
    assert record.network_s == pytest.approx(0.8 - 0.3)
    assert [json.loads(line)["tokens"] for line in round_lines(record, observed)] == [3, 4, 1]


def test_a_stream_of_the_target_alone_has_a_round_a_token() -> None:
    """And nothing was drafted."""
    passes = [*(model_pass("target", n) for n in (20, 1, 1)), {"kind": "served", "server_s": 0.02}]
    zero = make_record(way="own", is_peer=True, drafted_tokens=0, tested_tokens=0, accepted_tokens=0)

    record = finished_record(zero, observed_of([[0.1, 1, 1], [0.2, 1, 2], [0.3, 1, 3]], passes))

    assert (record.rounds, record.output_tokens, record.target_passes) == (3, 3, 3)
    assert record.drafted_tokens == 0


def test_a_log_of_passes_that_does_not_fit_the_tokens_makes_no_record() -> None:
    """A pass of a text before, say; a wrong acceptance rate would be worse than none."""
    passes = [model_pass("draft", 20), model_pass("target", 23), model_pass("target", 4)]

    with pytest.raises(ObservationError, match="2 target passes were logged, tokens came from 1"):
        finished_record(make_record(way="assisted", is_peer=True), observed_of([[0.1, 1, 1]], passes))
