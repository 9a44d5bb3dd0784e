"""The payload: what goes in comes out, in the bits the paper's account allows, and nothing else gets in."""

from __future__ import annotations

import math
import random
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import scheme_with
from thinwire.common.errors import ConfigError, PayloadInvalidError
from thinwire.common.law.draft_token import DraftToken, QuantizedDistribution
from thinwire.common.law.steps import finished
from thinwire.common.law.support_code import (
    SIZE_CODES,
    TABLE_TOTAL,
    most_frequent_size,
    point_count,
    point_offsets,
    point_rank,
    point_unranking,
    size_bits,
    size_table,
    subset_rank,
    subset_unranking,
)
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.base import Scheme
from thinwire.common.schemes.dense_qs import DenseQs

NAMES = ("k-sqs", "c-sqs", "dense-qs")


def make(name: str, vocabulary_size: int, size: int, resolution: int) -> Scheme:
    """A scheme with K = K_max = size."""
    parameters = scheme_with(name, support_size=size, max_support_size=size, lattice_resolution=resolution)
    return make_scheme(parameters, vocabulary_size=vocabulary_size)


def random_token(
    generator: np.random.Generator, vocabulary_size: int, most: int, resolution: int
) -> DraftToken:
    """A token with a random support of random size and random positive counts."""
    size = int(generator.integers(1, min(most, vocabulary_size, resolution) + 1))
    ids = np.sort(generator.choice(vocabulary_size, size, replace=False))
    cuts = np.sort(generator.choice(resolution - 1, size - 1, replace=False)) + 1
    counts = np.diff(np.concatenate([[0], cuts, [resolution]]))
    return DraftToken(QuantizedDistribution(ids, counts, resolution), int(generator.integers(size)))


def plain(tokens: tuple[DraftToken, ...] | list[DraftToken]) -> list[tuple[list[int], list[int], int]]:
    """Comparable form."""
    return [
        (t.quantized.support_ids.tolist(), t.quantized.lattice_counts.tolist(), t.token_index) for t in tokens
    ]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    vocabulary_size=st.sampled_from([2, 3, 17, 8192, 50257, 152064]),
    most=st.sampled_from([1, 2, 8, 64, 256]),
    resolution=st.sampled_from([1, 2, 24, 100, 720]),
    length=st.integers(0, 5),
    code=st.integers(0, SIZE_CODES - 1),
    seed=st.integers(0, 2**32),
)
def test_a_block_comes_back_whole(
    name: str, vocabulary_size: int, most: int, resolution: int, length: int, code: int, seed: int
) -> None:
    """Round trip for V up to 152 064 and K up to 256, within the length announced before decoding."""
    scheme = make(name, vocabulary_size, most, resolution)
    generator = np.random.default_rng(seed)
    tokens = [random_token(generator, vocabulary_size, most, resolution) for _ in range(length)]

    payload = scheme.encode(tokens, coding=code)

    assert plain(scheme.decode(payload, draft_length=length, coding=code)) == plain(tokens)
    assert len(payload) <= scheme.max_payload_bytes(length)
    bits = scheme.block_bits([t.quantized for t in tokens], coding=code)
    assert len(payload) <= math.ceil(bits / 8 + 1e-9), "a budget asked beforehand is kept"


def test_the_largest_block_is_decoded_in_small_steps_and_comes_back_whole() -> None:
    """
    64 tokens of some 900 points each, 37 kB: no step does more than a few hundredths of one token.

    Counted, not timed: each token's 1800 searches, and each division of the whole payload, are cut.
    """
    vocabulary_size, length = 8192, 64
    parameters = DenseQs.Parameters(lattice_resolution=1024)
    scheme = make_scheme(parameters, vocabulary_size=vocabulary_size)
    generator = random.Random(5)
    payload = b"\0" + generator.randbytes(scheme.max_payload_bytes(length) - 400) + b"\1"
    steps = scheme.decoding(payload, draft_length=length, coding=0)
    taken = 0
    try:
        while True:
            next(steps)
            taken += 1
    except StopIteration as end:
        tokens = end.value

    again = scheme.encode(tokens, coding=0)
    assert plain(scheme.decode(again, draft_length=length, coding=0)) == plain(tokens)
    assert taken > 50 * length
    assert scheme.decoding_tokens(length, len(payload)) > 500
    assert scheme.decoding_tokens(4, 64) == 0, "the usual block is charged nothing"


@pytest.mark.parametrize("resolution", [1, 7, 60, 1024])
@pytest.mark.parametrize("most", [1, 5, 61, 300])
@pytest.mark.parametrize("vocabulary_size", [1, 6, 60, 300, 8192])
def test_the_size_with_the_most_points_is_that_of_a_search(
    vocabulary_size: int, most: int, resolution: int
) -> None:
    """So the longest legal payload is known without a look at every size, for each ℓ that a peer may name."""
    sizes = range(1, min(most, vocabulary_size, resolution) + 1)
    found = most_frequent_size(vocabulary_size, most, resolution)

    assert point_count(vocabulary_size, found, resolution) == max(
        point_count(vocabulary_size, size, resolution) for size in sizes
    )


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    size=st.sampled_from([1, 2, 3, 8, 64]),
    resolution=st.sampled_from([24, 100, 720]),
    length=st.integers(1, 8),
    code=st.integers(0, SIZE_CODES - 1),
    seed=st.integers(0, 2**32),
)
def test_a_block_costs_at_most_the_papers_bits_and_one_byte(
    name: str, size: int, resolution: int, length: int, code: int, seed: int
) -> None:
    """At most ⌈exact bits / 8⌉ + 1 bytes, with the exact account of the issue (no ceilings per field)."""
    vocabulary_size = 50257
    scheme = make(name, vocabulary_size, size, resolution)
    generator = np.random.default_rng(seed)
    most = resolution if name == "dense-qs" else size
    tokens = [random_token(generator, vocabulary_size, most, resolution) for _ in range(length)]

    exact = 0.0
    for token in tokens:
        kept = len(token.quantized.support_ids) if name == "c-sqs" else size
        if name == "dense-qs":
            exact += math.log2(math.comb(resolution + vocabulary_size - 1, resolution)) + math.log2(
                resolution
            )
        else:
            exact += math.log2(math.comb(vocabulary_size, kept)) + math.log2(kept)
            exact += math.log2(math.comb(resolution + kept - 1, kept - 1))
        if name == "c-sqs":
            exact += size_bits(code, min(size, resolution))[kept - 1]

    assert len(scheme.encode(tokens, coding=code)) <= math.ceil(exact / 8) + 1


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=300, deadline=None, derandomize=True)
@given(payload=st.binary(max_size=120), length=st.integers(0, 4), code=st.integers(0, 130))
def test_random_bytes_decode_to_a_legal_block_or_are_refused(
    name: str, payload: bytes, length: int, code: int
) -> None:
    """Whatever decodes is a legal block and survives another round trip; anything else is refused."""
    scheme = make(name, 1000, 8, 50)

    try:
        tokens = scheme.decode(payload, draft_length=length, coding=code)
    except PayloadInvalidError:
        return

    assert len(tokens) == length
    for token in tokens:
        ids, counts = token.quantized.support_ids, token.quantized.lattice_counts
        assert (np.diff(ids) > 0).all()
        assert ids[0] >= 0
        assert ids[-1] < 1000
        assert counts.min() >= 1
        assert counts.sum() == 50
        assert token.token_index < len(ids)
    again = scheme.encode(tokens, coding=code)
    assert plain(scheme.decode(again, draft_length=length, coding=code)) == plain(tokens)
    assert name != "c-sqs" or again == payload, "a block without a choice of coding has one payload"


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), bit=st.integers(0, 10_000))
def test_a_mutated_block_is_another_block_or_refused(name: str, seed: int, bit: int) -> None:
    """A flipped bit never decodes to the same tokens: a block has one payload."""
    scheme = make(name, 1000, 8, 50)
    generator = np.random.default_rng(seed)
    tokens = [random_token(generator, 1000, 8, 50) for _ in range(3)]
    payload = bytearray(scheme.encode(tokens, coding=5))
    payload[bit // 8 % len(payload)] ^= 1 << bit % 8

    try:
        mutated = scheme.decode(bytes(payload), draft_length=3, coding=5)
    except PayloadInvalidError:
        return

    assert plain(mutated) != plain(tokens)


@pytest.mark.parametrize("name", NAMES)
def test_spare_bytes_padding_and_truncation_are_told_apart_from_a_block(name: str) -> None:
    """A zero byte on top is spare; a larger one leaves bits behind the last symbol."""
    scheme = make(name, 1000, 8, 50)
    tokens = [random_token(np.random.default_rng(3), 1000, 8, 50) for _ in range(3)]
    payload = scheme.encode(tokens, coding=5)

    with pytest.raises(PayloadInvalidError, match="spare"):
        scheme.decode(payload + b"\0", draft_length=3, coding=5)
    with pytest.raises(PayloadInvalidError, match="padding"):
        scheme.decode(payload + b"\1\1", draft_length=3, coding=5)
    with pytest.raises(PayloadInvalidError, match="padding"):
        scheme.decode(payload, draft_length=2, coding=5)


def test_subsets_are_ranked_without_gaps() -> None:
    """Colexicographic ranks of all 3-subsets of 9 are 0 to 83, and come back."""
    ranks = sorted(subset_rank(ids) for ids in combinations(range(9), 3))

    assert ranks == list(range(math.comb(9, 3)))
    assert all(subset_rank(finished(subset_unranking(rank, 3))) == rank for rank in ranks)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(size=st.sampled_from([2, 3, 10, 64, 95, 96, 97, 300, 1000]), seed=st.integers(0, 2**32))
def test_large_subsets_come_back(size: int, seed: int) -> None:
    """The estimate of each element is corrected to the exact one, at the edges too."""
    generator = np.random.default_rng(seed)
    for ids in (
        sorted(generator.choice(152064, size, replace=False).tolist()),
        sorted(generator.choice(size + 24, size, replace=False).tolist()),
        list(range(size)),
        list(range(152064 - size, 152064)),
    ):
        assert finished(subset_unranking(subset_rank(ids), size)) == ids


@pytest.mark.parametrize("last", [1023, 1024, 1025, 8191, 8192, 8193])
@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 127, 128, 129])
def test_ranks_keep_their_definition_at_the_edges_of_the_columns(size: int, last: int) -> None:
    """Σ C(x_i, i) and back, whether binomials are looked up, computed or some of both."""
    spread = [n * last // size for n in range(size)]
    for ids in ([*spread[1:], last], [*range(size - 1), last], list(range(last + 1 - size, last + 1))):
        rank = subset_rank(ids)

        assert rank == sum(math.comb(x, i) for i, x in enumerate(ids, 1))
        assert finished(subset_unranking(rank, size)) == ids


def test_lattice_points_are_ranked_without_gaps() -> None:
    """V = 4, ℓ = 5: the ranks of each size are 0 to their number, and the offsets add up to all points."""
    for size in range(1, 5):
        ranks = range(point_count(4, size, 5))
        assert [point_rank(*finished(point_unranking(rank, size, 5)), 5) for rank in ranks] == list(ranks)
    assert point_offsets(4, 4, 5)[-1] == math.comb(5 + 4 - 1, 4 - 1)


@pytest.mark.parametrize("max_size", [1, 2, 64, 256, 1024])
def test_every_size_table_is_complete(max_size: int) -> None:
    """128 tables, each ascending to the same total, with room for every size."""
    for code in range(SIZE_CODES):
        table = size_table(code, max_size)
        assert len(table) == max_size + 1
        assert table[-1] == TABLE_TOTAL
        assert all(a < b for a, b in pairwise(table))


def test_dense_qs_refuses_a_lattice_it_could_not_decode_in_time() -> None:
    """Its own limit is below the general one."""
    with pytest.raises(ConfigError, match="1024"):
        make("dense-qs", 8192, 8, 1025)
