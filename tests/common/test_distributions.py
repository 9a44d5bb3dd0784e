"""The law of a model after temperature, top-k and top-p."""

from __future__ import annotations

import numpy as np
import pytest

from thinwire.common.config import SamplingParameters
from thinwire.common.errors import NonFiniteLogitsError
from thinwire.common.law.distributions import total_variation, warp

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.25, 0.05]))


def test_temperature_one_gives_the_softmax() -> None:
    """Nothing else acts by default."""
    np.testing.assert_allclose(warp(LOGITS, SamplingParameters()), [0.1, 0.4, 0.2, 0.25, 0.05], rtol=1e-14)


def test_temperature_zero_takes_the_best_and_the_smaller_id_of_two() -> None:
    """Greedy is a one-hot law."""
    probs = warp(np.array([0.0, 2.0, 2.0, -np.inf]), SamplingParameters(temperature=0.0))

    assert probs.tolist() == [0.0, 1.0, 0.0, 0.0]


def test_top_k_keeps_what_ties_with_the_kth() -> None:
    """As transformers does: scores below the k-th go, equal ones stay."""
    probs = warp(np.log(np.array([0.2, 0.2, 0.5, 0.1])), SamplingParameters(top_k=2))

    np.testing.assert_allclose(probs, [2 / 9, 2 / 9, 5 / 9, 0.0], rtol=1e-14)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.39, [1]), (0.6, [1, 3]), (0.7, [1, 2, 3]), (0.9999, [0, 1, 2, 3, 4])]
)
def test_top_p_keeps_the_fewest_tokens_that_reach_it(top_p: float, kept: list[int]) -> None:
    """Tokens leave from the least likely up while what has left stays within 1 - top_p."""
    probs = warp(LOGITS, SamplingParameters(top_p=top_p))

    assert np.flatnonzero(probs).tolist() == kept
    assert abs(probs.sum() - 1) < 1e-12


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_logit_that_is_no_number_is_named(bad: float) -> None:
    """NaN and +inf are refused with their id."""
    with pytest.raises(NonFiniteLogitsError, match="id 2"):
        warp(np.array([0.0, 1.0, bad]), SamplingParameters())


def test_logits_without_any_finite_one_are_refused() -> None:
    """All -inf leaves no law."""
    with pytest.raises(NonFiniteLogitsError, match="all 3"):
        warp(np.full(3, -np.inf), SamplingParameters())


def test_total_variation_is_half_the_l1_distance() -> None:
    """½ Σ |p - q|."""
    assert total_variation(np.array([0.5, 0.5]), np.array([0.9, 0.1])) == pytest.approx(0.4)
