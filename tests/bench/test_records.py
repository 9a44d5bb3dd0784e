"""The lines, the folder they are in, and what a resumed run makes of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from bench.grid.records import GenerationRecord, RecordError
from bench.grid.store import Store, StoreError, read_generations, read_lines
from tests.bench.bench_data import CELL, make_record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A new folder's."""
    return Store(tmp_path, {"tokens": 9, "started_at": "noon"})


def test_a_record_comes_back_from_its_line() -> None:
    """Unknown fields of a later version are left out."""
    record = make_record()
    values = json.loads(record.to_json())

    assert GenerationRecord.from_dict({**values, "of_tomorrow": 1}) == record
    assert record.cell == CELL


@pytest.mark.parametrize("change", [{"schema": 2}, {"kind": "round"}, {"method": None}, {"rtt_s": "0.04"}])
def test_a_line_of_another_schema_is_refused(change: dict[str, Any]) -> None:
    """Rather than read with another meaning; None here is a field that is missing."""
    values = {**json.loads(make_record().to_json()), **change}

    with pytest.raises(RecordError):
        GenerationRecord.from_dict({name: value for name, value in values.items() if value is not None})


def test_the_rates_of_a_text_follow_their_definitions() -> None:
    """(last - first arrival) / (N - 1), of one token no number; N / last arrival; a count over N."""
    record = make_record()

    assert record.seconds_per_token == pytest.approx((4.0 - 0.8) / 8)
    assert math.isnan(make_record(output_tokens=1).seconds_per_token)
    assert record.tokens_per_s == pytest.approx(9 / 4)
    assert record.per_output_token("wire_up_bytes") == 100


def test_what_was_written_is_done_when_the_folder_is_opened_again(store: Store) -> None:
    """
    All but failures, which are run again.

    A measured and a tuning text of the same prompt and seed are two.
    """
    failed = make_record(prompt="p001", failure="UNAVAILABLE: gone")
    done = [make_record(), make_record(purpose="tuning", trial='{"draft_length": 1}')]
    for record in (*done, failed):
        store.add(record)

    assert set(Store(store.folder, {"tokens": 9}).done) == {r.key for r in done}


@pytest.mark.parametrize("cut", [1, 40, 400])
def test_a_line_that_a_crash_cut_short_is_dropped(store: Store, cut: int) -> None:
    """And the next one starts on a line of its own."""
    first, second = make_record(), make_record(prompt="p001")
    store.add(first)
    with (store.folder / "generations.jsonl").open("a") as file:
        file.write(second.to_json()[:cut])

    assert read_generations(store.folder) == [first]
    Store(store.folder, {"tokens": 9}).add(second)

    assert read_generations(store.folder) == [first, second]


def test_a_folder_with_another_run_in_it_is_refused(store: Store) -> None:
    """The message names what differs; what may change may change."""
    Store(store.folder, {"tokens": 9, "started_at": "later"})

    with pytest.raises(StoreError, match="a run with another tokens; expected the same"):
        Store(store.folder, {"tokens": 10, "started_at": "noon"})


def test_of_a_text_that_was_run_again_the_last_line_holds(store: Store) -> None:
    """A failure that went away is no failure."""
    again = make_record(attempt="second")
    store.add(make_record(failure="UNAVAILABLE: gone"))
    store.add(again)

    assert read_generations(store.folder) == [again]


def test_a_folder_without_lines_is_no_result(tmp_path: Path) -> None:
    """Instead of an empty report."""
    with pytest.raises(StoreError, match=r"no generations\.jsonl"):
        read_generations(tmp_path)


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    """Nothing is skipped silently."""
    (tmp_path / "x.jsonl").write_text("{}\nnonsense\n{}\n")

    with pytest.raises(StoreError, match="line 2 is no JSON"):
        list(read_lines(tmp_path / "x.jsonl"))
