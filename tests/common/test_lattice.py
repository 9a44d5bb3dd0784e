"""The lattice: nearest integer points, against brute force."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.common.law.lattice import quantize


def points(size: int, resolution: int) -> list[tuple[int, ...]]:
    """Every lattice point."""
    return [b for b in product(range(resolution + 1), repeat=size) if sum(b) == resolution]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(weights=st.lists(st.integers(0, 50), min_size=1, max_size=4), resolution=st.integers(1, 6))
def test_the_rounded_point_is_nearest_in_l1_and_within_the_bound(weights: list[int], resolution: int) -> None:
    """No lattice point is closer, and TV <= ⌊K/2⌋⌈K/2⌉/(Kℓ) (arXiv 1008.3597)."""
    if sum(weights) == 0:
        weights[0] = 1
    size = len(weights)
    exact = [Fraction(w, sum(weights)) for w in weights]

    counts = quantize(np.array([float(p) for p in exact]), resolution)

    def distance(b: tuple[int, ...]) -> Fraction:
        return sum(abs(p - Fraction(int(n), resolution)) for p, n in zip(exact, b, strict=True)) / 2

    assert counts.sum() == resolution
    assert counts.min() >= 0
    assert float(distance(tuple(counts))) <= float(min(map(distance, points(size, resolution)))) + 1e-12
    assert distance(tuple(counts)) <= Fraction((size // 2) * ((size + 1) // 2), size * resolution)


@pytest.mark.parametrize(
    ("probs", "resolution", "counts"),
    [([0.5, 0.5], 1, [0, 1]), ([0.25] * 4, 2, [0, 0, 1, 1]), ([1 / 3] * 3, 4, [2, 1, 1]), ([1.0], 7, [7])],
)
def test_ties_go_to_the_smaller_position(probs: list[float], resolution: int, counts: list[int]) -> None:
    """Too many: the first of the equally over-rounded loses; too few: the first of the short gains."""
    assert quantize(np.array(probs), resolution).tolist() == counts
