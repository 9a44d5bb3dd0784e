"""A margin promises that no smaller relative change of q turns a decision; a near-tie has a tiny one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import scheme_with
from thinwire.common.config import SamplingParameters
from thinwire.common.law.decision_margin import CLOSE_DRAFT_MARGIN
from thinwire.common.law.distributions import warp, warp_with_margin
from thinwire.common.law.draft_token import QuantizedDistribution
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.base import DraftDistribution, Scheme
from thinwire.common.schemes.dense_qs import DenseQs
from thinwire.edge.draft_block import DraftBlockBuilder
from thinwire.edge.events import Draft, DraftedBlock

SCHEMES: dict[str, dict[str, Any]] = {
    "k-sqs": {"support_size": 8},
    "c-sqs": {"initial_threshold": 0.02, "max_support_size": 16},
    "c-sqs, above the cap": {"initial_threshold": 0.001, "max_support_size": 4},
    "c-sqs, below no token": {"initial_threshold": 0.95},
    "c-sqs, no threshold": {"initial_threshold": -1.0, "frozen_threshold": True, "max_support_size": 8},
    "dense-qs": {"lattice_resolution": 24},
}
SIZE = 60


def scheme_named(name: str, resolution: int = 100) -> Scheme:
    """Over SIZE ids."""
    fields = {"lattice_resolution": resolution, **SCHEMES.get(name, {})}
    return make_scheme(scheme_with(name.split(",")[0], **fields), vocabulary_size=SIZE)


def quantized(scheme: Scheme, probs: npt.NDArray[Any]) -> DraftDistribution:
    """At the first position."""
    return scheme.quantize(probs, scheme.initial_state())


def law(seed: int, spread: float) -> npt.NDArray[np.float64]:
    """A random law; the larger `spread`, the surer."""
    weights = np.exp(spread * np.random.default_rng(seed).normal(size=SIZE))
    return np.asarray(weights / weights.sum())


def disturbed(probs: npt.NDArray[Any], margin: float, seed: int) -> npt.NDArray[np.float64]:
    """Every entry changed by nearly `margin` of itself, up or down, and one by less."""
    generator = np.random.default_rng(seed)
    changes = generator.choice([-1.0, 1.0], probs.size)
    changes[generator.integers(probs.size)] *= generator.random()
    return np.asarray(probs * (1 + 0.999 * margin * changes))


def same(one: QuantizedDistribution, other: QuantizedDistribution) -> bool:
    """Support and counts."""
    return np.array_equal(one.support_ids, other.support_ids) and np.array_equal(
        one.lattice_counts, other.lattice_counts
    )


@pytest.mark.parametrize("name", SCHEMES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), spread=st.sampled_from([0.1, 1.0, 3.0]), noise=st.integers(0, 2**32))
def test_noise_below_the_margin_changes_neither_support_nor_counts(
    name: str, seed: int, spread: float, noise: int
) -> None:
    """Whatever the law and the signs of the noise; the disturbed law is left as it sums."""
    scheme, probs = scheme_named(name), law(seed, spread)
    drafted = quantized(scheme, probs)
    for turn in range(20):
        changed = disturbed(probs, drafted.margin, noise + turn)
        if name.startswith("dense"):
            changed /= changed.sum()
        assert same(quantized(scheme, changed).quantized, drafted.quantized)


@pytest.mark.parametrize("name", SCHEMES)
def test_the_margin_is_no_more_careful_than_it_must_be(name: str) -> None:
    """Noise of 30 margins turns a decision at most positions; 0 everywhere would be true as well."""
    scheme = scheme_named(name)
    turned = 0
    for seed in range(40):
        probs = law(seed, 1.0)
        drafted = quantized(scheme, probs)
        noisy = (disturbed(probs, min(0.9, 30 * drafted.margin), turn) for turn in range(30))
        turned += not all(same(quantized(scheme, q / q.sum()).quantized, drafted.quantized) for q in noisy)
    assert turned >= 30


def planted(name: str, gap: float) -> npt.NDArray[np.float64]:
    """A law with a decision that a relative change of `gap` turns."""
    probs = np.zeros(SIZE)
    match name:
        case "k-sqs":  # the eighth against the ninth
            probs[:9] = [0.3, 0.2, 0.1, 0.1, 0.08, 0.07, 0.06, 0.045, 0.045 * (1 - gap)]
        case "c-sqs":  # a token at the threshold
            probs[:3] = [0.7, 0.28, 0.02 * (1 - gap)]
        case "c-sqs, above the cap":
            probs[:6] = [0.4, 0.2, 0.15, 0.11, 0.11 * (1 - gap), 0.03]
        case "c-sqs, below no token":  # the likeliest two
            probs[:3] = [0.4, 0.4 * (1 - gap), 0.2]
        case "c-sqs, no threshold":
            probs[:9] = [0.3, 0.2, 0.1, 0.1, 0.08, 0.07, 0.06, 0.045, 0.045 * (1 - gap)]
        case "dense-qs":  # 12.5 counts each, less a hair
            probs[:2] = [0.5 + 0.5 / 24, 0.5 - 0.5 / 24]
            probs[:2] += np.array([1, -1]) * 0.5 * gap
    return probs


@pytest.mark.parametrize("name", SCHEMES)
def test_a_planted_near_tie_has_a_tiny_margin(name: str) -> None:
    """In the order of the gap, and 0 for a tie."""
    for gap in (1e-5, 1e-7, 0.0):
        margin = quantized(scheme_named(name), planted(name, gap)).margin
        assert margin <= 2 * gap + 1e-12
        assert margin >= gap / 8 - 1e-12


def test_dense_qs_has_no_near_tie_with_a_token_that_is_not_there() -> None:
    """Five tokens and no others: at the cut, 0.278 of a count is far from 0.16, and no sixth has 0.4."""
    probs = np.zeros(SIZE)
    probs[:5] = 0.10114184, 0.01278435, 0.02338719, 0.06220228, 0.80048434
    scheme = make_scheme(DenseQs.Parameters(lattice_resolution=100), vocabulary_size=SIZE)
    assert quantized(scheme, probs).margin > CLOSE_DRAFT_MARGIN


def test_the_order_of_fractions_is_one_decision_with_the_rounding() -> None:
    """A point that is half a count is no near-tie where another one clearly gets the count."""
    scheme = scheme_named("k-sqs", resolution=10)
    probs = np.zeros(SIZE)
    probs[:4] = [0.45, 0.18, 0.185, 0.185]  # 4.5, 1.8, 1.85 and 1.85 counts: the last three are rounded up
    drafted = quantized(scheme, probs)
    assert drafted.quantized.lattice_counts.tolist() == [4, 2, 2, 2]
    assert drafted.margin > 100 * CLOSE_DRAFT_MARGIN


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParameters(temperature=0.0),
        SamplingParameters(top_k=5),
        SamplingParameters(temperature=0.5, top_k=5),
        SamplingParameters(top_p=0.7),
        SamplingParameters(temperature=0.7, top_k=20, top_p=0.9),
    ],
)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), spread=st.sampled_from([0.1, 1.0, 3.0]), noise=st.integers(0, 2**32))
def test_noise_below_the_margin_keeps_the_tokens_that_the_warping_kept(
    sampling: SamplingParameters, seed: int, spread: float, noise: int
) -> None:
    """Noise in the logits, after the temperature, is relative noise in q."""
    logits = np.log(law(seed, spread))
    probs, margin = warp_with_margin(logits, sampling)
    np.testing.assert_array_equal(probs, warp(logits, sampling))
    for turn in range(10):
        noisy = np.log(disturbed(np.ones(SIZE), margin, noise + turn))
        changed = warp(logits + noisy * (sampling.temperature or 1.0), sampling)
        np.testing.assert_array_equal(changed > 0, probs > 0)


@pytest.mark.parametrize(
    ("sampling", "logits"),
    [
        (SamplingParameters(temperature=0.0), [0.0, 2.0, 2.0, 1.0]),
        (SamplingParameters(top_k=2), [3.0, 2.0, 2.0, 1.0]),
        (SamplingParameters(top_p=0.5), np.log([0.5, 0.25, 0.125, 0.125]).tolist()),
        (SamplingParameters(top_p=0.7), np.log([0.5, 0.25, 0.25]).tolist()),
    ],
)
def test_ties_in_the_warping_have_no_margin(sampling: SamplingParameters, logits: list[float]) -> None:
    """Of the best, at the k-th, at the mass, and of two tokens of which the mass takes one."""
    for nudge, most in ((0.0, 1e-12), (1e-6, 1e-6)):
        _, margin = warp_with_margin(np.array(logits) + [0.0, nudge, 0.0, 0.0][: len(logits)], sampling)
        assert margin <= most


def builder_of(scheme: Scheme, length: int, *, least: float = 0.0, seed: int = 1) -> DraftBlockBuilder:
    """Of one block."""
    draft = Draft(
        state=scheme.initial_state(),
        attempt=0,
        first_position=5,
        max_draft_length=length,
        min_acceptance=least,
    )
    return DraftBlockBuilder(draft, scheme, KeyedDraws(seed))


def drafted_block(scheme: Scheme, laws: list[npt.NDArray[Any]], **options: Any) -> DraftedBlock:
    """As long as there are laws."""
    builder = builder_of(scheme, len(laws), **options)
    for probs in laws:
        if not builder.complete:
            builder.offer(probs)
    return builder.build(cache_length=5, draft_s=0.0)


def test_a_block_has_the_least_margin_of_its_positions() -> None:
    """The planted one is the second of three."""
    laws = [law(1, 1.0), planted("k-sqs", 1e-6), law(2, 1.0)]
    scheme = scheme_named("k-sqs")
    block = drafted_block(scheme, laws)
    assert block.margin == min(quantized(scheme, probs).margin for probs in laws)
    assert block.margin < 1e-6


@pytest.mark.parametrize("seed", range(6))
def test_noise_below_the_margin_stops_the_block_at_the_same_token(seed: int) -> None:
    """The stop rule multiplies two factors a token; noise is taken against and with it."""
    scheme = scheme_named("k-sqs")
    laws = [law(100 * seed + n, 2.0) for n in range(8)]
    block = drafted_block(scheme, laws, least=0.05, seed=seed)
    for sign in (-1, 1):
        changed = [probs * (1 + sign * 0.999 * block.margin) for probs in laws]
        other = drafted_block(scheme, changed, least=0.05, seed=seed)
        assert [t.token_id for t in other.tokens] == [t.token_id for t in block.tokens]


def test_a_block_that_nearly_went_on_has_a_tiny_margin() -> None:
    """The threshold is set a hair above what the first token leaves."""
    scheme, laws = scheme_named("k-sqs"), [law(3, 1.0), law(4, 1.0)]
    builder = builder_of(scheme, 2)
    builder.offer(laws[0])
    assert drafted_block(scheme, laws, least=builder.acceptance / 2).margin > 1e-5
    assert drafted_block(scheme, laws, least=builder.acceptance * (1 + 1e-7)).margin < 1e-7


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), spread=st.sampled_from([0.1, 1.0, 3.0]), noise=st.integers(0, 2**32))
def test_noise_below_the_margin_leaves_dense_f16_its_token(seed: int, spread: float, noise: int) -> None:
    """Its counts move with any noise; the token that is drawn from them does not."""
    scheme, probs = scheme_named("dense-f16"), law(seed, spread)
    block = drafted_block(scheme, [probs], seed=noise)
    for turn in range(10):
        other = drafted_block(scheme, [disturbed(probs, min(0.9, block.margin), noise + turn)], seed=noise)
        assert other.tokens[0].token_id == block.tokens[0].token_id


def test_a_draw_of_dense_f16_next_to_another_token_has_no_margin() -> None:
    """The nearest of many draws to the border of two equal halves has none, the farthest a wide one."""
    probs = np.zeros(SIZE)
    probs[:2] = 0.5
    blocks = [drafted_block(scheme_named("dense-f16"), [probs], seed=seed) for seed in range(3000)]
    assert min(block.margin for block in blocks) == 0.0
    assert max(block.margin for block in blocks) > 0.5
    assert sum(block.margin < CLOSE_DRAFT_MARGIN for block in blocks) < 0.01 * len(blocks)
