"""What each scheme keeps of a draft distribution, and how the threshold moves."""

from __future__ import annotations

import numpy as np
import pytest

from fakes import scheme_with
from thinwire.common.errors import ConfigError
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes import SCHEMES, make_scheme, scheme_names, scheme_parameters
from thinwire.common.schemes.c_sqs import CSqs
from thinwire.common.schemes.k_sqs import KSqs
from thinwire.common.schemes.sparsify import above

Q = np.array([0.05, 0.3, 0.1, 0.3, 0.25])


def test_an_unknown_scheme_is_refused_with_the_known_ones() -> None:
    """The message lists them."""
    with pytest.raises(ConfigError, match="k-sqs, c-sqs, dense-qs"):
        make_scheme(scheme_parameters("gzip"), vocabulary_size=8)
    assert scheme_names() == tuple(SCHEMES)


def test_k_sqs_keeps_the_smaller_id_of_two_equal_ones() -> None:
    """K = 1 of a tie."""
    scheme = make_scheme(KSqs.Parameters(support_size=1, lattice_resolution=10), vocabulary_size=5)

    drafted = scheme.quantize(Q, scheme.initial_state())

    assert drafted.quantized.support_ids.tolist() == [1]
    assert drafted.dropped_mass == pytest.approx(0.7)


def test_points_with_count_zero_leave_the_wire_but_not_the_account() -> None:
    """K_n and α_n are the sparsifier's; K_n⁺ is what is sent."""
    scheme = make_scheme(KSqs.Parameters(support_size=5, lattice_resolution=4), vocabulary_size=5)

    drafted = scheme.quantize(Q, scheme.initial_state())

    assert drafted.support_size == 5
    assert drafted.dropped_mass == pytest.approx(0, abs=1e-12)
    assert drafted.quantized.support_ids.tolist() == [1, 2, 3, 4]
    assert drafted.quantized.lattice_counts.sum() == 4


def test_c_sqs_keeps_the_argmax_when_nothing_reaches_the_threshold() -> None:
    """And counts what that drops."""
    scheme = make_scheme(CSqs.Parameters(initial_threshold=0.9), vocabulary_size=5)

    drafted = scheme.quantize(Q, scheme.initial_state())

    assert drafted.quantized.support_ids.tolist() == [1]
    assert drafted.dropped_mass == pytest.approx(0.7)
    assert not drafted.cap_binds


def test_c_sqs_says_when_its_cap_binds() -> None:
    """The largest are kept, ties to the smaller id."""
    ids, _, binds = above(Q, 0.05, 3)
    assert (ids.tolist(), binds) == ([1, 3, 4], True)
    ids, _, binds = above(Q, -0.1, 5)
    assert (ids.tolist(), binds) == ([0, 1, 2, 3, 4], False)
    assert above(Q, -0.1, 4).cap_binds


def test_the_threshold_falls_when_too_much_was_dropped_and_is_clamped() -> None:
    """β' = β - η (α - α*), within [-η (1 - α*), 1]."""
    parameters = CSqs.Parameters(initial_threshold=0.2, threshold_step=0.5, target_dropped_mass=0.1)
    scheme = make_scheme(parameters, vocabulary_size=5)
    state = scheme.initial_state()

    thresholds = []
    for _ in range(40):
        thresholds.append(state.threshold)
        state = scheme.next_state(state, scheme.quantize(Q, state))

    assert thresholds[1] == pytest.approx(0.2 - 0.5 * (0.15 - 0.1))
    assert min(thresholds) >= -0.5 * 0.9
    assert max(thresholds) <= 1


def test_a_frozen_threshold_does_not_move_and_promises_nothing() -> None:
    """No Theorem 2."""
    scheme = make_scheme(CSqs.Parameters(frozen_threshold=True, initial_threshold=0.1), vocabulary_size=5)
    state = scheme.initial_state()

    assert scheme.next_state(state, scheme.quantize(Q, state)).threshold == 0.1
    assert scheme.guarantee(100) is None


@pytest.mark.parametrize(("rollback", "index"), [("committed", 2), ("drafted", 3)])
def test_rollback_decides_which_updates_survive_a_rejection(rollback: str, index: int) -> None:
    """One of three accepted: the rejected position's update counts, the one behind it only when drafted."""
    scheme = make_scheme(CSqs.Parameters(rollback=rollback), vocabulary_size=5)
    states = [scheme.initial_state()]
    for _ in range(3):
        states.append(scheme.next_state(states[-1], scheme.quantize(Q, states[-1])))

    assert scheme.state_after_verdict(states, 1) is states[index]
    assert scheme.state_after_verdict(states, 3) is states[3]


@pytest.mark.parametrize("name", ["k-sqs", "c-sqs", "dense-qs"])
def test_tokens_are_drawn_in_proportion_to_their_counts(name: str) -> None:
    """Every integer in [0, ℓ) picks a token; each token is picked as often as its count says."""

    class Counting(KeyedDraws):
        def draft_integer(self, position: int, attempt: int, bound: int) -> int:
            return position

    scheme = make_scheme(scheme_with(name, support_size=3, lattice_resolution=40), vocabulary_size=5)
    drafted = scheme.quantize(Q, scheme.initial_state())

    picked = [scheme.sample(drafted, Counting(0), position=n, attempt=0).token_index for n in range(40)]

    assert np.bincount(picked).tolist() == drafted.quantized.lattice_counts.tolist()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lattice_resolution", 0),
        ("lattice_resolution", 4097),
        ("support_size", 0),
        ("support_size", 257),
        ("max_support_size", 257),
        ("threshold_step", 0.0),
        ("threshold_step", 1.5),
        ("target_dropped_mass", 1.0),
        ("target_dropped_mass", -0.1),
        ("initial_threshold", 1.01),
        ("initial_threshold", float("nan")),
        ("initial_threshold", "x"),
        ("support_size", None),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_value_and_range(field: str, value: object) -> None:
    """η in (0, 1], α* in [0, 1), β_1 <= 1, and the integer limits; another type is out of range."""
    with pytest.raises(ConfigError, match=f"{value!r}; expected"):
        scheme_parameters("k-sqs" if field == "support_size" else "c-sqs", **{field: value})
