"""A run over fakes: what is run, in which order, and what a second start adds to one that was cut short."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from bench.grid.arithmetic import Costs, estimate
from bench.grid.methods import parse_method
from bench.grid.records import MEASURED, TUNING
from bench.grid.store import read_generations, read_lines
from bench.grid.texts import read_prompts
from tests.bench.bench_data import TINY, run_over_fakes
from thinwire.common.errors import ConfigError

METHODS = [parse_method(name) for name in ("cloud-stream", "k-sqs:K=8", "cloud-ar")]


run = partial(run_over_fakes, TINY, METHODS)


def test_every_method_runs_every_prompt_of_every_cell_once(prompts: Path, tmp_path: Path) -> None:
    """2 cells x 3 methods x 2 prompts on one link; each text has its rounds."""
    stages, _ = run(prompts, tmp_path / "out")

    records = [r for r in read_generations(tmp_path / "out") if r.purpose == MEASURED]
    assert len(stages.opened) == 1
    assert Counter(r.method for r in records) == {method.name: 4 for method in METHODS}
    assert {r.output_tokens for r in records} == {4}
    assert {(r.wire_up_bytes, r.wire_down_bytes) for r in records} == {(1000, 500)}
    rounds = Counter(line["attempt"] for line in read_lines(tmp_path / "out" / "rounds.jsonl"))
    assert all(rounds[r.attempt] == 4 for r in records)


def test_the_methods_take_turns_and_none_is_always_first(prompts: Path, tmp_path: Path) -> None:
    """The same prompt and seed for all of them."""
    run(prompts, tmp_path / "out")

    lines = [r for r in read_lines(tmp_path / "out" / "generations.jsonl") if r["purpose"] == MEASURED]
    assert [r["method"] for r in lines[:6]] == [
        *("cloud-stream", "k-sqs:K=8", "cloud-ar"),
        *("k-sqs:K=8", "cloud-ar", "cloud-stream"),
    ]
    assert [(r["prompt"], r["seed"]) for r in lines[:6]] == [("p0", 1)] * 3 + [("p1", 2)] * 3


def test_the_draft_length_is_tuned_on_a_prompt_that_is_not_measured(prompts: Path, tmp_path: Path) -> None:
    """Two lengths are tried, the faster one is measured with (the fake likes short ones)."""
    run(prompts, tmp_path / "out")

    records = read_generations(tmp_path / "out")
    tuning = [r for r in records if r.purpose == TUNING]
    assert {(r.method, r.prompt) for r in tuning} == {("k-sqs:K=8", "p2")}
    assert len(tuning) == 2 * len(TINY.cells)
    fastest = {r.cell: r.parameters for r in sorted(tuning, key=lambda r: r.tokens_per_s)}
    measured = [r for r in records if r.purpose == MEASURED and r.method == "k-sqs:K=8"]
    assert all(r.parameters["draft_length"] == fastest[r.cell]["draft_length"] for r in measured)
    assert {r.tuned_by for r in measured} == {"measured"}


def test_a_run_that_was_cut_short_goes_on_where_it_ended(prompts: Path, tmp_path: Path) -> None:
    """Wherever it was cut: in the end every text is there once, and tuning is not done again."""
    whole, _ = run(prompts, tmp_path / "whole")
    warm_ups = len(METHODS)
    texts = len(whole.daemons[0].commands) - warm_ups
    for cut in range(warm_ups, warm_ups + texts):
        out = tmp_path / f"cut{cut}"
        with pytest.raises(KeyboardInterrupt):
            run(prompts, out, dies_after=cut)
        again, _ = run(prompts, out)

        lines = list(read_lines(out / "generations.jsonl"))
        assert len(lines) == texts
        assert len(again.daemons[0].commands) == warm_ups + texts - (cut - warm_ups)


def test_a_finished_run_starts_nothing(prompts: Path, tmp_path: Path) -> None:
    """No link, no daemon; the bar is full."""
    run(prompts, tmp_path / "out")

    stages, progress = run(prompts, tmp_path / "out")

    assert stages.opened == []
    assert progress.seconds > 0


def test_a_failed_text_is_written_with_its_reason_and_run_again(prompts: Path, tmp_path: Path) -> None:
    """The others go on."""
    run(prompts, tmp_path / "out", fails_on="cloud-ar")
    failed = [r for r in read_generations(tmp_path / "out") if r.failure]
    assert {(r.method, r.failure) for r in failed} == {("cloud-ar", "UNAVAILABLE: gone")}
    assert len(failed) == 4

    run(prompts, tmp_path / "out")

    assert [r for r in read_generations(tmp_path / "out") if r.failure] == []


def test_the_bar_ends_at_the_estimate(prompts: Path, tmp_path: Path) -> None:
    """Every estimated second is ticked off, whatever tuning chose."""
    _, progress = run(prompts, tmp_path / "out")

    assert progress.seconds == pytest.approx(estimate(TINY, METHODS, Costs()).seconds, rel=0.05)


def test_too_few_prompts_are_refused(prompts: Path) -> None:
    """Measured and tuning prompts never overlap."""
    prompts.write_text("".join(prompts.read_text().splitlines(keepends=True)[:2]))

    with pytest.raises(ConfigError, match="holds 2 prompts; expected at least 3"):
        read_prompts(prompts, TINY)
