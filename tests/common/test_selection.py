"""The largest entries by one pass of maxima, against a full sort."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.common.config import SamplingParameters
from thinwire.common.law.distributions import softmax, warp
from thinwire.common.law.lattice import quantize
from thinwire.common.law.selection import kth_and_next, reaching
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.dense_qs import DenseQs
from thinwire.common.schemes.sparsify import above, largest


def make_probs(size: int, levels: int, zeros: float, dtype: str, seed: int) -> np.ndarray[Any, Any]:
    """Random weights >= 0, on few levels for many ties (0: all different), at least one positive."""
    generator = np.random.default_rng(seed)
    values = generator.random(size)
    if levels:
        values = np.ceil(values * levels) / levels
    values[generator.random(size) < zeros] = 0.0
    values[int(generator.integers(size))] = 0.5
    return values.astype(dtype)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    size=st.sampled_from([1, 2, 5, 100, 4095, 4096, 8192, 20001]),
    count=st.sampled_from([1, 2, 8, 64, 256, 1000]),
    levels=st.sampled_from([0, 1, 3, 40]),
    zeros=st.sampled_from([0.0, 0.9, 0.999]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**32),
)
def test_the_largest_are_those_of_a_full_sort(
    size: int, count: int, levels: int, zeros: float, dtype: str, seed: int
) -> None:
    """Ties go to the smaller id, zeros stay out, whatever the length does to the columns."""
    values = make_probs(size, levels, zeros, dtype, seed)
    expected = np.lexsort((np.arange(size), -values))[:count]
    expected = expected[values[expected] > 0]

    assert largest(values, count).ids.tolist() == sorted(expected.tolist())
    few = reaching(values, count)
    assert (np.diff(few) > 0).all()
    assert set(expected.tolist()) <= set(few.tolist())
    if count <= size:
        ascending = np.sort(values)
        behind = ascending[size - count - 1] if count < size else -np.inf
        assert kth_and_next(values, count) == (ascending[size - count], behind)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    size=st.sampled_from([3, 8192]),
    threshold=st.sampled_from([-1.0, 0.0, 0.2, 0.5, 0.99, 1.0]),
    cap=st.sampled_from([1, 5, 256]),
    levels=st.sampled_from([0, 5]),
    zeros=st.sampled_from([0.0, 0.99]),
    seed=st.integers(0, 2**32),
)
def test_a_threshold_keeps_what_reaches_it_up_to_the_cap(
    size: int, threshold: float, cap: int, levels: int, zeros: float, seed: int
) -> None:
    """By definition, entry by entry; the cap binds exactly where more would have stayed."""
    values = make_probs(size, levels, zeros, "float64", seed)
    wanted = np.flatnonzero((values >= threshold) & (values > 0))
    if wanted.size == 0:
        wanted = np.array([np.argmax(values)])
    best = wanted[np.lexsort((wanted, -values[wanted]))][:cap]

    ids, _, cap_binds = above(values, threshold, cap)

    assert ids.tolist() == sorted(best.tolist())
    assert cap_binds == (wanted.size > cap)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    size=st.sampled_from([2, 10, 700, 8192]),
    resolution=st.sampled_from([1, 2, 24, 100, 1024]),
    support=st.sampled_from([1, 5, 45, 100, 180, 2000]),
    spread=st.sampled_from([0.0, 0.3, 3.0, 6.0]),
    seed=st.integers(0, 2**32),
)
def test_dense_qs_rounds_the_whole_vocabulary_without_looking_at_all_of_it(
    size: int, resolution: int, support: int, spread: float, seed: int
) -> None:
    """The counts are those of the lattice over every token, flat laws with ties included."""
    generator = np.random.default_rng(seed)
    scores = np.full(size, -np.inf)
    ids = generator.choice(size, min(size, support), replace=False)
    scores[ids] = spread * generator.normal(size=len(ids))
    probs = softmax(scores)
    scheme = make_scheme(DenseQs.Parameters(lattice_resolution=resolution), vocabulary_size=size)
    expected = quantize(probs / probs.sum(), resolution)

    drafted = scheme.quantize(probs, scheme.initial_state())

    assert drafted.quantized.support_ids.tolist() == np.flatnonzero(expected).tolist()
    assert drafted.quantized.lattice_counts.tolist() == expected[expected > 0].tolist()
    assert drafted.dropped_mass == 0


def plain_warp(logits: np.ndarray[Any, Any], sampling: SamplingParameters) -> np.ndarray[Any, Any]:
    """Temperature, top-k, top-p by full sorts."""
    scores = logits / sampling.temperature
    if 0 < sampling.top_k < scores.size:
        scores = np.where(scores < np.sort(scores)[-sampling.top_k], -np.inf, scores)
    probs = np.exp(scores - scores.max())
    probs /= probs.sum()
    if sampling.top_p < 1:
        order = np.argsort(probs, kind="stable")
        dropped = np.cumsum(probs[order]) <= 1 - sampling.top_p
        dropped[-1] = False
        probs[order[dropped]] = 0
        probs /= probs.sum()
    return probs


@pytest.mark.parametrize("size", [2, 10, 700, 8192])
@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 5, 50, 3000]),
    top_p=st.sampled_from([1.0, 0.99, 0.9, 0.5, 0.1]),
    spread=st.sampled_from([0.1, 1.0, 4.0]),
    seed=st.integers(0, 2**32),
)
def test_warping_by_selection_equals_warping_by_sorting(
    size: int, temperature: float, top_k: int, top_p: float, spread: float, seed: int
) -> None:
    """The same tokens stay, with the same mass."""
    generator = np.random.default_rng(seed)
    logits = spread * generator.normal(size=size)
    logits[generator.random(size) < 0.1] = -np.inf
    logits[0] = 0.0
    sampling = SamplingParameters(temperature=temperature, top_k=top_k, top_p=top_p)

    expected = plain_warp(logits, sampling)
    probs = warp(logits, sampling)

    assert np.flatnonzero(probs).tolist() == np.flatnonzero(expected).tolist()
    np.testing.assert_allclose(probs, expected, rtol=0, atol=1e-12)
    single = warp(logits.astype(np.float32), sampling, dtype=np.float32)
    assert single.dtype == np.float32
    assert abs(float(single.sum()) - 1) < 1e-5
