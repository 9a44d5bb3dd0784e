"""What is measured: settings as methods of the grid, runs in process, and what their lines say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bench.grid.measure import Observed, finished_record
from bench.grid.store import StoreError, read_generations
from bench.paper.plan import PAPER, PLANS, SMOKE, STEP_PROMPTS, PaperPlan, scheme_fields, setting_name
from bench.paper.steps import make_tasks, read_steps, run, theorem_2_bounds, write_steps
from bench.scheme_steps import Rows, run_scheme
from tests.bench.bench_data import make_counters, make_record, run_over_fakes
from thinwire.common.schemes import SchemeParameters
from thinwire.common.schemes.c_sqs import CSqs, dropped_mass_guarantee
from thinwire.common.schemes.dense_qs import DenseQs
from thinwire.common.schemes.k_sqs import KSqs

K_SQS = KSqs.Parameters(support_size=4)
C_SQS = CSqs.Parameters(threshold_step=0.05, target_dropped_mass=0.3, initial_threshold=0.2)
FROZEN = replace(C_SQS, frozen_threshold=True)
TEXTS, STEPS_EACH, SIZE = 2, 30, 50


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Two texts of random laws over 50 tokens."""
    rng = np.random.default_rng(1)

    def laws() -> tuple[np.ndarray, ...]:
        return tuple(rng.dirichlet(np.full(SIZE, 0.2), STEPS_EACH) for _ in range(TEXTS))

    return Rows(laws(), tuple(law.astype(np.float32) for law in laws()))


@pytest.mark.parametrize("scheme", [K_SQS, C_SQS, FROZEN])
def test_a_line_sums_its_steps(rows: Rows, scheme: SchemeParameters) -> None:
    """Rejections, the bound's parts, bits, caps and every parameter; the same for the same seed."""
    steps = run_scheme(rows, scheme, seed=1)
    record = run(rows, scheme, temperature=1.0, seed=1)

    assert record == run(rows, scheme, temperature=1.0, seed=1)
    assert (record.texts, record.steps) == (TEXTS, TEXTS * STEPS_EACH)
    assert record.rejected == np.count_nonzero(steps.rejected)
    assert record.rejected != run(rows, scheme, temperature=1.0, seed=3).rejected
    assert record.draft_distance == pytest.approx(steps.draft_distance.sum())
    assert record.lattice_term == pytest.approx(steps.support_size.sum() / 400)
    assert record.payload_bits == steps.statistics.uplink_payload_bits
    assert record.cap_bound == pytest.approx(steps.statistics.cap_binding_rate * record.steps)
    assert record.lattice_distance <= record.draft_distance + record.dropped_mass + record.lattice_term
    assert record.scheme == scheme_fields(scheme)
    assert (record.last_threshold is None) == (scheme.scheme == "k-sqs")
    if scheme != C_SQS:
        assert (record.running_at, record.running_mean, record.largest_excess) == ([], [], None)


def test_an_adaptive_run_has_a_running_mean(rows: Rows) -> None:
    """It ends in the mean of all steps; its excess over the bound is the largest of all steps."""
    record, dropped = run(rows, C_SQS, temperature=1.0, seed=1), run_scheme(rows, C_SQS, seed=1).dropped_mass

    assert (record.running_at[0], record.running_at[-1]) == (1, record.steps)
    assert record.running_at == sorted(set(record.running_at))
    assert 30 < len(record.running_at) <= 60
    assert record.running_mean[-1] == pytest.approx(record.dropped_mass / record.steps, abs=1e-6)
    by_hand = max(dropped[:n].mean() - dropped_mass_guarantee(C_SQS, n) for n in range(1, record.steps + 1))
    assert record.largest_excess == pytest.approx(by_hand)
    assert by_hand <= 1e-6


@pytest.mark.parametrize(
    ("beta", "paper", "ours"), [(0.2, 0.3 + 1.215 / 0.5, 0.3 + 0.235 / 0.5), (-0.5, 3.33, 0.37)]
)
def test_the_bounds_are_the_papers_and_the_running_schemes(beta: float, paper: float, ours: float) -> None:
    """Ten steps, by hand: |β| + 1 + η α* over η T, and max(β, 0) + η (1 - α*) over the same."""
    scheme = scheme_fields(replace(C_SQS, initial_threshold=beta))

    assert theorem_2_bounds(scheme, 10) == pytest.approx((paper, ours))


def test_a_line_is_read_as_it_was_written(rows: Rows, tmp_path: Path) -> None:
    """One that a crash cut short is not there, and the next one does not continue it."""
    records = [run(rows, scheme, temperature=1.0, seed=1) for scheme in (K_SQS, C_SQS, FROZEN)]
    write_steps(tmp_path, records[:2])
    path = tmp_path / "steps.jsonl"
    path.write_text(path.read_text()[:-20])
    assert read_steps(tmp_path) == records[:1]

    write_steps(tmp_path, records[2:])
    assert read_steps(tmp_path) == [records[0], records[2]]
    path.write_text('{"kind": "steps", "schema": 2, "scheme": {"scheme": "k-sqs"}}\n')
    with pytest.raises(StoreError, match=r"steps\.jsonl: "):
        read_steps(tmp_path)


def test_a_resumed_run_makes_only_what_is_missing(rows: Rows) -> None:
    """A text whose runs are all there is not sampled again."""
    plan = replace(SMOKE, texts_each=2)
    tasks = make_tasks(plan, [])
    assert [(task.temperature, task.seed) for task in tasks] == [(1.0, 1), (1.0, 2)]
    template = run(rows, K_SQS, temperature=1.0, seed=1)
    changes = [{"texts": texts, "scheme": scheme_fields(scheme)} for texts, scheme in tasks[0].runs]
    done = [msgspec.structs.replace(template, **change) for change in changes]

    partly, other = make_tasks(plan, done[:3])
    assert (partly.runs, other) == (tasks[0].runs[3:], tasks[1])
    assert make_tasks(plan, done) == tasks[1:]
    assert 0 < partly.seconds < other.seconds


# --- the plan ----------------------------------------------------------------------------------------------


def test_the_plan_is_that_of_the_papers_captions() -> None:
    """K = 2, 3; β = 0.1, 0.2; frozen beside adaptive; at least three seeds a point."""
    names = {*PAPER.sparse, *PAPER.adaptive, *PAPER.frozen}
    assert names == {"K = 2", "K = 3", "β = 0.1", "β = 0.2", "β = 0.1, frozen", "β = 0.2, frozen"}
    assert setting_name(scheme_fields(DenseQs.Parameters())) == "ℓ = 100"
    assert min(PAPER.seeds, PAPER.step_seeds) >= 3
    assert PAPER.temperatures == (0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_what_the_claims_compare_is_among_what_is_measured(plan: PaperPlan) -> None:
    """Settings and temperatures, over the link and in process."""
    measured = {setting_name(scheme_fields(scheme)) for scheme in plan.theorem_schemes(1.0)}

    assert measured >= {*plan.sparse, *plan.adaptive, *plan.frozen}
    assert set(plan.step_temperatures) <= set(plan.temperatures)


def test_every_line_over_the_link_says_all_its_parameters(prompts: Path, tmp_path: Path) -> None:
    """γ, and every parameter of the scheme: α* and K_max are those of the line's temperature."""
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


def test_the_frontier_is_theorem_1s_settings_and_every_combination_of_a_sweep() -> None:
    """Each once; over whole texts only Theorem 1's."""
    runs, theorem = PAPER.runs(1.0), PAPER.theorem_schemes(1.0)
    whole, head = ([scheme for texts, scheme in runs if texts == n] for n in (PAPER.texts, STEP_PROMPTS))

    assert whole == theorem == head[: len(theorem)]
    assert len(set(head)) == len(head)
    names = [scheme.scheme for scheme in head]
    assert (names.count("dense-qs"), names.count("k-sqs")) == (4, 3 * 6)
    steered = {scheme_fields(s)["target_dropped_mass"] for s in head if s.scheme == "c-sqs"}
    assert steered == {0.01, 0.05, 0.1, 0.3, 0.5, 0.7}
    frozen = [s for s in head if scheme_fields(s).get("frozen_threshold")]
    assert {scheme_fields(s)["initial_threshold"] for s in frozen} == {0.01, 0.02, 0.05, 0.1, 0.2}
