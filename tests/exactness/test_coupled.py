"""
Scheme `coupled`: its text is a function of the target and the seed, and its law is the target's.

Enumerated over the keyed draws as the other schemes are, beside mistakes that are found; and the race itself:
the joint law of two winners of one set of exponentials, in closed form and in fractions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import chi2

from exactness.enumeration import (
    PROMPT,
    EnumeratedDraws,
    ExactPair,
    Rows,
    TokenIds,
    by_prefix,
    fractions,
    law_of,
    leaves,
    target_law,
)
from exactness.test_controls import RerollsOnRetry, bias
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
from thinwire.common.law.random_streams import KeyedDraws, Stream
from thinwire.common.law.speculative import BlockOutcome, verify_block
from thinwire.common.schemes.coupled import Coupled, match_probability, race_through
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.messages import Verdict

COUPLED = Coupled.Parameters()
WRONG_3 = by_prefix(fractions(0, 0, 1), fractions(1, 0, 0))
"""A draft that knows nothing of the target, and is sure of it."""
CASES = {
    "V=2 γ=2": Case(COUPLED, TARGET_2, DRAFT_2, 2, 4),
    "V=2 γ=4": Case(COUPLED, TARGET_2, DRAFT_2, 4, 4, 6),
    "V=3 γ=1": Case(COUPLED, TARGET_3, DRAFT_3, 1, 4),
    "V=3 γ=3": Case(COUPLED, TARGET_3, DRAFT_3, 3, 4, 5),
    "V=3, a wrong draft": Case(COUPLED, TARGET_3, WRONG_3, 3, 3, 5),
    "V=3, no draft": Case(COUPLED, TARGET_3, DRAFT_3, 0, 4),
    "V=3, a budget of 3 bits": Case(COUPLED, TARGET_3, DRAFT_3, 3, 3, 5, budget_bits=8),
    "V=3, blocks that end early": Case(COUPLED, TARGET_3, DRAFT_3, 3, 3, 5, min_acceptance=0.5),
}


@pytest.mark.parametrize("name", CASES)
def test_the_output_has_exactly_the_targets_law(name: str) -> None:
    """Through several rounds, to the last fraction."""
    case = CASES[name]
    results = enumerate_case(case)

    assert law_of(results) == target_law(case.target, case.outputs)
    assert any(o.rounds >= 2 for o, _ in results)


def test_an_end_of_text_and_a_lossy_link_leave_the_law_alone() -> None:
    """As for the other schemes."""
    ended = enumerate_case(Case(COUPLED, TARGET_3, DRAFT_3, 2, 3), eos_token_ids=(1,))
    lossy = enumerate_case(Case(COUPLED, TARGET_2, DRAFT_2, 2, 4), loses=loses_rejections)

    assert law_of(ended) == target_law(TARGET_3, 3, eos_token_ids=(1,))
    assert law_of(lossy) == target_law(TARGET_2, 4)
    assert any(o.resends for o, _ in lossy)


@pytest.mark.parametrize(("target", "drafts"), [(TARGET_2, (DRAFT_2,)), (TARGET_3, (DRAFT_3, WRONG_3))])
def test_the_text_is_the_same_for_every_draft_and_for_none(target: Rows, drafts: Sequence[Rows]) -> None:
    """At every leaf: with this draft and that, with other lengths, a lossy link, and without any."""

    def run(path: Any) -> TokenIds:
        draws = EnumeratedDraws(path)
        text = PROMPT
        for _ in range(4):
            text += (draws.race(Stream.COUPLED, len(text), target(text))[0],)
        for draft, length, loses in product(drafts, (0, 1, 3), (never, always)):
            request = GenerationRequest("", seed=7, scheme=COUPLED, max_tokens=4, draft_length=length)
            outcome = ExactPair(request, target, draft, draws, loses=loses).run()
            assert tuple(outcome.token_ids) == text[len(PROMPT) :]
            assert (outcome.resends > 0) is (loses is always)
        return text

    texts = leaves(run)
    law = law_of_texts(texts)

    assert law == target_law(target, 4)


TREES = (
    ((0, 1, 2), (0, 0, 0)),
    ((0, 1, 1, 0, 2), (0, 0, 1, 2, 2)),
    ((1, 1, 0), (0, 0, 2)),
    ((2, 0, 1, 2, 0, 1), (0, 1, 1, 2, 0, 5)),
    ((), ()),
)
"""Guesses and the rows that they follow: every guess, branches, one twice, a wrong path, and none."""


@pytest.mark.parametrize("target", [TARGET_2, TARGET_3])
def test_the_text_is_the_same_for_every_tree_of_guesses(target: Rows) -> None:
    """Passes over trees, to the last fraction; rows are read along the right path only."""
    size = len(target(PROMPT))

    class Rows(Sequence[Any]):
        def __init__(self, prefixes: list[TokenIds]) -> None:
            self.prefixes, self.read = prefixes, list[int]()

        def __len__(self) -> int:
            return len(self.prefixes)

        def __getitem__(self, row: Any) -> Any:
            self.read.append(row)
            return target(self.prefixes[row])

    def run(path: Any) -> TokenIds:
        draws = EnumeratedDraws(path)
        text = PROMPT
        for _ in range(4):
            text += (draws.race(Stream.COUPLED, len(text), target(text))[0],)
        for trees in ((tree,) * 4 for tree in TREES):
            written = PROMPT
            for guesses, parents in trees:
                known = [(guess % size, parent) for guess, parent in zip(guesses, parents, strict=True)]
                prefixes = [written]
                for guess, parent in known:
                    prefixes.append((*prefixes[parent], guess))
                rows = Rows(prefixes)
                outcome, right = race_through(
                    rows, [guess for guess, _ in known], parents, draws, first_position=len(written)
                )
                assert rows.read == [0, *(index + 1 for index in right)]
                assert outcome.accepted == len(right)
                written += (*(known[index][0] for index in right), outcome.next_token_id)
                if len(written) >= len(text):
                    break
            assert written[: len(text)] == text[: len(written)]
        return text

    assert law_of_texts(leaves(run)) == target_law(target, 4)


def never(verdict: Verdict) -> bool:
    """A link that keeps every verdict."""
    return False


def always(verdict: Verdict) -> bool:
    """A link that loses every verdict once."""
    return True


def law_of_texts(texts: Sequence[tuple[TokenIds, Fraction]]) -> dict[TokenIds, Fraction]:
    """The law of what follows the prompt."""
    law: dict[TokenIds, Fraction] = {}
    for text, probability in texts:
        law[text[len(PROMPT) :]] = law.get(text[len(PROMPT) :], Fraction(0)) + probability
    return law


# --- controls -----------------------------------------------------------------------------------------------


class SharesUnderRejection(ExactPair):
    """The same shared numbers, but accept iff u < p / q and draw the replacement from the residual."""

    def verify(
        self, rows: list[npt.NDArray[Any]], tokens: Sequence[DraftToken], first_position: int
    ) -> BlockOutcome:
        """The lattice schemes' test, with q itself as the law that the token was drawn from."""
        drawn = []
        for i, token in enumerate(tokens):
            prefix = tuple(self.cloud_cache[: len(self.cloud_cache) - len(tokens) + i])
            q = self.draft(prefix)
            total = int(np.lcm.reduce([p.denominator for p in q]))
            ids = np.flatnonzero(q)
            counts = np.array([int(p * total) for p in q[ids]], dtype=np.int64)
            quantized = replace(
                token.quantized, support_ids=ids, lattice_counts=counts, lattice_resolution=total
            )
            drawn.append(DraftToken(quantized, int(np.searchsorted(ids, token.token_id))))
        assert self.cloud is not None
        return verify_block(rows, drawn, _SharedRaces(self.draws), first_position=first_position)


class _SharedRaces:
    """Every race is the position's one."""

    def __init__(self, draws: EnumeratedDraws) -> None:
        self._draws = draws
        self.accept_integer = draws.accept_integer

    def race(self, stream: Stream, position: int, weights: npt.NDArray[Any]) -> tuple[int, float]:
        """With the numbers that drew the draft token."""
        return self._draws.race(Stream.COUPLED, position, weights)


class KeysByPlaceInTheBlock(ExactPair):
    """Numbers keyed by a token's place in its block, so that they come again in the next one."""

    def verify(
        self, rows: list[npt.NDArray[Any]], tokens: Sequence[DraftToken], first_position: int
    ) -> BlockOutcome:
        """The shipped verification at positions that begin with 1 in every block."""
        return super().verify(rows, tokens, 1)


class RacesAgain(ExactPair):
    """A cloud that races anew for the token that replaces a wrong guess."""

    def verify(
        self, rows: list[npt.NDArray[Any]], tokens: Sequence[DraftToken], first_position: int
    ) -> BlockOutcome:
        """A fresh race in place of the one that the guess lost."""
        outcome = super().verify(rows, tokens, first_position)
        if not outcome.resampled:
            return outcome
        fresh, _ = self.draws.race(Stream.BONUS, first_position + outcome.accepted, rows[outcome.accepted])
        return replace(outcome, next_token_id=fresh)


@pytest.mark.parametrize("pair", [SharesUnderRejection, KeysByPlaceInTheBlock, RacesAgain])
def test_a_plausible_mistake_biases_the_text(pair: type[ExactPair]) -> None:
    """Sharing is legal under equality alone, with numbers that no other position has."""
    assert bias(Case(COUPLED, TARGET_3, DRAFT_3, 2, 3), pair) > 0


def test_rolling_again_on_a_retry_biases_the_text() -> None:
    """With a link that loses rejections, fresh numbers for a repeated round favour what was drafted."""
    case = Case(COUPLED, TARGET_3, DRAFT_3, 1, 2)

    assert bias(case, RerollsOnRetry, loses=loses_rejections) > 0
    assert bias(case, ExactPair, loses=loses_rejections) == 0


# --- the race -----------------------------------------------------------------------------------------------


def joint_law(q: npt.NDArray[Any], p: npt.NDArray[Any]) -> dict[tuple[int, int], Fraction]:
    """
    P(X = i, Y = j) for X = argmin E / q and Y = argmin E / p, E independent standard exponentials.

    With a = E_i and b = E_j, every other E_k must be at least max(q_k a / q_i, p_k b / p_j), which has
    probability exp(-max). For i = j the integral over a is 1 / Σ_k max(q_k / q_i, p_k / p_i).
    For i ≠ j let r = b / a, which lies between q_j / q_i and p_j / p_i; the integral over a gives
    1 / (1 + r + Σ_k max(q_k / q_i, r p_k / p_j))², which between two breaks of the maxima is 1 / (c + d r)².
    """
    law: dict[tuple[int, int], Fraction] = {}
    for i, j in product(range(len(q)), repeat=2):
        if not q[i] or not p[j]:
            continue
        if i == j:
            ratios = [max(Fraction(q[k]) / q[i], Fraction(p[k]) / p[i]) for k in range(len(q))]
            law[i, j] = 1 / sum(ratios)
            continue
        others = [k for k in range(len(q)) if k not in (i, j)]
        low, high = Fraction(q[j]) / q[i], Fraction(p[j]) / p[i] if p[i] else None
        breaks = {Fraction(q[k]) / q[i] * p[j] / p[k] for k in others if p[k]}
        edges: list[Any] = [low, *sorted(b for b in breaks if low < b and (high is None or b < high)), high]
        total = Fraction(0)
        for a, b in pairwise(edges):
            if b is not None and a >= b:
                continue
            middle = a + 1 if b is None else (a + b) / 2
            constant, slope = Fraction(1), Fraction(1)
            for k in others:
                of_q, of_p = Fraction(q[k]) / q[i], Fraction(p[k]) / p[j]
                if of_q >= middle * of_p:
                    constant += of_q
                else:
                    slope += of_p
            total += 1 / (slope * (constant + slope * a))
            total -= 0 if b is None else 1 / (slope * (constant + slope * b))
        law[i, j] = total
    return {pair: probability for pair, probability in law.items() if probability}


PAIRS = {
    "near": (fractions(3, 5, 2), fractions(4, 4, 2)),
    "far": (fractions(8, 1, 1), fractions(1, 1, 8)),
    "equal": (fractions(1, 2, 3), fractions(1, 2, 3)),
    "disjoint in part": (fractions(1, 1, 0, 2), fractions(0, 3, 2, 1)),
    "five ids": (fractions(5, 1, 3, 2, 9), fractions(4, 4, 1, 7, 2)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_two_winners_of_one_race_have_each_its_own_law_and_meet_as_often_as_the_formula_says(
    name: str,
) -> None:
    """In fractions: both marginals, the chance of a match, and its bound (1 - TV) / (1 + TV)."""
    q, p = PAIRS[name]
    law = joint_law(q, p)
    variation = abs(p - q).sum() / 2
    match = sum(probability for (i, j), probability in law.items() if i == j)

    assert [sum(w for (i, _), w in law.items() if i == k) for k in range(len(q))] == list(q)
    assert [sum(w for (_, j), w in law.items() if j == k) for k in range(len(p))] == list(p)
    assert match_probability(p, q) == match
    assert (1 - variation) / (1 + variation) <= match <= 1 - variation


@pytest.mark.parametrize("name", PAIRS)
def test_the_shipped_race_has_this_joint_law(name: str) -> None:
    """A G-test of 20 000 pairs of winners of `KeyedDraws`; false alarm 1e-6."""
    q, p = PAIRS[name]
    law = joint_law(q, p)
    draws, total = KeyedDraws(11), 20_000
    counts = Counter(
        (
            draws.race(Stream.COUPLED, n, q.astype(np.float64))[0],
            draws.race(Stream.COUPLED, n, p.astype(np.float64))[0],
        )
        for n in range(total)
    )
    statistic = 2 * sum(n * math.log(n / (total * float(law[cell]))) for cell, n in counts.items())

    assert set(counts) <= set(law)
    assert statistic < chi2.isf(1e-6, max(1, len(law) - 1))
