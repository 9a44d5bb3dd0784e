"""A run at a glance, from canned lines."""

from __future__ import annotations

import math
from dataclasses import replace

from bench.grid.overview import section
from bench.grid.summaries import CellSummary, Summary, is_lost, ratio, summarise
from tests.bench.bench_data import make_record, stream

RATES = (32_000, 512_000, 20_000_000)


def cells_of(*last_token_s: float, temperature: float = 1.0) -> list[CellSummary]:
    """Three uplinks: our scheme in 4 s, a round trip a token in 6 s, the target's stream in what is given."""
    records = []
    for rate, stream_s in zip(RATES, last_token_s, strict=True):
        cell = {"rate_up_bps": rate, "temperature": temperature}
        records += [
            make_record(**cell),
            make_record(method="cloud-ar", way="cloud-ar", last_token_s=6.0, wire_up_bytes=1350, **cell),
            stream("p000", stream_s, target_passes=9, **cell),
        ]
    return summarise(records)


def row(text: str, head: str, name: str) -> list[str]:
    """The row that begins with `name` in the table whose head begins with `head`."""
    lines = text.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(f"| {head} |"))
    (found,) = [line for line in lines[at:] if line.startswith(f"| {name} |")][:1]
    return [part.strip() for part in found.strip("|").split("|")]


def test_a_method_is_shown_by_its_median_over_the_uplinks() -> None:
    """Of a temperature also bytes and passes an output token."""
    text = section(cells_of(2.0, 3.0, 8.0), "")

    assert row(text, "method", "k-sqs:K=8") == ["k-sqs:K=8", "0.75", "100", "50", "0.44"]
    assert row(text, "method", "cloud-ar") == ["cloud-ar", "0.50", "150", "50", "0.44"]
    assert row(text, "method", "cloud-stream") == ["cloud-stream", "1.00", "100", "50", "1.00"]


def test_the_shown_scheme_has_its_spread_over_each_baseline_and_the_cells_it_wins() -> None:
    """A baseline that did not run has no column."""
    text = section(cells_of(2.0, 3.0, 8.0), "")

    assert "| cells | over cloud-ar | over cloud-stream |" in text
    assert row(text, "cells", "40 ms, T 1") == [
        "40 ms, T 1",
        "1.50 (1.50 to 1.50), 3 of 3",
        "0.75 (0.50 to 2.00), 1 of 3",
    ]


def test_round_trips_and_temperatures_have_columns_of_their_own() -> None:
    """And the last row is of all cells."""
    text = section([*cells_of(2.0, 3.0, 8.0, temperature=0.3), *cells_of(4.0, 4.0, 4.0)], " (paced)")

    assert text.startswith("## At a glance (paced)\n")
    assert row(text, "method", "k-sqs:K=8")[1:3] == ["0.75", "1.00"]
    assert row(text, "cells", "all")[2] == "1.00 (0.50 to 2.00), 4 of 6"


def test_our_fastest_is_counted_where_there_are_several_of_ours() -> None:
    """By temperature; one alone is no choice."""
    cells = cells_of(2.0, 3.0, 8.0)
    faster = make_record(method="c-sqs", way="c-sqs", last_token_s=1.0, rate_up_bps=RATES[0])
    alone = section(cells, "")
    cells[0] = replace(cells[0], methods=(*cells[0].methods, Summary(cells[0].cell, "c-sqs", (faster,))))

    assert "Our fastest" not in alone
    assert "- temperature 1: k-sqs:K=8 in 2, c-sqs in 1 of 3 cells" in section(cells, "").splitlines()


def test_what_drafts_at_the_edge_is_shown_over_a_round_trip_a_token() -> None:
    """The uncompressed baseline too; streams and the round trip itself are not."""
    cells = summarise(
        [
            make_record(rate_up_bps=rate, method=method, way=way, last_token_s=seconds)
            for rate in RATES
            for method, way, seconds in (
                ("k-sqs:K=8", "k-sqs", 4.0),
                ("dense-f16", "dense-f16", 12.0),
                ("cloud-ar", "cloud-ar", 6.0),
            )
        ]
        + [stream("p000", 2.0, rate_up_bps=rate) for rate in RATES]
    )
    lines = section(cells, "").split("over `cloud-ar`:")[1].splitlines()

    assert "| dense-f16 | 0.50 (0.50 to 0.50), 0 of 3 | 0.50 (0.50 to 0.50), 0 of 3 |" in lines
    assert not any(line.startswith(("| cloud-ar", "| cloud-stream")) for line in lines)


def test_a_run_of_one_cell_or_without_the_targets_stream_has_no_overview() -> None:
    """There is nothing to take a median of, or nothing to compare with."""
    cells = cells_of(2.0, 3.0, 8.0)
    without = summarise([make_record(rate_up_bps=rate) for rate in RATES])

    assert section(cells[:1], "") == ""
    assert section(without, "") == ""


def test_a_ratio_of_what_is_missing_is_none() -> None:
    """And a ratio is lost as it is printed."""
    cell = cells_of(2.0, 3.0, 8.0)[0]

    assert math.isnan(ratio(cell.named("c-sqs"), cell.named("cloud-stream")))
    assert math.isnan(cell.over("cloud-assisted"))
    assert (is_lost(0.994), is_lost(0.996)) == (True, False)
