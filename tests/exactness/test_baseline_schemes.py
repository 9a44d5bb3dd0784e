"""
The two baselines under the same enumeration: without a draft, and with the whole draft law as float16.

A float16 law has a sum near 2**24, too many integers to branch over one by one.
So it is enumerated twice: with rows a few units of 2**-24 high, whose sums are small and whose every integer
is a branch of its own; and with rows that sum to 1, whose integer is known only by the comparisons that the
shipped draw makes with the cumulative counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from exactness.enumeration import (
    EnumeratedDraws,
    ExactPair,
    Rows,
    TokenIds,
    by_prefix,
    distance,
    fractions,
    law_of,
    leaves,
    target_law,
)
from exactness.test_controls import RerollsOnRetry, TestsWithDraftLaw, bias
from exactness.test_enumeration import (
    DRAFT_2,
    DRAFT_3,
    TARGET_2,
    TARGET_3,
    Case,
    enumerate_case,
    loses_rejections,
)
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.law.random_streams import Stream, draw_key
from thinwire.common.law.speculative import BlockOutcome
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.cloud_ar import CloudAr
from thinwire.common.schemes.dense_f16 import DenseF16
from thinwire.common.session.messages import Verdict

CLOUD_AR = CloudAr.Parameters()
DENSE_F16 = DenseF16.Parameters()
UNIT = Fraction(1, 2**24)


# --- no draft -----------------------------------------------------------------------------------------------


def no_draft(prefix: TokenIds) -> npt.NDArray[Any]:
    """A draft model that must not run."""
    raise AssertionError(f"the draft model ran on {prefix}")


@pytest.mark.parametrize("draft_length", [0, 1, 3])
@pytest.mark.parametrize("target", [TARGET_2, TARGET_3], ids=["V=2", "V=3"])
def test_the_clouds_own_text_has_exactly_the_targets_law(target: Rows, draft_length: int) -> None:
    """Four rounds of one token each; a leaf is a text, because nothing else is drawn."""
    case = Case(CLOUD_AR, target, no_draft, draft_length, 4)
    results = enumerate_case(case)

    assert law_of(results) == target_law(case.target, 4)
    assert len(results) == len(law_of(results))
    assert {(o.rounds, *o.draft_lengths) for o, _ in results} == {(4, 0, 0, 0, 0)}


def test_an_end_of_text_leaves_the_clouds_own_law_alone() -> None:
    """The text ends behind it."""
    case = Case(CLOUD_AR, TARGET_3, no_draft, 2, 3)
    results = enumerate_case(case, eos_token_ids=(1,))

    assert law_of(results) == target_law(case.target, 3, eos_token_ids=(1,))


def loses_zeros(verdict: Verdict) -> bool:
    """A link that fails when the token is 0."""
    return verdict.next_token_id == 0


def test_a_link_that_loses_one_token_leaves_the_clouds_own_law_alone() -> None:
    """An empty round repeated gets the same verdict; rolled again it would make the lost token rarer."""
    case = Case(CLOUD_AR, TARGET_3, no_draft, 2, 3)
    results = enumerate_case(case, loses=loses_zeros)

    assert law_of(results) == target_law(case.target, 3)
    assert any(o.resends for o, _ in results)
    assert bias(case, RerollsOnRetry, loses=loses_zeros) > 0


# --- float16, every integer a branch ------------------------------------------------------------------------


def in_units(*heights: str) -> npt.NDArray[Any]:
    """A row this many units of 2**-24 high; its float16 law is that of the rounded heights."""
    return np.array([Fraction(height) * UNIT for height in heights], dtype=object)


# Rounded: (2, 1), (1, 2), (3, 0), (1, 1).
LOW_2 = by_prefix(
    in_units("2.4", "0.9"), in_units("0.6", "1.7"), in_units("2.9", "0.3"), in_units("1.1", "1.2")
)
# Rounded: (2, 1, 0), (1, 0, 2), (0, 2, 1), (1, 1, 1).
LOW_3 = by_prefix(
    in_units("2.2", "0.7", "0.4"),
    in_units("0.8", "0.2", "1.9"),
    in_units("0.1", "1.6", "1.3"),
    in_units("1.2", "0.8", "0.9"),
)
# Rounded: (1, 1), (1, 0), (0, 1).
LOWER_2 = by_prefix(in_units("0.9", "1.2"), in_units("0.8", "0.3"), in_units("0.4", "1.1"))
# Rounded: (1, 1, 0), (0, 1, 1), (1, 0, 0).
LOWER_3 = by_prefix(
    in_units("1.3", "0.7", "0.2"), in_units("0.4", "0.6", "1.1"), in_units("1.4", "0.1", "0.4")
)
LOW_CASES = {
    "V=2 γ=2": Case(DENSE_F16, TARGET_2, LOW_2, 2, 3),
    "V=2 γ=3": Case(DENSE_F16, TARGET_2, LOWER_2, 3, 4),
    "V=3 γ=1": Case(DENSE_F16, TARGET_3, LOW_3, 1, 3),
    "V=3 γ=2": Case(DENSE_F16, TARGET_3, LOW_3, 2, 3),
    "V=3 γ=3 S=1,2": Case(DENSE_F16, TARGET_3, LOWER_3, 3, 3, 4),
    "V=3 γ=3": Case(DENSE_F16, TARGET_3, LOW_3, 3, 2, 4),
}


@pytest.mark.parametrize("name", LOW_CASES)
def test_the_float16_law_over_every_integer_leaves_the_targets_law_alone(name: str) -> None:
    """S of 1 to 3, another one at every token; several rounds, with a rejection in the first."""
    case = LOW_CASES[name]
    results = enumerate_case(case)

    assert law_of(results) == target_law(case.target, case.outputs)
    assert any(o.first_round_rejected and o.rounds >= 2 for o, _ in results)
    assert max(max(o.draft_lengths) for o, _ in results) == case.draft_length


def test_a_budget_stop_leaves_the_law_alone() -> None:
    """A budget of two tokens' bytes: V = 3 takes 7 bytes each."""
    case = replace(LOW_CASES["V=3 γ=3 S=1,2"], budget_bits=2 * 7 * 8)
    results = enumerate_case(case)

    assert law_of(results) == target_law(case.target, case.outputs)
    assert {length for o, _ in results for length in o.draft_lengths} == {0, 1, 2}


def test_an_end_of_text_leaves_the_law_alone() -> None:
    """Drafting stops behind a drafted end of text, and the text behind a committed one."""
    case = Case(DENSE_F16, TARGET_3, LOW_3, 2, 3)
    results = enumerate_case(case, eos_token_ids=(1,))

    assert law_of(results) == target_law(case.target, case.outputs, eos_token_ids=(1,))


def test_a_lossy_link_leaves_the_law_alone() -> None:
    """A link that loses exactly the rejecting verdicts."""
    case = Case(DENSE_F16, TARGET_2, LOW_2, 2, 3)
    results = enumerate_case(case, loses=loses_rejections)

    assert law_of(results) == target_law(case.target, case.outputs)
    assert any(o.resends for o, _ in results)


# --- float16, the integer known by comparisons --------------------------------------------------------------


class _Integer:
    """An integer in [0, bound) known by comparisons alone: below c is a cut of its number at c / bound."""

    def __init__(self, draws: EnumeratedDraws, key: bytes, bound: int) -> None:
        self._draws, self._key, self._bound = draws, key, bound

    def __lt__(self, other: object) -> bool:
        if other is self:  # numpy's search compares its key with the key before, which is the first itself
            return False
        return self._draws.cut(self._key, [Fraction(int(other), self._bound)]) == 0

    def __gt__(self, other: object) -> bool:
        return other is not self and not self < int(other) + 1

    def __float__(self) -> float:
        return 0.0  # for the draft's margin, which decides nothing


class ComparedDraws(EnumeratedDraws):
    """Draft integers that branch when they are compared, so their bound may be as large as it likes."""

    def draft_integer(self, position: int, attempt: int, bound: int) -> Any:
        """An integer not yet known."""
        return _Integer(self, draw_key(self._seed, Stream.DRAFT, position, attempt), bound)


class ComparedPair(ExactPair):
    """A pair whose draft integers are known by comparisons."""

    def __init__(
        self, parameters: Any, target: Any, draft: Any, draws: EnumeratedDraws, **options: Any
    ) -> None:
        super().__init__(parameters, target, draft, ComparedDraws(draws._path), **options)


HIGH_CASES = {
    "V=2 γ=1": Case(DENSE_F16, TARGET_2, DRAFT_2, 1, 2),
    "V=2 γ=2": Case(DENSE_F16, TARGET_2, DRAFT_2, 2, 3),
    "V=2 γ=3": Case(DENSE_F16, TARGET_2, DRAFT_2, 3, 3, 4),
    "V=3 γ=1": Case(DENSE_F16, TARGET_3, DRAFT_3, 1, 3),
    "V=3 γ=2": Case(DENSE_F16, TARGET_3, DRAFT_3, 2, 3),
    "V=3 γ=2 to the end": Case(DENSE_F16, TARGET_3, DRAFT_3, 2, 2, 4),
}


@pytest.mark.parametrize("name", HIGH_CASES)
def test_the_float16_law_of_rows_that_sum_to_1_leaves_the_targets_law_alone(name: str) -> None:
    """S near 2**24, as in service; several rounds, with a rejection in the first."""
    case = HIGH_CASES[name]
    results = enumerate_case(case, pair=ComparedPair)

    assert law_of(results) == target_law(case.target, case.outputs)
    assert any(o.first_round_rejected and o.rounds >= 2 for o, _ in results)
    assert max(max(o.draft_lengths) for o, _ in results) == case.draft_length


@pytest.mark.parametrize("draft", [DRAFT_2, DRAFT_3], ids=["V=2", "V=3"])
def test_a_compared_integer_draws_each_token_with_its_count(draft: Rows) -> None:
    """The instrument itself: the law of the drawn token is b / S, which is not q."""
    q = draft((0,))
    scheme = make_scheme(DENSE_F16, vocabulary_size=len(q))
    drafted = scheme.quantize(q.astype(np.float64), scheme.initial_state())
    quantized = drafted.quantized

    def draw(path: Any) -> int:
        return scheme.sample(drafted, ComparedDraws(path), position=1, attempt=0).token_id

    law = [Fraction(0)] * len(q)
    for token_id, probability in leaves(draw):
        law[token_id] += probability

    assert law == [Fraction(int(b), quantized.lattice_resolution) for b in quantized.lattice_counts]
    assert law != list(q)


# --- controls -----------------------------------------------------------------------------------------------


class TestsWithNormalisedDraftLaw(TestsWithDraftLaw):
    """u < p / q instead of p / q̂, with q in proportion to the row."""

    __test__ = False

    def tested_against(self, draft_probs: npt.NDArray[Any], token: DraftToken) -> DraftToken:
        """q sums to 1 even where the row is a few units high."""
        return super().tested_against(draft_probs / sum(draft_probs), token)


class ComparedTestsWithDraftLaw(ComparedPair, TestsWithDraftLaw):
    """The same for rows that sum to 1."""

    __test__ = False


class TestsWithTheNominalSum(ExactPair):
    """A cloud that takes the values sent for probabilities: b / 2**24 instead of b / S."""

    __test__ = False

    def verify(
        self, rows: list[npt.NDArray[Any]], tokens: Sequence[DraftToken], first_position: int
    ) -> BlockOutcome:
        """Verification with every token's resolution replaced."""
        wrong = [replace(t, quantized=replace(t.quantized, lattice_resolution=2**24)) for t in tokens]
        return super().verify(rows, wrong, first_position)


class ComparedTestsWithTheNominalSum(ComparedPair, TestsWithTheNominalSum):
    """The same for rows that sum to 1."""

    __test__ = False


@pytest.mark.parametrize("name", ["V=2 γ=2", "V=3 γ=2"])
def test_testing_with_q_instead_of_the_float16_law_biases_the_text(name: str) -> None:
    """The rounding is part of the law, as on any lattice."""
    assert bias(LOW_CASES[name], TestsWithNormalisedDraftLaw) > 0


@pytest.mark.parametrize("name", ["V=2 γ=2", "V=3 γ=2"])
def test_even_the_rounding_of_rows_that_sum_to_1_biases_the_text(name: str) -> None:
    """A few parts in ten thousand of q are enough for the enumeration to tell."""
    assert 0 < bias(HIGH_CASES[name], ComparedTestsWithDraftLaw) < Fraction(1, 1000)


def test_taking_the_float16_values_for_probabilities_biases_the_text() -> None:
    """They do not sum to 1: the test and the residual need their own sum."""
    case = HIGH_CASES["V=3 γ=2"]

    assert 0 < bias(case, ComparedTestsWithTheNominalSum) < Fraction(1, 1000)


def test_rolling_again_on_a_retry_biases_the_text() -> None:
    """With a link that loses rejections, fresh numbers for a repeated round favour what was drafted."""
    case = Case(DENSE_F16, TARGET_3, LOW_3, 1, 2)

    assert bias(case, RerollsOnRetry, loses=loses_rejections) > 0
    assert bias(case, ExactPair, loses=loses_rejections) == 0


def test_the_draft_rows_are_not_the_laws_they_round_to() -> None:
    """Otherwise the cases above would prove nothing about rounding."""
    row = fractions(11, 6, 3)
    scheme = make_scheme(DENSE_F16, vocabulary_size=3)
    counts = scheme.quantize(row.astype(np.float64), scheme.initial_state()).quantized

    sent = {(i,): Fraction(int(b), counts.lattice_resolution) for i, b in enumerate(counts.lattice_counts)}
    assert 0 < distance(sent, {(i,): p for i, p in enumerate(row)}) < Fraction(1, 1000)
