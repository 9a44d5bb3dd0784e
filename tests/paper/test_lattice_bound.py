"""The lattice's distance to what it rounds, by brute force over all lattice points."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from thinwire.common.law.distributions import total_variation
from thinwire.common.law.lattice import quantize


def points(size: int, total: int) -> Iterator[tuple[int, ...]]:
    """Every (size,) vector of counts >= 0 with this total."""
    for head in product(range(total + 1), repeat=size - 1):
        if sum(head) <= total:
            yield (*head, total - sum(head))


@pytest.mark.parametrize(
    ("size", "resolution", "finer"),
    [(2, 3, 24), (2, 4, 32), (3, 2, 24), (3, 4, 16), (4, 2, 16), (4, 3, 8), (5, 2, 8)],
)
def test_the_lattice_point_is_nearest_and_within_the_bound(size: int, resolution: int, finer: int) -> None:
    """No lattice point is nearer in total variation, and none is farther than ⌊K/2⌋⌈K/2⌉ / (Kℓ) <= K / 4ℓ."""
    lattice = [np.array([Fraction(b, resolution) for b in point]) for point in points(size, resolution)]
    bound = Fraction((size // 2) * ((size + 1) // 2), size * resolution)
    assert bound <= Fraction(size, 4 * resolution)
    for numerators in points(size, finer):
        exact = np.array([Fraction(n, finer) for n in numerators])
        counts = quantize(exact.astype(np.float64), resolution)
        distance = total_variation(exact, np.array([Fraction(int(b), resolution) for b in counts]))

        assert counts.sum() == resolution
        assert (counts >= 0).all()
        assert distance <= bound
        assert distance == min(total_variation(exact, point) for point in lattice)


@pytest.mark.parametrize(("size", "resolution"), [(2, 3), (4, 5), (6, 4), (8, 7)])
def test_the_bound_is_reached(size: int, resolution: int) -> None:
    """An even K with every entry half way between two counts is as far off as the bound says."""
    total = resolution * 2 - size  # doubled counts below the half-integers
    base = [total // size // 2 * 2] * size
    for i in range((total - sum(base)) // 2):
        base[i] += 2
    exact = np.array([Fraction(b + 1, 2 * resolution) for b in base])
    assert exact.sum() == 1
    counts = quantize(exact.astype(np.float64), resolution)
    distance = total_variation(exact, np.array([Fraction(int(b), resolution) for b in counts]))

    assert distance == Fraction((size // 2) * ((size + 1) // 2), size * resolution)
