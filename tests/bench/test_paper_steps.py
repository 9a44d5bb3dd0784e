"""What is measured: settings as methods of the grid, runs in process, and what their lines say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.grid.measure import Observed, finished_record
from bench.grid.methods import parse_method
from bench.grid.store import StoreError, read_generations
from bench.paper.plan import PAPER, PLANS, SMOKE, STEP_PROMPTS, PaperPlan, Sweep, scheme_fields, setting_name
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
from bench.scheme_steps import PROMPTS, Rows, run_scheme
from tests.bench.bench_data import make_counters, make_record, run_over_fakes
from thinwire.common.errors import ConfigError
from thinwire.common.schemes import SchemeParameters
from thinwire.common.schemes.c_sqs import CSqs, dropped_mass_guarantee
from thinwire.common.schemes.dense_qs import DenseQs
from thinwire.common.schemes.k_sqs import KSqs

K_SQS = KSqs.Parameters(support_size=4)
C_SQS = CSqs.Parameters(threshold_step=0.05, target_dropped_mass=0.3, initial_threshold=0.2)
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


# --- the plan ----------------------------------------------------------------------------------------------


def test_the_plan_is_that_of_the_papers_captions() -> None:
    """K = 2, 3; β = 0.1, 0.2; frozen beside adaptive; at least three seeds a point."""
    names = {setting_name(method.scheme_fields(1.0, method.fixed)) for method in PAPER.methods()}

    assert {"K = 2", "K = 3", "β = 0.1", "β = 0.2", "β = 0.1, frozen", "β = 0.2, frozen"} <= names
    assert min(PAPER.seeds, PAPER.step_seeds) >= 3
    assert PAPER.temperatures == (0.2, 0.4, 0.6, 0.8, 1.0)
    assert len(PROMPTS) == STEP_PROMPTS


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_what_the_claims_compare_is_among_what_is_measured(plan: PaperPlan) -> None:
    """Settings and temperatures, over the link and in process."""
    assert set(plan.compared_support_sizes) <= set(plan.support_sizes)
    assert set(plan.compared_thresholds) <= set(plan.thresholds)
    assert set(plan.step_temperatures) <= set(plan.temperatures)


def test_every_line_over_the_link_says_all_its_parameters(tmp_path: Path) -> None:
    """γ, and every parameter of the scheme: α* and K_max are those of the line's temperature."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"id": f"p{n}", "prompt": f"text {n}"}) + "\n" for n in range(2)))
    plan = replace(SMOKE, tokens=4)
    run_over_fakes(plan.grid_plan(), plan.methods(), prompts, tmp_path / "out")

    records = read_generations(tmp_path / "out")
    assert len(records) == 2 * 3 * 2
    assert {record.parameters["draft_length"] for record in records} == {4}
    of_c = {(r.temperature, r.scheme["target_dropped_mass"]) for r in records if r.way == "c-sqs"}
    assert of_c == {(t, CSqs.Parameters.defaults(t).target_dropped_mass) for t in (0.2, 1.0)}
    assert {record.scheme.get("frozen_threshold", False) for record in records} == {True, False}
    assert all(record.scheme["lattice_resolution"] == 100 for record in records)


def test_a_text_keeps_what_became_of_the_guarantee() -> None:
    """As the edge counted it."""
    counts = ("rounds", "drafted_tokens", "tested_tokens", "accepted_tokens", "resampled_tokens")
    times = ("uplink_payload_bits", "draft_s", "network_s", "verify_s")
    names = ("kept_positions", "mean_dropped_mass", "cap_binding_rate", "dropped_mass_guarantee")
    guarantee = dict(zip(names, (5, 0.25, 0.2, 0.75), strict=True))
    statistics = {**dict.fromkeys((*counts, *times), 1), **guarantee}
    answer = {"arrivals": [[0.5, 3, 1]], "text_sha256": "ab", "statistics": statistics}
    counters = make_counters(0, 0)

    record = finished_record(make_record(requested_tokens=3), Observed(answer, counters, counters, [], []))

    assert {name: getattr(record, name) for name in guarantee} == guarantee


def test_a_switch_of_a_method_is_0_or_1() -> None:
    """`frozen` holds the threshold; anything else is refused."""
    assert parse_method("c-sqs:beta=0.1,frozen=1").fixed == {
        "initial_threshold": 0.1,
        "frozen_threshold": True,
    }
    assert parse_method("c-sqs:frozen=0").fixed == {"frozen_threshold": False}
    with pytest.raises(ConfigError, match="frozen of c-sqs is 'yes'; expected 0 or 1"):
        parse_method("c-sqs:frozen=yes")


def test_a_sweep_is_every_combination() -> None:
    """The frontier has what Theorem 1's figure has, and more."""
    steered = Sweep(
        thresholds=(0.1, 0.2), threshold_steps=(0.01, 0.05), target_dropped_masses=(0.1, 0.3, 0.5)
    )
    assert len(steered.schemes(1.0)) == 12
    assert all(scheme.frozen_threshold for scheme in Sweep(thresholds=(0.1,)).schemes(1.0))
    assert [s.scheme for s in Sweep(lattice_resolutions=(25,)).schemes(1.0)] == ["dense-qs"]

    every, theorems = PAPER.frontier_schemes(1.0), PAPER.theorem_schemes(1.0)
    assert len(set(every)) == len(every)
    assert every[: len(theorems)] == theorems
    assert PAPER.is_theorem_run(1.0, PAPER.texts, scheme_fields(theorems[0]))
    assert not PAPER.is_theorem_run(1.0, STEP_PROMPTS, scheme_fields(theorems[0]))
    assert not PAPER.is_theorem_run(1.0, PAPER.texts, scheme_fields(every[-1]))


def test_settings_have_names() -> None:
    """As in the figures."""
    scheme = CSqs.Parameters(initial_threshold=0.1, frozen_threshold=True)

    assert setting_name(scheme_fields(scheme)) == "β = 0.1, frozen"
    assert setting_name(scheme_fields(KSqs.Parameters(support_size=3))) == "K = 3"
    assert setting_name(scheme_fields(DenseQs.Parameters())) == "ℓ = 100"
