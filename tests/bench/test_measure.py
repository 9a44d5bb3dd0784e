"""From what was observed to a record: pure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.grid.measure import ObservationError, Observed, finished_record, round_lines
from tests.bench.bench_data import make_counters, make_record

COUNTS = {"rounds": 2, "drafted_tokens": 6, "tested_tokens": 5, "accepted_tokens": 3, "resampled_tokens": 1}
STATISTICS = {**COUNTS, "uplink_payload_bits": 640, "draft_s": 0.1, "network_s": 0.2, "verify_s": 0.05}
EDGE_ROUNDS = [
    {"schema": 1, "kind": "round", "round": 1, "accepted": 2, "uplink_payload_bits": 320},
    {"schema": 1, "kind": "round", "round": 2, "accepted": 1, "uplink_payload_bits": 320},
    {"schema": 1, "kind": "generation", "reason": "length"},
]
PEER = {"is_peer": True, "drafted_tokens": 0, "tested_tokens": 0, "accepted_tokens": 0, "resampled_tokens": 0}


def passes_of(*passes: tuple[str, int]) -> list[dict[str, Any]]:
    """Lines of a pass log: model and tokens, 10 ms of the target and 1 ms of the draft model."""
    lasted_s = {"target": 0.01, "draft": 0.001}
    return [
        {"kind": "pass", "role": role, "tokens": tokens, "measured_s": 0.004, "lasted_s": lasted_s[role]}
        for role, tokens in passes
    ]


def observed_of(arrivals: list[list[float]], passes: list[dict[str, Any]]) -> Observed:
    """A text that took 800 bytes up and 400 down."""
    before, after = make_counters(1000, 500, packets=10), make_counters(1800, 900, packets=19, dropped=1)
    answer = {"arrivals": arrivals, "text_sha256": "ab", "statistics": STATISTICS}
    return Observed(answer, before, after, passes, EDGE_ROUNDS)


def figures(record: Any, *names: str) -> tuple[Any, ...]:
    """Fields of a record."""
    return tuple(getattr(record, name) for name in names)


def test_a_text_of_thinwire_takes_counts_from_the_edge_and_passes_from_the_cloud() -> None:
    """Times from the client, bytes from the link; a round's own head wins over what the edge's line says."""
    observed = observed_of(
        [[0.5, 3, 1], [0.9, 2, 2]], passes_of(("target", 40), ("target", 4), ("target", 4))
    )

    record = finished_record(make_record(requested_tokens=5), observed)

    assert figures(record, "output_tokens", "first_token_s", "last_token_s") == (5, 0.5, 0.9)
    assert record.largest_gap_s == pytest.approx(0.4)
    assert figures(record, "wire_up_bytes", "wire_down_bytes") == (800, 400)
    assert figures(record, "wire_up_packets", "wire_down_packets", "dropped_packets") == (9, 9, 2)
    assert figures(record, "target_passes", "target_tokens") == (3, 48)
    assert figures(record, "target_s", "target_measured_s") == pytest.approx((0.03, 0.012))
    assert figures(record, *STATISTICS) == tuple(STATISTICS.values())
    rounds = [json.loads(line) for line in round_lines(record.attempt, observed)]
    assert [(r["round"], r["tokens"], r["arrival_s"], r["accepted"]) for r in rounds] == [
        (1, 3, 0.5, 2),
        (2, 2, 0.9, 1),
    ]
    assert {(r["attempt"], r["kind"]) for r in rounds} == {(record.attempt, "round")}


def test_acceptance_of_assisted_generation_is_read_off_its_passes() -> None:
    """
    Prompt of 20 tokens; 3 drafted and 2 kept, 3 drafted and 3 kept, 1 drafted and 0 kept.

    Drafted 7, accepted 5, tested 3 + 3 + 1, and two rounds that ended in another token than the drafted one.
    """
    drafted = ("draft", 20), ("draft", 1), ("target", 23), ("draft", 2), ("target", 4), ("target", 2)
    passes = [*passes_of(*drafted), {"kind": "served", "server_s": 0.3}]
    numbers = [1, 1, 1, 2, 2, 2, 2, 3]
    observed = observed_of([[0.1 * (n + 1), 1, number] for n, number in enumerate(numbers)], passes)

    record = finished_record(make_record(way="assisted", requested_tokens=8, **PEER), observed)

    assert figures(record, "rounds", "drafted_tokens", "accepted_tokens") == (3, 7, 5)
    assert figures(record, "tested_tokens", "resampled_tokens") == (7, 2)
    assert figures(record, "target_passes", "target_tokens") == (3, 29)
    assert figures(record, "draft_s", "network_s") == pytest.approx((0.003, 0.8 - 0.3))
    assert [json.loads(line)["tokens"] for line in round_lines("", observed)] == [3, 4, 1]


def test_a_stream_of_the_target_alone_has_a_round_a_token() -> None:
    """And nothing was drafted."""
    passes = [*passes_of(("target", 20), ("target", 1), ("target", 1)), {"kind": "served", "server_s": 0.02}]
    start = make_record(way="own", requested_tokens=3, **PEER)

    record = finished_record(start, observed_of([[0.1, 1, 1], [0.2, 1, 2], [0.3, 1, 3]], passes))

    assert figures(record, "rounds", "output_tokens", "target_passes", "drafted_tokens") == (3, 3, 3, 0)


@pytest.mark.parametrize(
    ("arrivals", "words"),
    [
        ([[0.1, 1, 1]], "2 target passes were logged, tokens came from 1"),
        ([[0.1, 1, 1], [0.2, 1, 2]], "2 tokens arrived instead of 1"),
    ],
)
def test_what_does_not_fit_together_makes_no_record(arrivals: list[list[float]], words: str) -> None:
    """A pass of a text before, say; a wrong acceptance rate would be worse than none."""
    observed = observed_of(arrivals, passes_of(("draft", 20), ("target", 23), ("target", 4)))

    with pytest.raises(ObservationError, match=words):
        finished_record(make_record(way="assisted", requested_tokens=1, **PEER), observed)
