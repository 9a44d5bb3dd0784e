"""The verdicts: what the paper claims, against canned lines whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from bench.grid.records import GenerationRecord
from bench.paper.claims import (
    CLAIMS,
    K_BETTER_LOW,
    NOT_SEEN,
    SEEN,
    WITHIN_ERROR,
    Finding,
    equal_bits_findings,
    findings,
)
from bench.paper.data import Estimate, estimate, make_data
from bench.paper.plan import SMOKE, scheme_fields
from bench.paper.steps import read_steps
from tests.bench.bench_data import PAPER_RECORDED, make_record

SETTINGS = ("k-sqs:K=1", "k-sqs:K=3", *SMOKE.settings)
PLAN = replace(SMOKE, seeds=3, settings=SETTINGS, sparse=("K = 2", "K = 3"))


def texts(latency: Callable[[str, float, int], float]) -> list[GenerationRecord]:
    """Texts of a small plan, 10 tokens each; latency: (setting, temperature, seed) → seconds a token."""
    found = []
    for temperature in PLAN.temperatures:
        for method in PLAN.methods():
            scheme = method.scheme_fields(temperature, method.fixed)
            name = "k" if method.way == "k-sqs" else "frozen" if scheme["frozen_threshold"] else "c"
            for seed in range(1, PLAN.seeds + 1):
                where = {"method": method.name, "way": method.way, "temperature": temperature, "seed": seed}
                lasted_s = 10 * latency(name, temperature, seed)
                found.append(make_record(**where, scheme=scheme, output_tokens=10, last_token_s=lasted_s))
    return found


def verdicts(records: list[GenerationRecord]) -> dict[str, str]:
    """Claim → verdict on latency; of adaptivity, over all temperatures."""
    found = findings(make_data(PLAN, records, []))
    return {f.claim: f.verdict for f in reversed(found) if f.compared.startswith("latency")}


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ((5.0, 6.0, 7.0), SEEN),
        ((-5.0, -6.0, -7.0), NOT_SEEN),
        ((5.0, -6.0, 7.0), WITHIN_ERROR),
        ((0.0, 0.0, 0.0), WITHIN_ERROR),
        ((5.0, 7.0), WITHIN_ERROR),
        ((5.0,), "not measured"),
        ((), "not measured"),
    ],
)
def test_a_verdict_needs_a_difference_beyond_its_interval(
    differences: tuple[float, ...], verdict: str
) -> None:
    """Two seeds that differ by a third prove nothing: their interval is 12.7 standard errors wide."""
    assert Finding("claim", "what", "ms", estimate(differences)).verdict == verdict


def test_the_error_is_the_standard_error_over_seeds() -> None:
    """Standard deviation of 1, 2, 3 is 1; its interval has two degrees of freedom."""
    found = Finding("claim", "what", "ms", estimate([1.0, 2.0, 3.0, math.nan]))

    assert found.difference == Estimate(2.0, pytest.approx(1 / math.sqrt(3)), 3)
    assert found.margin == pytest.approx(4.303 / math.sqrt(3), rel=1e-4)


@pytest.mark.parametrize(
    ("k_low", "c_low", "k_high", "c_high", "frozen", "verdict"),
    [(1.0, 2.0, 5.0, 3.0, 6.0, SEEN), (2.0, 1.0, 3.0, 5.0, 0.5, NOT_SEEN)],
    ids=["the paper's world", "the opposite"],
)
def test_a_world_is_told_as_it_is(
    k_low: float, c_low: float, k_high: float, c_high: float, frozen: float, verdict: str
) -> None:
    """K-SQS fast where it is cold, C-SQS hardly slower where it is hot, a frozen threshold slowest."""
    seconds = {("k", 0.2): k_low, ("c", 0.2): c_low, ("k", 1.0): k_high, ("c", 1.0): c_high}
    records = texts(lambda name, t, seed: seconds.get((name, t), frozen) + seed / 100)

    assert verdicts(records) == dict.fromkeys(CLAIMS, verdict)


def test_differences_are_taken_seed_by_seed() -> None:
    """
    Seeds ten times further apart than the schemes do not hide a difference that every seed shows.

    A seed of which a text failed counts for no difference.
    """
    records = texts(lambda name, t, seed: 10.0 * seed + (1.0 if name == "c" else 0.0) + seed / 1000)
    assert verdicts(records)[K_BETTER_LOW] == SEEN

    compared = next(n for n, record in enumerate(records) if record.scheme.get("support_size") == 2)
    records[compared] = replace(records[compared], failure="UNAVAILABLE: gone")
    found = findings(make_data(PLAN, records, []))
    assert {f.difference.count for f in found if f.claim == K_BETTER_LOW} == {2}


@pytest.mark.parametrize(
    ("bits", "value"), [(10.0, 0.8), (100.0, 0.4), (math.sqrt(1000.0), 0.6), (400.0, 0.3), (9.0, math.nan)]
)
def test_k_sqs_is_read_off_at_the_bits_of_c_sqs(bits: float, value: float) -> None:
    """Between its neighbours, straight on a logarithmic axis; there is none outside."""
    steps, template = 1000, read_steps(PAPER_RECORDED / "steps")[0]

    def run(scheme: dict[str, Any], bits: float, rejection_rate: float) -> Any:
        counts = {"payload_bits": round(bits * steps), "rejected": round(rejection_rate * steps)}
        return msgspec.structs.replace(template, scheme=scheme, steps=steps, texts=PLAN.texts, **counts)

    schemes = [scheme_fields(scheme) for scheme in PLAN.theorem_schemes(1.0)]
    points = [(10.0, 0.8), (100.0, 0.4), (1600.0, 0.2), (bits, 0.1)]  # K = 1, 3, 2; β = 0.1
    runs = [run(scheme, *point) for scheme, point in zip(schemes, points, strict=False)]

    (found,) = equal_bits_findings(make_data(PLAN, [], runs))
    assert found.difference.mean == pytest.approx(value - 0.1, abs=1e-5, nan_ok=True)
