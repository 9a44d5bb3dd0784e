"""
What the lattice schemes share: from a support to q̂, the choice of a size table, and the block's bits.

A block is coded in one of two ways.
*Enumerative*: each token's lattice point has one rank among all points with at most K positive counts.
There are at most C(V, K) C(ℓ + K - 1, K - 1) of those, so this never costs more than the paper's account.
*Sized*: K⁺ from a shipped table, then the rank among the points with exactly K⁺ positive counts; shorter
where the draft is sure of itself.
Either way the token's place in the support follows as a uniform digit.
Schemes with a fixed K choose per block, by one bit; a threshold scheme always uses the second.
"""

from __future__ import annotations

import abc
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from thinwire.common.config import MAX_LATTICE_RESOLUTION
from thinwire.common.errors import PayloadInvalidError
from thinwire.common.law.draft_token import DraftToken, QuantizedDistribution
from thinwire.common.law.lattice import quantize, rounding_margin
from thinwire.common.law.payload import Symbol, SymbolReader, encode_symbols
from thinwire.common.law.selection import IntArray
from thinwire.common.law.steps import Steps
from thinwire.common.law.support_code import (
    SIZE_CODES,
    TABLE_TOTAL,
    best_size_code,
    most_frequent_size,
    point_bits,
    point_count,
    point_offsets,
    point_rank,
    point_unranking,
    size_bits,
    size_table,
)
from thinwire.common.schemes.base import DraftDistribution, Scheme, SchemeState
from thinwire.common.schemes.parameters import SchemeParameters, integer
from thinwire.common.schemes.sparsify import Support

_MEMORY = 0.98
"""Weight of the past in the record of support sizes: about the last 50 kept positions choose the table."""
_NO_WASTE_BITS = 64.0
"""Above this size of the number so far, a table symbol wastes less than 2**-48 bit."""
_BITS_PER_NAT = 1 / math.log(2)
_FIRST_GUESS = (2.0, 0.8, 4.0)
"""The record before anything was drafted: a weak belief in small supports."""
_PRICE_OFFSET, _PRICE_UNIT = 100, 45_000
"""
A block of B bytes, b of them a token, is decoded at the cost of B (b + 100) / 45 000 tokens to score.

Steps with large numbers take longer. So a token charged stands for 0.5 to 1.3 ms on the build machine, from
sparse blocks to dense ones of 37 kB; the usual block of some 50 bytes is charged nothing.
"""


class LatticeScheme(Scheme):
    """
    Base of the schemes that send a lattice point a token.

    `coding` names the table of support sizes. Subclasses say by `enumerates` whether a block may be coded
    enumeratively.
    """

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Parameters(SchemeParameters):
        """What every lattice scheme is told."""

        lattice_resolution: int = integer(
            100, short="ell", means="lattice resolution ℓ", low=1, high=MAX_LATTICE_RESOLUTION, decodes=True
        )

    parameters: Parameters
    enumerates: ClassVar[bool]

    def __init__(self, parameters: Parameters, *, vocabulary_size: int) -> None:
        super().__init__(parameters, vocabulary_size=vocabulary_size)
        self.resolution = parameters.lattice_resolution
        self.max_points = min(self.support_limit, vocabulary_size, self.resolution)

    @property
    @abc.abstractmethod
    def support_limit(self) -> int:
        """Points a support may have, before V and ℓ bound it."""

    # --- the edge's half ----------------------------------------------------------------------------------

    def initial_state(self) -> SchemeState:
        return SchemeState(support_sizes=_FIRST_GUESS)

    def next_state(self, state: SchemeState, drafted: DraftDistribution) -> SchemeState:
        return SchemeState(state.threshold, self._recorded(state, drafted))

    def _recorded(self, state: SchemeState, drafted: DraftDistribution) -> tuple[float, ...]:
        total, ones, excess = (_MEMORY * value for value in state.support_sizes)
        size = len(drafted.quantized.support_ids)
        if size == 1:
            return total + 1, ones + 1, excess
        return total + 1, ones, excess + size - 2

    def _on_lattice(self, draft_probs: npt.NDArray[Any], support: Support) -> DraftDistribution:
        """Renormalise q on the support, round to the lattice, drop zero counts."""
        kept = draft_probs[support.ids].astype(np.float64)
        mass = float(kept.sum())
        kept /= mass
        counts = quantize(kept, self.resolution)
        return DraftDistribution(
            self._positive(support.ids, counts),
            support.ids.size,
            max(0.0, 1.0 - mass),
            support.cap_binds,
            min(support.margin, rounding_margin(kept, counts, self.resolution)),
        )

    def _positive(self, ids: IntArray, counts: IntArray) -> QuantizedDistribution:
        if np.count_nonzero(counts) < counts.size:
            positive = counts.nonzero()[0]
            ids, counts = ids[positive], counts[positive]
        return QuantizedDistribution(ids, counts, self.resolution)

    # --- the payload --------------------------------------------------------------------------------------

    def coding(self, state: SchemeState) -> int:
        total, ones, excess = state.support_sizes
        return best_size_code(total, ones, excess, self.max_points)

    def block_bits(self, distributions: Sequence[QuantizedDistribution], *, coding: int) -> float:
        """
        Bits of the shorter of the two codings, the choosing bit included.

        Never less than the payload's, whatever is drawn: what a table symbol wastes on a small number counts.
        """
        sizes = [len(d.support_ids) for d in distributions]
        if not sizes:
            return 0.0
        sized = self._sized_bits(sizes, coding)
        if not self.enumerates:
            return sized
        return 1 + min(sized, self._enumerative_bits(sizes))

    def encode(self, tokens: Sequence[DraftToken], *, coding: int) -> bytes:
        if not tokens:
            return b""
        sizes = [len(token.quantized.support_ids) for token in tokens]
        symbols: list[Symbol] = []
        sized = True
        if self.enumerates:
            sized = self._sized_bits(sizes, coding) < self._enumerative_bits(sizes)
            symbols.append((int(sized), 1, 2))
        for token, size in zip(tokens, sizes, strict=True):
            rank = point_rank(
                token.quantized.support_ids.tolist(), token.quantized.lattice_counts.tolist(), self.resolution
            )
            if sized:
                table = size_table(coding, self.max_points)
                symbols.append((table[size - 1], table[size] - table[size - 1], TABLE_TOTAL))
                symbols.append((rank, 1, point_count(self.vocabulary_size, size, self.resolution)))
            else:
                offsets = self._offsets()
                symbols.append((offsets[size - 1] + rank, 1, offsets[-1]))
            symbols.append((token.token_index, 1, size))
        return encode_symbols(symbols)

    def decoding(self, payload: bytes, *, draft_length: int, coding: int) -> Steps[tuple[DraftToken, ...]]:
        if not 0 <= coding < SIZE_CODES:
            raise PayloadInvalidError(f"the coding is {coding}; expected 0 to {SIZE_CODES - 1}.")
        reader = SymbolReader(payload)
        sized = True
        if self.enumerates and draft_length > 0:
            sized = (yield from reader.digit(2)) == 1
        tokens = []
        for _ in range(draft_length):
            if sized:
                size = 1 + (yield from reader.symbol(size_table(coding, self.max_points)))
                rank = yield from reader.digit(point_count(self.vocabulary_size, size, self.resolution))
            else:
                offsets = self._offsets()
                rank = yield from reader.digit(offsets[-1])
                size = bisect_right(offsets, rank)  # whose block of ranks holds it
                rank -= offsets[size - 1]
            yield
            ids, counts = yield from point_unranking(rank, size, self.resolution)
            quantized = QuantizedDistribution(
                np.array(ids, dtype=np.int64), np.array(counts, dtype=np.int64), self.resolution
            )
            index = yield from reader.digit(size)
            tokens.append(DraftToken(quantized, index))
        reader.finish()
        return tuple(tokens)

    def decoding_tokens(self, draft_length: int, payload_bytes: int) -> int:
        token_bytes = payload_bytes // max(1, draft_length)
        return payload_bytes * (token_bytes + _PRICE_OFFSET) // _PRICE_UNIT

    def max_payload_bytes(self, draft_length: int) -> int:
        """Bytes of the costliest block: the dearest size, support, counts and index at every position."""
        if draft_length == 0:
            return 0
        size = most_frequent_size(self.vocabulary_size, self.max_points, self.resolution)
        largest = point_bits(self.vocabulary_size, size, self.resolution)
        dearest = largest + math.log2(TABLE_TOTAL) + math.log2(self.max_points)
        return math.ceil((1 + draft_length * dearest) / 8) + 1

    def _sized_bits(self, sizes: Sequence[int], code: int) -> float:
        """
        Bits of a non-empty block, from the last token to the first, as the encoder goes.

        A symbol of frequency f takes numbers below 2**b to numbers below (2**b / f + 1) T.
        """
        symbol_bits = size_bits(code, self.max_points)
        bits = 0.0
        for size in reversed(sizes):
            bits += math.log2(size) + point_bits(self.vocabulary_size, size, self.resolution)
            cost = symbol_bits[size - 1]
            waste = TABLE_TOTAL * 2.0 ** -(cost + bits) if bits < _NO_WASTE_BITS else 0.0
            bits += cost + math.log1p(waste) * _BITS_PER_NAT
        return bits

    def _offsets(self) -> tuple[int, ...]:
        return point_offsets(self.vocabulary_size, self.max_points, self.resolution)

    def _enumerative_bits(self, sizes: Sequence[int]) -> float:
        """Bits of a block, places included."""
        return len(sizes) * math.log2(self._offsets()[-1]) + sum(math.log2(size) for size in sizes)
