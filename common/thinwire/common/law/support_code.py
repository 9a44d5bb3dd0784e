"""
Ranks of lattice points: which ids carry a count, and which counts they carry, as integers.

A point with K⁺ positive counts that sum to ℓ is a K⁺-subset of the V ids and a composition of ℓ into K⁺
positive parts; the composition is the (K⁺ - 1)-subset of its partial sums among ℓ - 1 places.
Both are ranked in colexicographic order: the subset x_1 < ... < x_k has rank Σ C(x_i, i).

Support sizes K⁺ are coded with one of 128 shipped tables, made of integers so that both ends build the same.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from operator import getitem, sub

from thinwire.common.law.steps import Steps

SIZE_CODES = 128
"""Number of shipped tables of support sizes."""
TABLE_TOTAL = 1 << 16
"""Frequencies of a table sum to this: rounding costs under 0.01 bit a symbol up to size 256."""
_FIRST_SHARES = (1, 4, 8, 16, 26, 38, 50, 61)
"""P(K⁺ = 1) in 64ths; evenly spread on a logit scale, near the extremes of what threshold supports show."""
_FIRST_LOGS = tuple((math.log(share / 64), math.log(1 - share / 64)) for share in _FIRST_SHARES)
"""Log-likelihoods of size 1 and of a larger size."""
_TAIL_MEANS = (11, 14, 18, 24, 32, 44, 60, 80, 110, 150, 200, 280, 400, 600, 1000, 0)
"""Mean of the geometric tail after 1, in tenths; 0 stands for a uniform tail. Ratios of about 1.35."""

_STEPPING = 96
"""From this size on a binomial comes cheaper from its neighbour than from scratch."""
_COLUMNS, _COLUMN_LENGTH = 128, 1025
_LONG_COLUMNS, _LONG_COLUMN_LENGTH = 64, 8193
"""
C(x, i) kept at hand for i up to 128 and x below 1025, for i up to 64 and x below 8193; 43 MB if all are.

Made when a subset of that size is first met, in about 0.7 ms for each long column.
The last entry is above every rank whose x lies in 0 to 1023, or 0 to 8191.
"""
_STRIDE = 32
"""Elements of a large subset found in one step, each in 5 to 10 µs."""
_sizes_met: set[int] = set()
"""Sizes whose columns are there."""


@lru_cache(maxsize=_COLUMNS + 1)
def _column(i: int) -> tuple[int, ...]:
    """C(x, i) for x from 0 up."""
    if i == 0:
        return (1,) * _LONG_COLUMN_LENGTH
    length = _LONG_COLUMN_LENGTH if i <= _LONG_COLUMNS else _COLUMN_LENGTH
    return (0, *accumulate(_column(i - 1)[: length - 1]))  # C(x, i) = Σ_{y < x} C(y, i - 1)


@lru_cache(maxsize=_COLUMNS + 1)
def _columns(size: int) -> tuple[tuple[int, ...], ...]:
    """Columns 1 to `size`."""
    return tuple(_column(i) for i in range(size + 1))[1:]


def _at_hand(ids: Sequence[int]) -> int:
    """How many elements of an ascending subset, from the smallest up, have their binomial in a column."""
    inside = bisect_left(ids, _LONG_COLUMN_LENGTH, 0, min(len(ids), _LONG_COLUMNS))
    if inside == _LONG_COLUMNS:
        inside = bisect_left(ids, _COLUMN_LENGTH, _LONG_COLUMNS, min(len(ids), _COLUMNS))
    return inside


def subset_rank(ids: Sequence[int]) -> int:
    """Colexicographic rank Σ C(ids[i], i + 1), in [0, C(universe, k)), of k strictly ascending ids >= 0."""
    size, inside = len(ids), _at_hand(ids)
    rank = sum(map(getitem, _columns(inside), ids))
    if inside == size:
        return rank
    if size < _STEPPING:
        return rank + sum(map(math.comb, ids[inside:], range(inside + 1, size + 1)))
    known = (-1, 0)
    for i in range(size, inside, -1):
        x = ids[i - 1]
        value = _binomial(x, i, known) if x >= i else 0
        rank += value
        known = (x - 1, value * i // x) if value else (-1, 0)
    return rank


def subset_unranking(rank: int, size: int) -> Steps[list[int]]:
    """
    Inverse of `subset_rank`, in steps.

    Args:
        rank: >= 0, below C(universe, size); not checked.
        size: k >= 0.

    Cost: a search in k columns; beyond them k evaluations of a binomial and a bounded number of correction
    steps each. No scan of the universe.
    """
    descending: list[int] = []
    at_hand = min(size, _COLUMNS)
    if at_hand not in _sizes_met:
        for i in range(at_hand + 1):
            _column(i)
            yield
        _sizes_met.add(at_hand)
    columns = _columns(at_hand)
    i, known = size, (-1, 0)
    while i > _COLUMNS or (i and rank >= columns[i - 1][-1]):
        if rank == 0:  # what is left is {0, ..., i - 1}
            return [*range(i), *reversed(descending)]
        if not i % _STRIDE:
            yield
        x, value = _largest(rank, i, known)
        known = (x - 1, value * i // x) if i > _STEPPING else (-1, 0)  # C(x - 1, i - 1)
        descending.append(x)
        rank -= value
        i -= 1
    x = _LONG_COLUMN_LENGTH if i <= _LONG_COLUMNS else _COLUMN_LENGTH
    for column in reversed(columns[:i]):
        x = bisect_right(column, rank, 0, x) - 1
        descending.append(x)
        rank -= column[x]
    return descending[::-1]


def _binomial(x: int, i: int, known: tuple[int, int]) -> int:
    """C(x, i) for x >= i >= 1; `known` is (y, C(y, i)), where for large i a near y >= x saves most work."""
    y, value = known
    gap = y - x
    if 0 <= gap < i // 2:
        return value * math.perm(y - i, gap) // math.perm(y, gap)
    return math.comb(x, i)


def _largest(rank: int, i: int, known: tuple[int, int]) -> tuple[int, int]:
    """The largest x with C(x, i) <= rank >= 1, at most the y of `known` >= 0 (`_binomial`); and C(x, i)."""
    if i == 1:
        return rank, rank
    x = max(i, _estimate(rank, i))
    if known[0] >= i:
        x = min(x, known[0])
    value = _binomial(x, i, known)
    while value > rank:
        value = value * (x - i) // x
        x -= 1
    while True:
        above = value * (x + 1) // (x + 1 - i)
        if above > rank:
            return x, value
        x, value = x + 1, above


def _estimate(rank: int, i: int) -> int:
    """A float estimate of the x with C(x, i) = rank, good to a unit or so."""
    log_rank = math.log(rank)
    # C(x, i) i! is a product of i factors around m = x - (i - 1) / 2, with geometric mean m - (i² - 1) / 24m.
    mean = math.exp((log_rank + math.lgamma(i + 1)) / i)
    x = mean + (i * i - 1) / (24 * mean) + (i - 1) / 2
    if i * 8 < mean:
        return int(x)
    lgamma, log_factorial = math.lgamma, math.lgamma(i + 1)
    x = max(x, i + 0.5)
    for _ in range(6):  # Newton on log C(x, i); convex enough to settle in a few steps
        residual = lgamma(x + 1) - lgamma(x - i + 1) - log_factorial - log_rank
        x = max(x - residual / math.log((x + 0.5) / (x - i + 0.5)), i)
    return int(x)


def point_rank(ids: Sequence[int], counts: Sequence[int], resolution: int) -> int:
    """Rank of (support, counts) among the points with exactly len(ids) positive counts; see `point_count`."""
    _, *places = accumulate(counts[:-1], initial=-1)
    return subset_rank(ids) * _compositions(resolution, len(counts)) + subset_rank(places)


def point_unranking(rank: int, size: int, resolution: int) -> Steps[tuple[list[int], list[int]]]:
    """(ids, counts), inverse of `point_rank`, in steps."""
    support, composition = divmod(rank, _compositions(resolution, size))
    inner = yield from subset_unranking(composition, size - 1)
    places = [-1, *inner, resolution - 1]
    ids = yield from subset_unranking(support, size)
    return ids, list(map(sub, places[1:], places))


@lru_cache(maxsize=8192)
def _compositions(resolution: int, size: int) -> int:
    """C(ℓ - 1, K⁺ - 1): ways to write ℓ as a sum of `size` positive counts."""
    return math.comb(resolution - 1, size - 1)


@lru_cache(maxsize=8192)
def point_count(vocabulary_size: int, size: int, resolution: int) -> int:
    """C(V, K⁺) C(ℓ - 1, K⁺ - 1): lattice points with exactly `size` positive counts."""
    return math.comb(vocabulary_size, size) * _compositions(resolution, size)


@lru_cache(maxsize=8192)
def point_bits(vocabulary_size: int, size: int, resolution: int) -> float:
    """log2 of `point_count`."""
    return math.log2(point_count(vocabulary_size, size, resolution))


def most_frequent_size(vocabulary_size: int, max_size: int, resolution: int) -> int:
    """
    The size up to `max_size` with the most lattice points; the largest of equals.

    From size k to k + 1 the points multiply by (V - k) (ℓ - k) / (k (k + 1)), which falls in k and is at
    least 1 while k (V + ℓ + 1) <= V ℓ.
    """
    peak = vocabulary_size * resolution // (vocabulary_size + resolution + 1) + 1
    return min(peak, max_size, vocabulary_size, resolution)


@lru_cache(maxsize=64)
def point_offsets(vocabulary_size: int, max_size: int, resolution: int) -> tuple[int, ...]:
    """
    Where the points of each size begin among all points with at most `max_size` positive counts.

    Returns:
        n + 1 integers for n = min(max_size, V, ℓ): entry k - 1 is the first rank of size k, the last is all.
    """
    n = min(max_size, vocabulary_size, resolution)
    offsets, support, composition = [0], vocabulary_size, 1
    for k in range(1, n + 1):
        offsets.append(offsets[-1] + support * composition)
        support = support * (vocabulary_size - k) // (k + 1)
        composition = composition * (resolution - k) // k
    return tuple(offsets)


@lru_cache(maxsize=1024)
def size_table(code: int, max_size: int) -> tuple[int, ...]:
    """
    Cumulative frequencies of a shipped table of support sizes.

    Args:
        code: 0 to 127: 16 × index of P(1) + index of the tail's mean.
        max_size: n, 1 to 1024.

    Returns:
        n + 1 integers from 0 to `TABLE_TOTAL`; size k owns [entry k - 1, entry k), at least one.
    """
    first, mean = _FIRST_SHARES[code // len(_TAIL_MEANS)], _TAIL_MEANS[code % len(_TAIL_MEANS)]
    free = TABLE_TOTAL - max_size
    if max_size == 1:
        return (0, TABLE_TOTAL)
    tail, weight = [], 1 << 64
    for _ in range(max_size - 1):
        tail.append(weight)
        weight = weight * (mean - 10) // mean if mean else weight
    behind = free * (64 - first) // 64
    total = sum(tail)
    frequencies = [1 + behind * w // total for w in tail]
    return tuple(accumulate([TABLE_TOTAL - sum(frequencies), *frequencies], initial=0))


@lru_cache(maxsize=1024)
def size_bits(code: int, max_size: int) -> tuple[float, ...]:
    """Bits of each size under `size_table`; entry k - 1 is size k."""
    table = size_table(code, max_size)
    return tuple(math.log2(TABLE_TOTAL / (b - a)) for a, b in pairwise(table))


def best_size_code(total: float, ones: float, excess: float, max_size: int) -> int:
    """
    The table that codes a (weighted) sample of support sizes in the fewest bits.

    Args:
        total: weight of the sample, > 0.
        ones: weight of size 1.
        excess: Σ weight (size - 2) over sizes from 2 up; with `ones` all that a geometric tail needs.
        max_size: n; the tails are cut there.
    """
    rest = total - ones
    gains = [ones * one + rest * larger for one, larger in _FIRST_LOGS]
    costs = [rest * two + excess * more for two, more in _tail_costs(max_size)]
    return gains.index(max(gains)) * len(_TAIL_MEANS) + costs.index(min(costs))


@lru_cache(maxsize=64)
def _tail_costs(max_size: int) -> tuple[tuple[float, float], ...]:
    """Per tail: (nats of size 2, nats more for each size above it), truncation at `max_size` included."""
    rows = []
    for mean in _TAIL_MEANS:
        ratio = (mean - 10) / mean if mean else 1.0
        normaliser = sum(ratio**n for n in range(max(1, max_size - 1)))
        rows.append((math.log(normaliser), -math.log(ratio)))
    return tuple(rows)
