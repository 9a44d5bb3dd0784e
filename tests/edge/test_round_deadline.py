"""A round's deadline: from what rounds took, within its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.edge.patience import RoundDeadline


def test_without_a_measurement_it_is_the_longest() -> None:
    """The first round also waits for the prompt's pass."""
    assert RoundDeadline(2.0, 120.0).seconds(100) == 120.0


def test_steady_rounds_bring_it_to_twice_what_they_take() -> None:
    """The deviation fades."""
    deadline = RoundDeadline(0.0, 120.0)
    for _ in range(100):
        deadline.took(3.0, 50)

    assert deadline.seconds(50) == pytest.approx(6.0, rel=1e-3)


def test_a_larger_block_gets_more_in_proportion_a_smaller_one_no_less() -> None:
    """On a thin link the bytes are the time."""
    deadline = RoundDeadline(0.0, 1e6)
    for _ in range(100):
        deadline.took(1.0, 1000)

    assert deadline.seconds(100_000) == pytest.approx(89 * deadline.seconds(1000), rel=0.01)
    assert deadline.seconds(0) == deadline.seconds(1000)


def test_repeats_double_it() -> None:
    """Up to the longest."""
    deadline = RoundDeadline(0.0, 10.0)
    for _ in range(100):
        deadline.took(1.0, 100)

    assert [deadline.seconds(100, repeats) for repeats in range(4)] == pytest.approx([2, 4, 8, 10], rel=1e-3)
    assert deadline.seconds(100, 10**6) == 10.0


def test_one_slow_round_among_fast_ones_lengthens_it() -> None:
    """By its deviation, at once."""
    deadline = RoundDeadline(0.0, 120.0)
    for _ in range(20):
        deadline.took(0.1, 100)
    before = deadline.seconds(100)
    deadline.took(4.0, 100)

    assert deadline.seconds(100) > 10 * before


@given(
    rounds=st.lists(st.tuples(st.floats(0, 1e4), st.integers(0, 10**7)), max_size=30),
    size=st.integers(0, 10**7),
    repeats=st.integers(0, 100),
)
def test_it_never_leaves_its_bounds(rounds: list[tuple[float, int]], size: int, repeats: int) -> None:
    """Whatever was measured."""
    deadline = RoundDeadline(2.0, 60.0)
    for seconds, bytes_ in rounds:
        deadline.took(seconds, bytes_)

    assert 2.0 <= deadline.seconds(size, repeats) <= 60.0
