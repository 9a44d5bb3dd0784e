"""The stop rules and rates that choose `--min-block-acceptance`, on rounds worked out by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from bench import draft_stop
from bench.draft_stop import PassTimes, drafted, rate
from bench.pair import load_pair
from thinwire.common.session.generation import GenerationRequest

SURE = (0.9, 0.8, 0.7), (1.0, 0.5, 0.25)
DOUBTFUL = (0.5, 0.04, 0.03), (0.5, 0.1, 0.0)
"""Estimates and chances, token by token."""
BOTH = np.array([SURE, DOUBTFUL]).swapaxes(0, 1)
TIMES = PassTimes(draft_ms=2.0, target_ms=np.array([10.0, 11.0, 12.0, 13.0]))


@pytest.mark.parametrize(
    ("longest", "least", "lengths"), [(3, 0.05, [3, 2]), (3, 0.85, [2, 1]), (2, 0.0, [2, 2])]
)
def test_a_block_ends_with_the_token_that_falls_below_the_bound(
    longest: int, least: float, lengths: list[int]
) -> None:
    """The token counts; a bound never reached leaves the longest block, and 0 always does."""
    assert drafted(BOTH[0], longest, least).tolist() == lengths


def test_a_rate_is_expected_tokens_over_the_rounds_time() -> None:
    """1 + 1 + .5 and 1 + .5 + .1 tokens in two rounds of 1 + 2 * 2 + 12 ms."""
    assert rate(BOTH, TIMES, 1.0, 2) == pytest.approx((2.5 + 1.6) / (2 * 17))
    assert rate(BOTH[:, 1:], TIMES, 0.0, 0) == pytest.approx(1 / 10)


def test_the_shipped_default_is_among_the_bounds_tried() -> None:
    """So the table tells what the default costs and brings."""
    assert GenerationRequest("", seed=0).min_block_acceptance in draft_stop.LEAST


def test_rounds_of_the_bundled_pair_are_probabilities() -> None:
    """Both curves fall, and the text grows by what was committed."""
    rounds = list(draft_stop.play(*load_pair(), "k-sqs", 1.0, "def main():\n", seed=0, tokens=12))

    assert 2 <= len(rounds) <= 12
    for played in rounds:
        for curve in played:
            assert len(curve) == draft_stop.LONGEST
            assert all(1 >= before >= after >= 0 for before, after in pairwise(curve))
