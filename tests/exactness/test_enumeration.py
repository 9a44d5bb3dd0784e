"""The output's law equals the target's, in exact fractions, over the keyed draws of two real sessions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import pytest

from exactness.enumeration import (
    EnumeratedDraws,
    ExactPair,
    Outcome,
    Rows,
    by_prefix,
    fractions,
    law_of,
    leaves,
    target_law,
)
from thinwire.common.schemes import SchemeParameters
from thinwire.common.schemes.c_sqs import CSqs
from thinwire.common.schemes.dense_qs import DenseQs
from thinwire.common.schemes.k_sqs import KSqs
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.hit_rate import HitRate
from thinwire.common.session.messages import Verdict

TARGET_2 = by_prefix(fractions(1, 3), fractions(2, 1), fractions(1, 1))
DRAFT_2 = by_prefix(fractions(7, 3), fractions(4, 6), fractions(9, 1), fractions(11, 9))
TARGET_3 = by_prefix(fractions(1, 2, 1), fractions(3, 0, 1), fractions(1, 1, 2), fractions(1, 4, 3))
DRAFT_3 = by_prefix(fractions(11, 6, 3), fractions(5, 3, 12), fractions(2, 15, 3), fractions(17, 2, 1))

K_SQS = KSqs.Parameters(lattice_resolution=3, support_size=2)
C_SQS = CSqs.Parameters(
    lattice_resolution=3,
    max_support_size=3,
    initial_threshold=0.3,
    threshold_step=1.0,
    target_dropped_mass=0.1,
)
DRAFTED = replace(C_SQS, rollback="drafted")
FROZEN = replace(C_SQS, frozen_threshold=True)
DENSE = DenseQs.Parameters(lattice_resolution=3)


@dataclass(frozen=True)
class Case:
    """One enumeration: at most a few thousand leaves."""

    scheme: SchemeParameters
    target: Rows
    draft: Rows
    draft_length: int
    outputs: int
    max_tokens: int = 0
    """Tokens asked for; `outputs` unless given. More keeps γ long up to the end of what is seen."""
    budget_bits: int = 0
    min_acceptance: float = 0.0


CASES = {
    "k-sqs V=2 γ=2 ℓ=3": Case(K_SQS, TARGET_2, DRAFT_2, 2, 3),
    "k-sqs V=2 γ=3 ℓ=2": Case(replace(K_SQS, lattice_resolution=2), TARGET_2, DRAFT_2, 3, 4),
    "k-sqs V=3 γ=1 ℓ=4": Case(replace(K_SQS, lattice_resolution=4), TARGET_3, DRAFT_3, 1, 3),
    "k-sqs V=3 γ=2 ℓ=3": Case(K_SQS, TARGET_3, DRAFT_3, 2, 3),
    "k-sqs V=3 K=1 ℓ=1": Case(
        replace(K_SQS, support_size=1, lattice_resolution=1), TARGET_3, DRAFT_3, 3, 3, 4
    ),
    "c-sqs V=2 γ=3": Case(replace(C_SQS, lattice_resolution=2), TARGET_2, DRAFT_2, 3, 3, 4),
    "c-sqs V=3 γ=1 ℓ=4": Case(replace(C_SQS, lattice_resolution=4), TARGET_3, DRAFT_3, 1, 3),
    "c-sqs V=3 γ=2": Case(C_SQS, TARGET_3, DRAFT_3, 2, 3),
    "c-sqs V=3 γ=3": Case(replace(C_SQS, lattice_resolution=2), TARGET_3, DRAFT_3, 3, 3, 4),
    "c-sqs K_max=2": Case(replace(C_SQS, max_support_size=2, initial_threshold=0.1), TARGET_3, DRAFT_3, 2, 3),
    "c-sqs drafted V=2 γ=3": Case(replace(DRAFTED, lattice_resolution=2), TARGET_2, DRAFT_2, 3, 3, 4),
    "c-sqs drafted V=3 γ=2": Case(DRAFTED, TARGET_3, DRAFT_3, 2, 3),
    "c-sqs drafted V=3 γ=3": Case(replace(DRAFTED, lattice_resolution=2), TARGET_3, DRAFT_3, 3, 3, 4),
    "c-sqs frozen V=3 γ=2": Case(FROZEN, TARGET_3, DRAFT_3, 2, 3),
    "c-sqs frozen V=2 γ=3": Case(FROZEN, TARGET_2, DRAFT_2, 3, 3, 4),
    "dense-qs V=2 γ=2 ℓ=4": Case(replace(DENSE, lattice_resolution=4), TARGET_2, DRAFT_2, 2, 3),
    "dense-qs V=3 γ=2 ℓ=3": Case(DENSE, TARGET_3, DRAFT_3, 2, 3),
    "dense-qs V=3 γ=3 ℓ=2": Case(replace(DENSE, lattice_resolution=2), TARGET_3, DRAFT_3, 3, 4),
}
BUDGET_CASES = {
    "k-sqs": Case(K_SQS, TARGET_3, DRAFT_3, 3, 3, 4, budget_bits=9),
    "c-sqs": Case(C_SQS, TARGET_3, DRAFT_3, 3, 3, 4, budget_bits=9),
    "c-sqs drafted": Case(DRAFTED, TARGET_3, DRAFT_3, 3, 3, 4, budget_bits=9),
    "dense-qs": Case(DENSE, TARGET_3, DRAFT_3, 3, 3, 4, budget_bits=9),
}
UNLIKELY_CASES = {
    "k-sqs": Case(K_SQS, TARGET_3, DRAFT_3, 2, 3, 4, min_acceptance=0.4),
    "c-sqs": Case(replace(C_SQS, initial_threshold=0.05), TARGET_3, DRAFT_3, 2, 2, 3, min_acceptance=0.4),
    "c-sqs drafted": Case(
        replace(DRAFTED, initial_threshold=0.05), TARGET_3, DRAFT_3, 2, 2, 3, min_acceptance=0.4
    ),
    "dense-qs": Case(DENSE, TARGET_3, DRAFT_3, 2, 2, 3, min_acceptance=0.4),
}


def enumerate_case(case: Case, *, pair: type[ExactPair] = ExactPair, **options: object) -> list:
    """All leaves of a case."""
    parameters = GenerationRequest(
        "",
        seed=7,
        scheme=case.scheme,
        max_tokens=case.max_tokens or case.outputs,
        draft_length=case.draft_length,
        uplink_budget_bits=case.budget_bits,
        min_block_acceptance=case.min_acceptance,
    )

    def run(path) -> Outcome:
        draws = EnumeratedDraws(path)
        return pair(parameters, case.target, case.draft, draws, observe=case.outputs, **options).run()

    return leaves(run)


@pytest.mark.parametrize("name", CASES)
def test_the_output_has_exactly_the_targets_law(name: str) -> None:
    """Through several rounds, with a rejection in the first, the law is the target's to the last fraction."""
    case = CASES[name]
    results = enumerate_case(case)

    assert law_of(results) == target_law(case.target, case.outputs)
    assert any(o.first_round_rejected and o.rounds >= 2 for o, _ in results)
    assert max(max(o.draft_lengths) for o, _ in results) == case.draft_length
    if case.scheme.scheme == "c-sqs":
        moves = len({t for o, _ in results for t in o.thresholds if not math.isnan(t)}) > 1
        assert moves is not case.scheme.frozen_threshold


@pytest.mark.parametrize("name", BUDGET_CASES)
def test_a_budget_stop_leaves_the_law_alone(name: str) -> None:
    """Blocks cut short by the uplink budget, at lengths that depend on the text, do not bias it."""
    case = BUDGET_CASES[name]
    results = enumerate_case(case)

    assert law_of(results) == target_law(case.target, case.outputs)
    assert any(o.first_round_rejected and o.rounds >= 2 for o, _ in results)
    assert {length for o, _ in results for length in o.draft_lengths} & set(range(1, case.draft_length))


@pytest.mark.parametrize("name", UNLIKELY_CASES)
def test_ending_a_block_behind_an_unlikely_token_leaves_the_law_alone(name: str) -> None:
    """Blocks whose length hangs on the tokens drawn, all of them kept, do not bias the text."""
    case = UNLIKELY_CASES[name]
    results = enumerate_case(case)

    assert law_of(results) == target_law(case.target, case.outputs)
    assert any(o.first_round_rejected and o.rounds >= 2 for o, _ in results)
    assert {o.draft_lengths[0] for o, _ in results} == {1, 2}


@pytest.mark.parametrize(
    "scheme", [K_SQS, C_SQS, DRAFTED, DENSE], ids=["k-sqs", "c-sqs", "drafted", "dense-qs"]
)
def test_an_end_of_text_leaves_the_law_alone(scheme: SchemeParameters) -> None:
    """Drafting stops behind a drafted end of text, and the text behind a committed one."""
    case = Case(scheme, TARGET_3, DRAFT_3, 2, 3)
    results = enumerate_case(case, eos_token_ids=(1,))

    assert law_of(results) == target_law(case.target, case.outputs, eos_token_ids=(1,))


@pytest.mark.parametrize("full_at", [1, 2, 3])
@pytest.mark.parametrize(
    "scheme", [K_SQS, C_SQS, DRAFTED, DENSE], ids=["k-sqs", "c-sqs", "drafted", "dense-qs"]
)
def test_a_draft_that_is_full_leaves_the_law_alone(scheme: SchemeParameters, full_at: int) -> None:
    """From some position on, which hangs on what was accepted, blocks are shorter and then empty."""
    case = Case(scheme, TARGET_2, DRAFT_2, 2, 4, max_tokens=6)
    results = enumerate_case(case, draft_context_length=full_at)
    lengths = {tuple(o.draft_lengths[:2]) for o, _ in results}

    assert law_of(results) == target_law(case.target, case.outputs)
    assert all(o.draft_lengths[-1] == 0 for o, _ in results)
    assert {first for first, _ in lengths} == {min(2, full_at)}
    assert len(lengths) == full_at


@pytest.mark.parametrize(
    "scheme", [K_SQS, C_SQS, DRAFTED, DENSE], ids=["k-sqs", "c-sqs", "drafted", "dense-qs"]
)
def test_a_lossy_link_leaves_the_law_alone(scheme: SchemeParameters) -> None:
    """A link that loses exactly the rejecting verdicts cannot bias the text: a repeat gets the same one."""
    case = Case(scheme, TARGET_2, DRAFT_2, 2, 3)
    results = enumerate_case(case, loses=loses_rejections)

    assert law_of(results) == target_law(case.target, case.outputs)
    assert any(o.resends for o, _ in results)


@pytest.mark.parametrize("scheme", [K_SQS, DENSE], ids=["k-sqs", "dense-qs"])
def test_lengths_that_follow_what_was_accepted_leave_the_law_alone(scheme: SchemeParameters) -> None:
    """A rejection of the first token makes the next block empty, its acceptance makes it longer."""
    case = Case(scheme, TARGET_2, DRAFT_2, 2, 4, 6, min_acceptance=0.01)
    results = enumerate_case(case, hit_rate=partial(HitRate, 0.2, memory=2.0))
    lengths = {tuple(o.draft_lengths[:3]) for o, _ in results}

    assert law_of(results) == target_law(case.target, case.outputs)
    assert {each[:2] for each in lengths} == {(1, 0), (1, 2)}


def loses_rejections(verdict: Verdict) -> bool:
    """A link that fails when the verdict accepts nothing."""
    return verdict.accepted == 0
