"""What is measured: settings as methods of the grid, and lines that say all their parameters."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.grid.measure import Observed, finished_record
from bench.grid.methods import parse_method
from bench.grid.runner import Runner
from bench.grid.store import Store, read_generations
from bench.paper.plan import PAPER, PLANS, SMOKE, STEP_PROMPTS, PaperPlan, Sweep, scheme_fields, setting_name
from bench.scheme_steps import PROMPTS
from tests.bench.bench_data import FakeStages, Silent, make_counters, make_record, run_settings
from thinwire.common.errors import ConfigError
from thinwire.common.schemes.c_sqs import CSqs
from thinwire.common.schemes.dense_qs import DenseQs
from thinwire.common.schemes.k_sqs import KSqs


def test_the_plan_is_that_of_the_papers_captions() -> None:
    """K = 2, 3; β = 0.1, 0.2; frozen beside adaptive; at least three seeds a point."""
    names = {setting_name(method.scheme_fields(1.0, method.fixed)) for method in PAPER.methods()}

    assert {"K = 2", "K = 3", "β = 0.1", "β = 0.2", "β = 0.1, frozen", "β = 0.2, frozen"} <= names
    assert min(PAPER.seeds, PAPER.step_seeds) >= 3
    assert PAPER.temperatures == (0.2, 0.4, 0.6, 0.8, 1.0)


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
    store = Store(tmp_path / "out", {})
    Runner(
        plan.grid_plan(),
        plan.methods(),
        run_settings(prompts),
        store,
        Silent(),
        open_=FakeStages(),
        quiet_s=0.0,
    ).run()

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
    guarantee = {
        "kept_positions": 5,
        "mean_dropped_mass": 0.25,
        "cap_binding_rate": 0.2,
        "dropped_mass_guarantee": 0.75,
    }
    answer = {
        "arrivals": [[0.5, 3, 1]],
        "text_sha256": "ab",
        "statistics": {**dict.fromkeys((*counts, *times), 1), **guarantee},
    }
    counters = make_counters(0, 0)

    record = finished_record(make_record(), Observed(answer, counters, counters, [], []))

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


def test_the_plan_knows_how_many_texts_there_are() -> None:
    """One behind each prompt is what the frontier runs over."""
    assert len(PROMPTS) == STEP_PROMPTS


def test_settings_have_names() -> None:
    """As in the figures."""
    scheme = CSqs.Parameters(initial_threshold=0.1, frozen_threshold=True)

    assert setting_name(scheme_fields(scheme)) == "β = 0.1, frozen"
    assert setting_name(scheme_fields(KSqs.Parameters(support_size=3))) == "K = 3"
    assert setting_name(scheme_fields(DenseQs.Parameters())) == "ℓ = 100"
