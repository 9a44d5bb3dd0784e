"""A run over fakes: what is run, in which order, and what a second start adds to one that was cut short."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bench.grid.arithmetic import Costs, estimate
from bench.grid.cells import Cell, Plan, grid
from bench.grid.dataset_prompts import read_prompts
from bench.grid.methods import Method, parse_method
from bench.grid.records import MEASURED, TUNING, GenerationRecord
from bench.grid.store import read_generations, read_lines
from tests.bench.bench_data import run_over_fakes
from thinwire.common.errors import ConfigError

TINY = Plan(
    name="tiny",
    cells=grid((512_000,), (0.0,), (0.3, 1.0)),
    prompts=2,
    tokens=4,
    tuning_prompts=1,
    tuning_tokens=2,
    tuning_candidates=2,
)
METHODS = [parse_method(name) for name in ("cloud-stream", "k-sqs:K=8", "cloud-ar")]
TRANSFER = replace(
    TINY,
    cells=grid((512_000, 64_000), (0.0,), (0.3, 1.0)),
    tuning_tokens=8,
    tuning_candidates=0,
    tuning_link=(512_000, 0.0),
    checked=(Cell(64_000, 0.0, 1.0),),
)
TRANSFERRED = [parse_method(name) for name in ("cloud-stream", "cloud-assisted", "k-sqs:K=8")]
EITHER = pytest.mark.parametrize(("plan", "methods"), [(TINY, METHODS), (TRANSFER, TRANSFERRED)])
"""Tuned in each cell, and by transfer."""


@pytest.fixture(scope="module")
def records(prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> list[GenerationRecord]:
    """Of a whole run, tuned in each cell, in the order in which they were written."""
    out = tmp_path_factory.mktemp("tiny")
    stages, _ = run_over_fakes(TINY, METHODS, prompts, out)
    rounds = Counter(line["attempt"] for line in read_lines(out / "rounds.jsonl"))
    found = read_generations(out)
    assert len(stages.opened) == 1
    assert rounds == {record.attempt: record.output_tokens for record in found}
    return found


def test_every_method_runs_every_prompt_of_every_cell_once(records: list[GenerationRecord]) -> None:
    """2 cells x 3 methods x 2 prompts on one link."""
    measured = [r for r in records if r.purpose == MEASURED]

    assert Counter(r.method for r in measured) == {method.name: 4 for method in METHODS}
    assert {(r.output_tokens, r.wire_up_bytes, r.wire_down_bytes) for r in measured} == {(4, 1000, 500)}


def test_the_methods_take_turns_and_none_is_always_first(records: list[GenerationRecord]) -> None:
    """The same prompt and seed for all of them."""
    first = [r for r in records if r.purpose == MEASURED][:6]

    assert [r.method for r in first] == [
        *("cloud-stream", "k-sqs:K=8", "cloud-ar"),
        *("k-sqs:K=8", "cloud-ar", "cloud-stream"),
    ]
    assert [(r.prompt, r.seed) for r in first] == [("p0", 1)] * 3 + [("p1", 2)] * 3


def test_the_draft_length_is_tuned_on_a_prompt_that_is_not_measured(records: list[GenerationRecord]) -> None:
    """Two lengths are tried, the faster one is measured with (the fake likes short ones)."""
    tuning = [r for r in records if r.purpose == TUNING]

    assert {(r.method, r.prompt) for r in tuning} == {("k-sqs:K=8", "p2")}
    assert len(tuning) == 2 * len(TINY.cells)
    fastest = {r.cell: r.parameters for r in sorted(tuning, key=lambda r: r.tokens_per_s)}
    measured = [r for r in records if r.purpose == MEASURED and r.method == "k-sqs:K=8"]
    assert all(r.parameters["draft_length"] == fastest[r.cell]["draft_length"] for r in measured)
    assert {r.tuned_by for r in measured} == {"measured"}


@EITHER
def test_wherever_a_run_is_cut_it_ends_as_a_whole_one(
    plan: Plan, methods: list[Method], prompts: Path, tmp_path: Path
) -> None:
    """Trials included: the same texts, each once, with the same parameters; then nothing is left to start."""

    def keys(out: Path) -> list[str]:
        records = [GenerationRecord.from_dict(line) for line in read_lines(out / "generations.jsonl")]
        return sorted(f"{r.key} {r.parameters} {r.tuned_by}" for r in records)

    whole, progress = run_over_fakes(plan, methods, prompts, tmp_path / "whole")
    requests = max(len(stage.requests) for stage in whole.opened)
    for cut in range(len(methods), requests):
        out = tmp_path / f"cut{cut}"
        with pytest.raises(KeyboardInterrupt):
            run_over_fakes(plan, methods, prompts, out, dies_after=cut)
        run_over_fakes(plan, methods, prompts, out)

        assert keys(out) == keys(tmp_path / "whole")
    stages, again = run_over_fakes(plan, methods, prompts, out)
    assert stages.opened == []
    for bar in (progress, again):
        assert bar.seconds == pytest.approx(estimate(plan, methods, Costs()).seconds, rel=0.1)


def test_a_failed_text_is_written_with_its_reason_and_run_again(prompts: Path, tmp_path: Path) -> None:
    """The others go on."""
    for fails_on, failures in (("cloud-ar", {("cloud-ar", "UNAVAILABLE: gone")}), ("", set())):
        run_over_fakes(TINY, METHODS, prompts, tmp_path, fails_on=fails_on)

        found = read_generations(tmp_path)
        assert {(r.method, r.failure) for r in found if r.failure} == failures
        assert Counter(r.method for r in found if r.purpose == MEASURED)["cloud-ar"] == 4


def test_trials_run_once_on_their_link_and_tune_every_cell(prompts: Path, tmp_path: Path) -> None:
    """
    The fake likes short blocks; trials are keyed by the tuning link, further ones only where checked.

    What is run to check a choice does not tune: such trials, however slow, leave the prediction as it was.
    """
    run_over_fakes(TRANSFER, TRANSFERRED, prompts, tmp_path)

    records = read_generations(tmp_path)
    tuning = [r for r in records if r.purpose == TUNING]
    assert {r.rate_up_bps for r in tuning if r.method == "cloud-assisted"} == {512_000}
    assert {r.cell for r in tuning if r.rate_up_bps == 64_000} == set(TRANSFER.checked)
    tuned = [r for r in records if r.purpose == MEASURED and r.method == "k-sqs:K=8"]
    assert {(r.tuned_by, r.parameters["draft_length"]) for r in tuned} == {("transfer", 1)}
    assert all(r.predicted_token_s is not None for r in tuned)

    checks = {r.attempt for r in tuning if r.rate_up_bps == 64_000}
    kept = [r.to_json() for r in records if r.rate_up_bps != 64_000 or r.attempt in checks]
    rounds = [
        json.dumps({**line, "verify_s": 100.0} if line["attempt"] in checks else line)
        for line in read_lines(tmp_path / "rounds.jsonl")
    ]
    for name, lines in (("generations", kept), ("rounds", rounds)):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    run_over_fakes(TRANSFER, TRANSFERRED, prompts, tmp_path)

    again = read_generations(tmp_path)
    assert {r.key: r.predicted_token_s for r in again} == {r.key: r.predicted_token_s for r in records}


def test_too_few_prompts_are_refused(prompts: Path) -> None:
    """Measured and tuning prompts never overlap."""
    with pytest.raises(ConfigError, match="holds 3 prompts; expected at least 4"):
        read_prompts(prompts, replace(TINY, tuning_prompts=2))
