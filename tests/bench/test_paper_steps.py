"""Runs in process: the line of a run says what its steps say, and a resumed run skips what is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.grid.store import StoreError
from bench.paper.plan import SMOKE, scheme_fields
from bench.paper.steps import (
    RunKey,
    StepsRecord,
    StepsStore,
    estimate_s,
    make_tasks,
    read_steps,
    run_key,
    steps_record,
    theorem_2_bounds,
)
from bench.scheme_steps import Rows, run_scheme
from thinwire.common.config import SchemeParameters
from thinwire.common.schemes.c_sqs import dropped_mass_guarantee

K_SQS = SchemeParameters(support_size=4)
C_SQS = SchemeParameters(scheme="c-sqs", threshold_step=0.05, target_dropped_mass=0.3, initial_threshold=0.2)
TEXTS, STEPS_EACH, SIZE = 2, 30, 50


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Two texts of random laws over 50 tokens."""
    rng = np.random.default_rng(1)

    def laws() -> tuple[np.ndarray, ...]:
        return tuple(rng.dirichlet(np.full(SIZE, 0.2), STEPS_EACH) for _ in range(TEXTS))

    return Rows(laws(), tuple(law.astype(np.float32) for law in laws()))


def record_of(rows: Rows, scheme: SchemeParameters) -> StepsRecord:
    """A run's line."""
    return steps_record(run_scheme(rows, scheme, seed=1), temperature=1.0, seed=1, texts=TEXTS)


@pytest.mark.parametrize("scheme", [K_SQS, C_SQS, replace(C_SQS, frozen_threshold=True)])
def test_a_line_sums_its_steps(rows: Rows, scheme: SchemeParameters) -> None:
    """Rejections, the bound's parts, bits and caps; and every parameter."""
    steps = run_scheme(rows, scheme, seed=1)
    record = record_of(rows, scheme)

    assert record.steps == TEXTS * STEPS_EACH
    assert record.rejected == np.count_nonzero(steps.rejected)
    assert record.draft_distance == pytest.approx(steps.draft_distance.sum())
    assert record.lattice_term == pytest.approx(steps.support_size.sum() / 400)
    assert record.payload_bits == steps.statistics.uplink_payload_bits
    assert record.cap_bound == pytest.approx(steps.statistics.cap_binding_rate * record.steps)
    assert record.lattice_distance <= record.draft_distance + record.dropped_mass + record.lattice_term
    assert record.scheme == scheme_fields(scheme)
    assert (record.last_threshold is None) == (scheme.scheme == "k-sqs")


def test_only_an_adaptive_run_has_a_running_mean(rows: Rows) -> None:
    """It ends in the mean of all steps; its excess over the bound is the largest of all steps."""
    record, steps = record_of(rows, C_SQS), run_scheme(rows, C_SQS, seed=1)
    frozen = record_of(rows, replace(C_SQS, frozen_threshold=True))

    assert (frozen.running_at, frozen.running_mean, frozen.largest_excess) == ([], [], None)
    assert (record.running_at[0], record.running_at[-1]) == (1, record.steps)
    assert record.running_at == sorted(set(record.running_at))
    assert 30 < len(record.running_at) <= 60
    assert record.running_mean[-1] == pytest.approx(record.dropped_mass / record.steps, abs=1e-6)
    by_hand = [
        steps.dropped_mass[:n].mean() - dropped_mass_guarantee(C_SQS, n) for n in range(1, record.steps + 1)
    ]
    assert record.largest_excess == pytest.approx(max(by_hand))
    assert record.largest_excess <= 1e-6


@pytest.mark.parametrize("steps", [1, 10, 3200])
@pytest.mark.parametrize("scheme", [C_SQS, replace(C_SQS, initial_threshold=-0.5)])
def test_the_bounds_are_those_of_the_running_scheme(scheme: SchemeParameters, steps: int) -> None:
    """The smaller of the two is what a report promises."""
    assert min(theorem_2_bounds(scheme_fields(scheme), steps)) == pytest.approx(
        dropped_mass_guarantee(scheme, steps)
    )


def test_the_same_seed_gives_the_same_line_and_another_one_other_draws(rows: Rows) -> None:
    """Rejections are drawn; the laws are not."""
    again = record_of(rows, K_SQS)
    other = steps_record(run_scheme(rows, K_SQS, seed=2), temperature=1.0, seed=2, texts=TEXTS)

    assert again == record_of(rows, K_SQS)
    assert other.lattice_distance == again.lattice_distance
    assert not np.array_equal(
        run_scheme(rows, K_SQS, seed=2).rejected, run_scheme(rows, K_SQS, seed=1).rejected
    )


def test_a_line_is_read_as_it_was_written(rows: Rows, tmp_path: Path) -> None:
    """One that a crash cut short is not there, and is run again."""
    store = StepsStore(tmp_path, {"plan": 1})
    record, other = record_of(rows, K_SQS), record_of(rows, C_SQS)
    store.add(record)
    store.add(other)
    path = tmp_path / "steps.jsonl"
    path.write_text(path.read_text()[:-20])

    again = StepsStore(tmp_path, {"plan": 1})

    assert again.done == {record.key}
    assert read_steps(tmp_path) == [record]
    with pytest.raises(StoreError, match="another plan"):
        StepsStore(tmp_path, {"plan": 2})


def test_a_resumed_run_makes_only_what_is_missing() -> None:
    """A text whose runs are all there is not sampled again."""
    plan = replace(SMOKE, texts_each=2)
    tasks = make_tasks(plan, set())
    assert {(task.temperature, task.seed) for task in tasks} == {(1.0, 1), (1.0, 2)}
    one = tasks[0]

    def keys(schemes: tuple[SchemeParameters, ...], texts: int) -> set[RunKey]:
        return {run_key(one.temperature, one.seed, texts, scheme_fields(scheme)) for scheme in schemes}

    (rest,) = [t for t in make_tasks(plan, keys(one.whole, 16)) if t.seed == one.seed]
    assert (rest.whole, rest.head) == ((), one.head)
    left = make_tasks(plan, keys(one.whole, 16) | keys(one.head, 8))
    assert [task.seed for task in left] == [2]
    assert 0 < estimate_s(left, 2) < estimate_s(tasks, 1)
