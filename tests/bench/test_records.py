"""The lines, the folder they are in, and what a resumed run makes of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from bench.grid.records import GenerationRecord, RecordError, round_line
from bench.grid.store import Store, StoreError, read_generations, read_lines
from tests.bench.bench_data import CELL, make_record


def test_a_record_comes_back_from_its_line() -> None:
    """Unknown fields of a later version are left out."""
    record = make_record()
    values = json.loads(record.to_json())

    assert GenerationRecord.from_dict({**values, "of_tomorrow": 1}) == record
    assert record.cell == CELL


@pytest.mark.parametrize(
    "change", [{"schema": 2}, {"kind": "round"}, {"method": None, "extra": 0}, {"rtt_s": "0.04"}]
)
def test_a_line_of_another_schema_is_refused(change: dict[str, object]) -> None:
    """Rather than read with another meaning."""
    values = {**json.loads(make_record().to_json()), **change}
    if "method" in change:
        del values["method"]

    with pytest.raises(RecordError):
        GenerationRecord.from_dict(values)


def test_the_rates_of_a_text_follow_their_definitions() -> None:
    """(last - first arrival) / (N - 1); N / last arrival; pooled counts over tokens."""
    record = make_record()

    assert record.seconds_per_token == pytest.approx((4.0 - 0.8) / 8)
    assert record.tokens_per_s == pytest.approx(9 / 4)
    assert record.acceptance_rate == 0.75
    assert record.resampling_rate == pytest.approx(2 / 9)
    assert record.per_output_token("wire_up_bytes") == 100


def test_a_rate_of_nothing_is_no_number() -> None:
    """One token has no time between tokens; without a draft there is no acceptance."""
    record = make_record(output_tokens=1, drafted_tokens=0, tested_tokens=0, rounds=0)

    for value in (record.seconds_per_token, record.acceptance_rate, record.resampling_rate):
        assert math.isnan(value)


def test_a_round_line_says_which_text_it_belongs_to() -> None:
    """Its own head wins over what the edge's line says."""
    line = json.loads(round_line("abc", 2, {"kind": "round", "round": 7, "accepted": 3, "tokens": 4}))

    assert (line["attempt"], line["round"], line["accepted"], line["tokens"]) == ("abc", 2, 3, 4)


def test_what_was_written_is_done_when_the_folder_is_opened_again(tmp_path: Path) -> None:
    """All but failures, which are run again."""
    store = Store(tmp_path, {"tokens": 9})
    done, failed = make_record(), make_record(prompt="p001", failure="UNAVAILABLE: gone")
    store.add(done, [round_line(done.attempt, 1, {})])
    store.add(failed)

    again = Store(tmp_path, {"tokens": 9})

    assert set(again.done) == {done.key}


def test_tuning_and_measured_texts_have_keys_of_their_own(tmp_path: Path) -> None:
    """The same prompt and seed may be tried with other parameters."""
    store = Store(tmp_path, {})
    for record in (make_record(), make_record(purpose="tuning", trial='{"draft_length": 1}')):
        store.add(record)

    assert len(store.done) == 2


@pytest.mark.parametrize("cut", [1, 40, 400])
def test_a_line_that_a_crash_cut_short_is_dropped(tmp_path: Path, cut: int) -> None:
    """And the next one starts on a line of its own."""
    first, second = make_record(), make_record(prompt="p001")
    store = Store(tmp_path, {})
    store.add(first)
    path = tmp_path / "generations.jsonl"
    with path.open("a") as file:
        file.write(second.to_json()[:cut])

    assert [record.key for record in read_generations(tmp_path)] == [first.key]
    again = Store(tmp_path, {})
    again.add(second)

    assert [record.key for record in read_generations(tmp_path)] == [first.key, second.key]


def test_a_folder_with_another_run_in_it_is_refused(tmp_path: Path) -> None:
    """The message names what differs; what may change may change."""
    Store(tmp_path, {"tokens": 9, "started_at": "noon"}, volatile=["started_at"])

    Store(tmp_path, {"tokens": 9, "started_at": "later"}, volatile=["started_at"])
    with pytest.raises(StoreError, match="a run with another tokens; expected the same"):
        Store(tmp_path, {"tokens": 10, "started_at": "noon"}, volatile=["started_at"])


def test_of_a_text_that_was_run_again_the_last_line_holds(tmp_path: Path) -> None:
    """A failure that went away is no failure."""
    store = Store(tmp_path, {})
    store.add(make_record(failure="UNAVAILABLE: gone"))
    store.add(replace(make_record(), attempt="second"))

    assert [(record.attempt, record.failure) for record in read_generations(tmp_path)] == [("second", "")]


def test_a_folder_without_lines_is_no_result(tmp_path: Path) -> None:
    """Instead of an empty report."""
    with pytest.raises(StoreError, match=r"no generations\.jsonl"):
        read_generations(tmp_path)


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    """Nothing is skipped silently."""
    (tmp_path / "x.jsonl").write_text("{}\nnonsense\n{}\n")

    with pytest.raises(StoreError, match="line 2 is no JSON"):
        list(read_lines(tmp_path / "x.jsonl"))
