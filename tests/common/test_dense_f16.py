"""The whole draft law as float16: exact integers, one payload a block, bounded rounds."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.common import wire
from thinwire.common.config import MAX_DRAFT_LENGTH
from thinwire.common.errors import ConfigError, ModelError, PayloadInvalidError
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.dense_f16 import MAX_DENSE_ROUND_BYTES, ONE, DenseF16, counts_of

PARAMETERS = DenseF16.Parameters()
UNIT = 2.0**-24


def make(vocabulary_size: int):
    """The scheme for V ids."""
    return make_scheme(PARAMETERS, vocabulary_size=vocabulary_size)


def row(
    generator: np.random.Generator, vocabulary_size: int, concentration: float
) -> npt.NDArray[np.float64]:
    """A random law; low concentrations leave most tokens below float16's smallest number."""
    weights = generator.gamma(concentration, size=vocabulary_size)
    weights[generator.integers(vocabulary_size)] += 1e-3
    return weights / weights.sum()


def tokens_of(
    vocabulary_size: int, length: int, seed: int, concentration: float = 0.3, *, dtype: type = np.float64
) -> list[DraftToken]:
    """A drafted block of random laws."""
    scheme, generator = make(vocabulary_size), np.random.default_rng(seed)
    state, tokens = scheme.initial_state(), []
    for n in range(length):
        drafted = scheme.quantize(row(generator, vocabulary_size, concentration).astype(dtype), state)
        tokens.append(scheme.sample(drafted, KeyedDraws(seed), position=n, attempt=0))
    return tokens


def plain(tokens) -> list[tuple[list[int], list[int], int, int]]:
    """Comparable form."""
    return [
        (
            t.quantized.support_ids.tolist(),
            t.quantized.lattice_counts.tolist(),
            t.quantized.lattice_resolution,
            t.token_index,
        )
        for t in tokens
    ]


def packed(patterns: list[int], token_id: int) -> bytes:
    """One token's bytes, by hand, for at most 256 ids."""
    return struct.pack(f"<{len(patterns)}HB", *patterns, token_id)


# --- float16 as integers ------------------------------------------------------------------------------------


def test_every_legal_pattern_is_its_count_of_units() -> None:
    """All 15 361 of them, subnormals included, against exact arithmetic."""
    patterns = np.arange(ONE + 1, dtype=np.uint16)
    exact = [Fraction(float(value)) * 2**24 for value in patterns.view(np.float16)]

    assert counts_of(patterns).tolist() == exact
    assert counts_of(patterns)[-1] == 2**24


def test_the_legal_patterns_are_exactly_the_numbers_from_0_to_1() -> None:
    """One comparison refuses NaN, infinities, negative values and -0, and values above 1."""
    patterns = np.arange(2**16, dtype=np.uint32).astype(np.uint16)
    values = patterns.view(np.float16)
    legal = (values >= 0) & (values <= 1) & ~np.signbit(values)

    assert np.flatnonzero(legal).tolist() == list(range(ONE + 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_law_is_the_rounded_values_over_their_own_sum(dtype: type) -> None:
    """q̂ = b / S with b the float16 values; S is a token's own and not 2**24 in general."""
    q = np.array([0.3, 0.2, 0.1, 0.4 - 3e-8, 3e-8, 0.0], dtype=dtype)
    scheme = make(6)
    drafted = scheme.quantize(q, scheme.initial_state())
    halves = [Fraction(float(np.float16(value))) * 2**24 for value in q]

    assert drafted.quantized.support_ids.tolist() == [0, 1, 2, 3, 4]
    assert drafted.quantized.lattice_counts.tolist() == halves[:5]
    assert drafted.quantized.lattice_counts[4] == 1, "3e-8 rounds to the smallest subnormal"
    assert drafted.quantized.lattice_resolution == sum(halves) != 2**24
    assert (drafted.support_size, drafted.dropped_mass, drafted.cap_binds) == (5, 0.0, False)


def test_a_value_that_rounds_to_0_leaves_the_support() -> None:
    """Below 2**-25 a token cannot be drawn, at either end."""
    scheme = make(3)
    drafted = scheme.quantize(np.array([1 - 2e-8, 1e-8, 1e-8]), scheme.initial_state())

    assert drafted.quantized.support_ids.tolist() == [0]
    assert drafted.support_size == 3


def test_a_row_of_which_nothing_is_left_is_a_named_error() -> None:
    """A law cannot be that flat within the bound on V, but a row that is not one must not divide by zero."""
    scheme = make(4)

    with pytest.raises(ModelError, match=r"largest draft probability is 1e-09; expected one that float16"):
        scheme.quantize(np.full(4, 1e-9), scheme.initial_state())


def test_the_flattest_law_of_the_largest_vocabulary_still_has_counts() -> None:
    """The bound on V keeps 1 / V above what float16 rounds to 0."""
    largest = (MAX_DENSE_ROUND_BYTES - 3) // 2
    scheme = make(largest)

    drafted = scheme.quantize(np.full(largest, 1 / largest), scheme.initial_state())

    assert scheme.max_draft_length == 1
    assert drafted.quantized.lattice_counts.tolist() == [8] * largest
    with pytest.raises(ConfigError, match="dense-f16 needs 4193283 bytes a token"):
        make(largest + 2)


def test_tokens_are_drawn_in_proportion_to_their_counts() -> None:
    """Every integer in [0, S) picks a token; each token is picked as often as its count says."""

    class Counting(KeyedDraws):
        def draft_integer(self, position: int, attempt: int, bound: int) -> int:
            assert bound == 11
            return position

    scheme = make(5)
    drafted = scheme.quantize(np.array([3.2, 0.0, 1.4, 0.4, 7.0]) * UNIT, scheme.initial_state())

    picked = [scheme.sample(drafted, Counting(0), position=n, attempt=0).token_id for n in range(11)]

    assert np.bincount(picked).tolist() == [3, 0, 1, 0, 7]


# --- the payload --------------------------------------------------------------------------------------------


def test_a_block_by_hand_has_the_bytes_of_the_readme() -> None:
    """V = 3: three little-endian float16 and one byte of id, twice."""
    scheme = make(3)
    payload = bytes.fromhex("0038 0034 0034 01003c 0000 0000 00")

    tokens = scheme.decode(payload, draft_length=2, coding=0)

    assert plain(tokens) == [
        ([0, 1, 2], [2**23, 2**22, 2**22], 2**24, 1),
        ([0], [2**24], 2**24, 0),
    ]
    assert scheme.encode(tokens, coding=0) == payload


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    vocabulary_size=st.sampled_from([1, 2, 3, 17, 255, 256, 257, 1000, 8192, 50257, 65537]),
    length=st.integers(0, 3),
    concentration=st.sampled_from([0.001, 0.05, 1.0, 50.0]),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**32),
)
def test_a_block_comes_back_whole(
    vocabulary_size: int, length: int, concentration: float, dtype: type, seed: int
) -> None:
    """Round trip of laws from nearly certain to nearly flat, at exactly the announced length."""
    scheme = make(vocabulary_size)
    tokens = tokens_of(vocabulary_size, length, seed, concentration, dtype=dtype)

    payload = scheme.encode(tokens, coding=0)

    assert plain(scheme.decode(payload, draft_length=length, coding=0)) == plain(tokens)
    assert len(payload) == scheme.max_payload_bytes(length)
    id_bytes = math.ceil(math.log2(vocabulary_size) / 8)
    assert len(payload) == length * (2 * vocabulary_size + id_bytes)
    bits = scheme.block_bits([t.quantized for t in tokens], coding=0)
    assert 8 * len(payload) == bits, "a budget asked beforehand is kept"


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    length=st.integers(0, 3),
    patterns=st.lists(
        st.one_of(st.integers(0, ONE + 2), st.integers(0, 2**16 - 1), st.just(0)), min_size=12, max_size=12
    ),
    ids=st.lists(st.integers(0, 5), min_size=3, max_size=3),
    spare=st.sampled_from([b"", b"", b"", b"", b"\0", b"\1"]),
)
def test_any_bytes_decode_to_a_legal_block_with_that_payload_or_are_refused(
    length: int, patterns: list[int], ids: list[int], spare: bytes
) -> None:
    """Whatever decodes is a legal block, and no other bytes are its payload."""
    scheme = make(4)
    payload = b"".join(packed(patterns[4 * n : 4 * n + 4], ids[n]) for n in range(length)) + spare

    try:
        tokens = scheme.decode(payload, draft_length=length, coding=0)
    except PayloadInvalidError:
        return

    assert len(tokens) == length
    for token in tokens:
        support, counts = token.quantized.support_ids, token.quantized.lattice_counts
        assert (np.diff(support) > 0).all()
        assert support[0] >= 0
        assert support[-1] < 4
        assert counts.min() >= 1
        assert counts.max() <= 2**24
        assert counts.sum() == token.quantized.lattice_resolution
        assert token.token_index < len(support)
    assert scheme.encode(tokens, coding=0) == payload


@settings(max_examples=200, deadline=None, derandomize=True)
@given(payload=st.binary(max_size=60), length=st.integers(0, 4), code=st.integers(0, 3))
def test_random_bytes_never_raise_anything_but_a_refusal(payload: bytes, length: int, code: int) -> None:
    """Wrong lengths and wrong values alike."""
    scheme = make(6)

    try:
        tokens = scheme.decode(payload, draft_length=length, coding=code)
    except PayloadInvalidError:
        return

    assert scheme.encode(tokens, coding=0) == payload


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), bit=st.integers(0, 1_000_000))
def test_a_mutated_block_is_another_block_or_refused(seed: int, bit: int) -> None:
    """A flipped bit never decodes to the same tokens: a block has one payload."""
    scheme = make(300)
    tokens = tokens_of(300, 3, seed)
    payload = bytearray(scheme.encode(tokens, coding=0))
    payload[bit // 8 % len(payload)] ^= 1 << bit % 8

    try:
        mutated = scheme.decode(bytes(payload), draft_length=3, coding=0)
    except PayloadInvalidError:
        return

    assert plain(mutated) != plain(tokens)


HALF, TINY = 0x3800, 0x0001


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (packed([HALF, 0x7E00, HALF], 0), "float16 of id 1 is 0x7E00"),  # NaN
        (packed([HALF, HALF, 0xFE00], 0), "float16 of id 2 is 0xFE00"),  # NaN, negative
        (packed([0x7C00, HALF, HALF], 1), "float16 of id 0 is 0x7C00"),  # inf
        (packed([HALF, 0xFC00, HALF], 0), "float16 of id 1 is 0xFC00"),  # -inf
        (packed([HALF, 0xB800, HALF], 0), "float16 of id 1 is 0xB800"),  # -0.5
        (packed([HALF, 0x8000, HALF], 0), "float16 of id 1 is 0x8000"),  # -0.0
        (packed([HALF, 0x3C01, 0], 0), "float16 of id 1 is 0x3C01"),  # the next above 1
        (packed([0, 0, 0], 0), "all 3 values are 0"),
        (packed([HALF, 0, HALF], 1), "drafted token is 1; expected an id with a value above 0"),
        (packed([HALF, HALF, 0], 3), "drafted token is 3"),
        (packed([HALF, HALF, 0], 255), "drafted token is 255"),
        (packed([HALF, HALF, 0], 0)[:-1], "payload has 6 bytes; expected 7"),
        (packed([HALF, HALF, 0], 0) + b"\0", "payload has 8 bytes; expected 7"),
        (b"", "payload has 0 bytes; expected 7"),
    ],
)
def test_a_payload_that_is_no_law_is_refused(payload: bytes, sentence: str) -> None:
    """NaN, infinities, negative values, values above 1, no mass, an impossible token, a wrong length."""
    scheme = make(3)

    with pytest.raises(PayloadInvalidError, match=sentence):
        scheme.decode(payload, draft_length=1, coding=0)


def test_a_coding_is_refused() -> None:
    """The scheme codes no sizes, so 0 is the only one."""
    scheme = make(3)

    assert scheme.coding(scheme.initial_state()) == 0
    with pytest.raises(PayloadInvalidError, match="coding is 1; expected 0"):
        scheme.decode(packed([HALF, TINY, 0], 1), draft_length=1, coding=1)


@pytest.mark.parametrize(
    ("vocabulary_size", "most"), [(8, 64), (8192, 64), (32_768, 63), (50_257, 41), (151_936, 13)]
)
def test_a_round_fits_in_a_message(vocabulary_size: int, most: int) -> None:
    """γ is bounded so that a round stays below the message size that both ends accept anyway."""
    scheme = make(vocabulary_size)
    longest = scheme.max_payload_bytes(scheme.max_draft_length)
    for options in (wire.server_options(), wire.channel_options()):
        sizes = [value for name, value in options if "message_length" in name]
        assert len(sizes) == 2
        assert longest <= MAX_DENSE_ROUND_BYTES <= min(sizes) - 1024

    assert scheme.max_draft_length == most <= MAX_DRAFT_LENGTH
