"""
Dense float16: the whole draft distribution as IEEE binary16, uncompressed; what a naive system sends.

To be exact the draft must be drawn from the very law that was sent.
Every float16 in [0, 1] is an integer multiple of 2**-24, its smallest subnormal.
So the V values sent *are* V integers b(x) with a sum S, which is close to 2**24 but, because of the rounding,
hardly ever equal to it; q̂ = b / S is drawn from by an integer in [0, S), and tested against, as on any
lattice, with this token's own resolution S.

The legal values are the bit patterns 0x0000 (0) to 0x3C00 (1), in order: NaN, infinities, negative values
(-0 too) and values above 1 all lie above 0x3C00 when the pattern is read as an integer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinwire.common.config import MAX_DRAFT_LENGTH
from thinwire.common.errors import ConfigError, ModelError, PayloadInvalidError
from thinwire.common.law.draft_token import DraftToken, QuantizedDistribution
from thinwire.common.law.random_streams import Draws
from thinwire.common.law.selection import IntArray
from thinwire.common.law.steps import Steps
from thinwire.common.schemes.base import DraftDistribution, Scheme, SchemeState, token_at
from thinwire.common.schemes.parameters import SchemeParameters

MAX_DENSE_ROUND_BYTES = 4 * 1024 * 1024 - 1024
"""
Payload bytes of one round, in place of MAX_ROUND_BYTES: what fits, with its header, in the 4 MiB that a gRPC
message may have at either end for the prompt's sake. Nothing is opened wider for this scheme.
"""
ONE = 0x3C00
"""Bit pattern of 1.0, the largest legal value."""
_BYTES_A_CHARGED_TOKEN = 64 * 1024
"""Payload bytes whose decoding is charged like a token to score: 0.5 to 1.3 ms on the build machine."""
UNIT_BITS = 24
"""Counts are in units of 2**-24."""
_ROUNDING = 2.0**-11
"""Largest relative change that rounding to float16 makes; of values that are no subnormals."""


class DenseF16(Scheme):
    """
    Support: every token whose probability does not round to 0, which takes less than 2**-25.

    A token costs 2 V bytes and the bytes of its id, so γ is bounded by the round's bytes.

    Raises:
        ConfigError: V so large that a round could not hold one token (over two million ids).
    """

    name = "dense-f16"

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Parameters(SchemeParameters):
        """None."""

    def __init__(self, parameters: SchemeParameters, *, vocabulary_size: int) -> None:
        super().__init__(parameters, vocabulary_size=vocabulary_size)
        self._id_bytes = ((vocabulary_size - 1).bit_length() + 7) // 8
        self._token_bytes = 2 * vocabulary_size + self._id_bytes
        self.max_draft_length = min(MAX_DRAFT_LENGTH, MAX_DENSE_ROUND_BYTES // self._token_bytes)
        if self.max_draft_length == 0:
            raise ConfigError(
                f"dense-f16 needs {self._token_bytes} bytes a token for a vocabulary of {vocabulary_size} "
                f"ids; expected at most {MAX_DENSE_ROUND_BYTES}."
            )

    # --- the edge's half ----------------------------------------------------------------------------------

    def quantize(self, draft_probs: npt.NDArray[Any], state: SchemeState) -> DraftDistribution:
        """
        q → float16 → counts. Only the proportions of `draft_probs` matter.

        Raises:
            ModelError: every probability rounds to 0. With V ids one is at least 1 / V, and the constructor's
                bound on V keeps that above 2**-22, so only a row that does not sum to 1 ends here.
        """
        counts = counts_of(draft_probs.astype(np.float16).view(np.uint16))
        ids = np.flatnonzero(counts)
        if ids.size == 0:
            raise ModelError(
                f"the largest draft probability is {float(draft_probs.max()):g}; expected one that float16 "
                "can tell from 0, above 2**-25."
            )
        return DraftDistribution(_on(ids, counts), int(np.count_nonzero(draft_probs)), 0.0, False)

    def sample_with_margin(
        self,
        draft_probs: npt.NDArray[Any],
        drafted: DraftDistribution,
        draws: Draws,
        *,
        position: int,
        attempt: int,
    ) -> tuple[DraftToken, float]:
        """
        Among V roundings some always hang by a thread, so the counts are let go: each moves by 2**-11 of
        itself at most (a subnormal by more, of next to no mass), and with them the token's share of [0, S)
        by as much of S.
        The drafted token's own count moves the cloud's acceptance test by as much, which no margin of the
        edge's tells: with this scheme a decision of the cloud below 1e-3 is a close one.
        """
        quantized = drafted.quantized
        total = quantized.lattice_resolution
        pick = draws.draft_integer(position, attempt, total)
        token = token_at(quantized, pick)
        end = int(quantized.lattice_counts[: token.token_index + 1].sum())
        start = end - int(quantized.lattice_counts[token.token_index])
        edges = [float(pick) - start] if start else []
        edges += [end - float(pick)] if end < total else []
        return token, max(0.0, 2 * (min(edges) / total - _ROUNDING)) if edges else 1.0

    # --- the payload --------------------------------------------------------------------------------------

    def block_bits(self, distributions: Sequence[QuantizedDistribution], *, coding: int) -> float:
        return float(8 * self._token_bytes * len(distributions))

    def encode(self, tokens: Sequence[DraftToken], *, coding: int) -> bytes:
        """The values and the id of each token in turn (`proto/README.md`); counts are those of `quantize`."""
        parts: list[bytes] = []
        for token in tokens:
            values = np.zeros(self.vocabulary_size, dtype="<f2")
            counts = token.quantized.lattice_counts.astype(np.float64)
            values[token.quantized.support_ids] = np.ldexp(counts, -UNIT_BITS)
            parts += (values.tobytes(), token.token_id.to_bytes(self._id_bytes, "little"))
        return b"".join(parts)

    def decoding(self, payload: bytes, *, draft_length: int, coding: int) -> Steps[tuple[DraftToken, ...]]:
        """
        Inverse of `encode`, a token a step; every block has exactly one payload.

        Raises:
            PayloadInvalidError: another length, a coding, a pattern above 0x3C00, a law without
                mass, or a token that this law could not have drawn.
        """
        expected = draft_length * self._token_bytes
        if len(payload) != expected:
            raise PayloadInvalidError(f"the payload has {len(payload)} bytes; expected {expected}.")
        if coding != 0:
            raise PayloadInvalidError(f"the coding is {coding}; expected 0.")
        tokens = []
        for n in range(draft_length):
            yield
            tokens.append(self._decode_token(payload, n * self._token_bytes))
        return tuple(tokens)

    def decoding_tokens(self, draft_length: int, payload_bytes: int) -> int:
        return payload_bytes // _BYTES_A_CHARGED_TOKEN

    def max_payload_bytes(self, draft_length: int) -> int:
        return draft_length * self._token_bytes

    def _decode_token(self, payload: bytes, start: int) -> DraftToken:
        patterns = np.frombuffer(payload, dtype="<u2", count=self.vocabulary_size, offset=start)
        worst = int(patterns.argmax())
        if patterns[worst] > ONE:
            raise PayloadInvalidError(
                f"the float16 of id {worst} is 0x{int(patterns[worst]):04X}; expected 0x0000 to 0x{ONE:04X}, "
                "a number from 0 to 1."
            )
        counts = counts_of(patterns)
        ids = np.flatnonzero(counts)
        if ids.size == 0:
            raise PayloadInvalidError(f"all {patterns.size} values are 0; expected at least one above.")
        end = start + self._token_bytes
        token_id = int.from_bytes(payload[end - self._id_bytes : end], "little")
        if token_id >= self.vocabulary_size or counts[token_id] == 0:
            raise PayloadInvalidError(
                f"the drafted token is {token_id}; expected an id with a value above 0."
            )
        return DraftToken(_on(ids, counts), int(np.searchsorted(ids, token_id)))


def counts_of(patterns: npt.NDArray[np.uint16]) -> IntArray:
    """
    Float16 values as integers in units of 2**-24.

    Args:
        patterns: (V,) uint16, bit patterns from 0 to 0x3C00; not checked.

    Returns:
        (V,) int64, 0 to 2**24. With exponent e and fraction m: m for e = 0 (subnormal), otherwise
        (1024 + m) 2**(e - 1).
    """
    exponents = (patterns >> 10).astype(np.int64)
    fractions = (patterns & 0x3FF).astype(np.int64)
    return np.where(exponents == 0, fractions, (fractions + 0x400) << np.maximum(exponents - 1, 0))


def _on(ids: IntArray, counts: IntArray) -> QuantizedDistribution:
    """q̂ on the ids with a positive count; its resolution is their sum S, below 2**46."""
    kept = counts[ids]
    return QuantizedDistribution(ids, kept, int(kept.sum()))
