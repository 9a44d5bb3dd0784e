"""
The paper's statements on the running schemes, over the bundled pair's text (docs/schemes.md).

Letters: p target, q draft, q̂ lattice law, α dropped mass, β threshold, η step, ℓ resolution, T steps.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from bench.scheme_steps import Runs, Steps, run_scheme
from thinwire.common.schemes.c_sqs import CSqs, dropped_mass_guarantee
from thinwire.common.schemes.dense_qs import DenseQs
from thinwire.common.schemes.k_sqs import KSqs

ROUNDING = 1e-6
"""q is float32: its sums are off by about 1e-7."""

K_SQS = KSqs.Parameters(support_size=8)
C_SQS = CSqs.Parameters(
    max_support_size=256, initial_threshold=0.2, threshold_step=0.05, target_dropped_mass=0.3
)
SCHEMES = {
    "k-sqs K=8": K_SQS,
    "k-sqs K=2 ℓ=10": replace(K_SQS, support_size=2, lattice_resolution=10),
    "c-sqs": C_SQS,
    "c-sqs frozen": replace(C_SQS, frozen_threshold=True, initial_threshold=0.05),
    "dense-qs": DenseQs.Parameters(lattice_resolution=100),
}
ADAPTIVE = {
    "defaults": replace(CSqs.Parameters(), max_support_size=256),
    "β=.2 η=.05 α*=.3": replace(C_SQS, target_dropped_mass=0.3),
    "β=1 η=.2 α*=.1": replace(C_SQS, initial_threshold=1.0, threshold_step=0.2, target_dropped_mass=0.1),
    "β=-.5 η=1 α*=.2": replace(C_SQS, initial_threshold=-0.5, threshold_step=1.0, target_dropped_mass=0.2),
    "β=.1 η=.01 α*=0": replace(C_SQS, initial_threshold=0.1, threshold_step=0.01, target_dropped_mass=0.0),
}
CAPPED = replace(C_SQS, max_support_size=4, target_dropped_mass=0.05)


@pytest.fixture(params=SCHEMES, scope="module")  # so that the tests of one run follow each other
def steps(request: pytest.FixtureRequest, runs: Runs) -> Steps:
    """One run a scheme."""
    return runs.of(SCHEMES[request.param])


def running_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean of the first T values, for every T."""
    return np.cumsum(values) / np.arange(1, len(values) + 1)


def deviation(steps: Steps) -> float:
    """|N_rej - Σ TV(p, q̂)| in standard deviations."""
    tv = steps.lattice_distance
    return float(abs(steps.rejected.sum() - tv.sum()) / np.sqrt((tv * (1 - tv)).sum()))


def test_theorem_1_holds_at_every_position(steps: Steps) -> None:
    """T1: P(reject at n) = TV(p, q̂) <= TV(q, p) + α + K / 4ℓ, position by position."""
    resolution = steps.scheme.parameters.lattice_resolution
    bound = steps.draft_distance + steps.dropped_mass + steps.support_size / (4 * resolution)

    assert len(bound) >= 3000
    assert (steps.lattice_distance <= bound + ROUNDING).all()


def test_theorem_1_bounds_the_rejections_seen(steps: Steps) -> None:
    """T1 in sum: N_rej stays below the bound, six standard deviations allowed."""
    resolution = steps.scheme.parameters.lattice_resolution
    bound = (steps.draft_distance + steps.dropped_mass + steps.support_size / (4 * resolution)).sum()
    tv = steps.lattice_distance

    assert steps.rejected.sum() <= bound + 6 * np.sqrt((tv * (1 - tv)).sum())


def test_the_rejection_rate_is_the_distance_to_the_lattice_law(steps: Steps) -> None:
    """The identity: |N_rej - Σ TV(p, q̂)| <= 6 √Σ TV (1 - TV)."""
    assert 0 < steps.rejected.sum() < len(steps.rejected)
    assert deviation(steps) <= 6


@pytest.mark.parametrize("name", ["k-sqs K=8", "c-sqs frozen", "dense-qs"])
def test_a_wrong_lattice_law_breaks_the_identity(name: str, runs: Runs) -> None:
    """The control: a cloud that tests against another law on that support is off by over six sigma."""
    assert deviation(run_scheme(runs.rows, SCHEMES[name], wrong=True)) > 6


@pytest.mark.parametrize("name", ADAPTIVE)
def test_theorem_2_holds_for_every_number_of_steps(name: str, uncapped_runs: Runs) -> None:
    """T2 and its tighter form bound the mean dropped mass of the first T steps, for every T."""
    p, steps = ADAPTIVE[name], uncapped_runs.of(ADAPTIVE[name])
    beta, eta, target = p.initial_threshold, p.threshold_step, p.target_dropped_mass
    mean, count = running_mean(steps.dropped_mass), np.arange(1, len(steps.dropped_mass) + 1)
    loose = target + (abs(beta) + 1 + eta * target) / (eta * count)
    tight = target + (max(beta, 0) + eta * (1 - target)) / (eta * count)
    bound = np.minimum(loose, tight) if eta * (1 - 2 * target) <= 1 else loose

    assert not steps.cap_binds.any()
    assert (mean <= loose + ROUNDING).all()
    assert eta * (1 - 2 * target) > 1 or (mean <= tight + ROUNDING).all()
    assert steps.scheme.guarantee(len(mean)) == pytest.approx(bound[-1], abs=1e-12)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_the_threshold_moves_in_bounded_steps(name: str, uncapped_runs: Runs) -> None:
    """L3: -η (1 - α*) <= β_{n+1} - β_n <= η α*."""
    p = ADAPTIVE[name]
    moves = np.diff(uncapped_runs.of(p).thresholds)
    if p.initial_threshold < -p.threshold_step * (1 - p.target_dropped_mass):
        moves = moves[1:]  # a β_1 below the clamp is lifted to it once

    assert (moves >= -p.threshold_step * (1 - p.target_dropped_mass) - ROUNDING).all()
    assert (moves <= p.threshold_step * p.target_dropped_mass + ROUNDING).all()


@pytest.mark.parametrize("name", ADAPTIVE)
def test_the_threshold_stays_in_its_interval(name: str, uncapped_runs: Runs) -> None:
    """L4: min(β_1, -η (1 - α*)) <= β_n <= max(β_1, 1 + η α*)."""
    p = ADAPTIVE[name]
    beta = uncapped_runs.of(p).thresholds

    assert beta.min() >= min(p.initial_threshold, -p.threshold_step * (1 - p.target_dropped_mass)) - ROUNDING
    assert beta.max() <= max(p.initial_threshold, 1 + p.threshold_step * p.target_dropped_mass) + ROUNDING
    assert len(np.unique(beta)) > 10


def test_a_binding_cap_voids_the_guarantee_and_is_reported(runs: Runs) -> None:
    """Where K_max binds the bound fails, the statistics say so, and the steps' excess makes up for it."""
    steps = runs.of(CAPPED)
    excess = np.maximum(steps.dropped_mass - CAPPED.target_dropped_mass, 0)[steps.cap_binds].sum()
    kept = len(steps.dropped_mass)
    bound = dropped_mass_guarantee(CAPPED, kept)

    assert steps.statistics.kept_positions == kept
    assert steps.statistics.cap_binding_rate == steps.cap_binds.mean() > 0.01
    assert steps.statistics.mean_dropped_mass == pytest.approx(steps.dropped_mass.mean())
    assert steps.statistics.mean_dropped_mass > bound
    assert steps.statistics.mean_dropped_mass <= bound + excess / kept + ROUNDING
