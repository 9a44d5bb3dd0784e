"""
Randomness as data: every draw is a pure function of a key, and no key is drawn from twice.

Accept, residual, bonus and coupled draws are keyed by (seed, stream, position): each position is decided
once, so a repeated round repeats its decision.
Draft draws are keyed by (seed, stream, attempt, position) as well, because a position may be drafted again:
keyed by position alone, the redraft would reuse the number that drew the discarded token, and anything that
remembers discarded drafts (the threshold in `drafted` rollback) would choose q̂ knowing it, a biased text.

The generator is counter-based: BLAKE2b of the key for single integers, Philox-4x64 keyed by it for vectors
(Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
"""

from __future__ import annotations

import enum
import hashlib
import struct
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

ACCEPT_RESOLUTION_BITS = 64
"""Bits of an accept draw; 2**-64 is far below the float64 rounding of the ratio it is compared with."""


class Stream(enum.IntEnum):
    """What a draw decides. The numbers are part of the key, hence of every reproducible text."""

    DRAFT = 1
    ACCEPT = 2
    RESIDUAL = 3
    BONUS = 4
    COUPLED = 5
    """The one race of a position that both ends run, each over its own law (scheme `coupled`)."""


def draw_key(seed: int, stream: Stream, position: int, attempt: int = 0) -> bytes:
    """
    The key of one draw: 32 bytes, little-endian (seed, stream, position, attempt).

    Args:
        position: absolute index of the token in the sequence, prompt included, >= 0.
        attempt: number of the Draft effect, >= 0; always 0 outside the DRAFT stream.
    """
    return struct.pack("<QQQQ", seed, int(stream), position, attempt)


class Draws(Protocol):
    """
    The draws a session needs; `KeyedDraws` is the shipped source, tests enumerate another.

    `weights` may be float64 or any exact number type: only sign and order of sums are used.
    """

    def draft_integer(self, position: int, attempt: int, bound: int) -> int:
        """Uniform integer in [0, bound) that draws the draft token at `position`."""

    def accept_integer(self, position: int) -> tuple[int, int]:
        """(u, resolution): u uniform in [0, resolution); the draft token stays iff u / resolution < p / q̂."""

    def race(self, stream: Stream, position: int, weights: npt.NDArray[Any]) -> tuple[int, float]:
        """(index, margin): an index drawn in proportion to `weights`, and how clearly it won, in [0, 1]."""


class KeyedDraws:
    """The shipped source of randomness for one generation, by its seed, 0 to 2**64 - 1."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def draft_integer(self, position: int, attempt: int, bound: int) -> int:
        """
        Uniform integer in [0, bound).

        Bias: at most bound / 2**128: 2**-116 for the largest lattice resolution, below 2**-82 for any sum of
        float16 values (`dense-f16`).
        """
        return (_bits128(draw_key(self._seed, Stream.DRAFT, position, attempt)) * bound) >> 128

    def accept_integer(self, position: int) -> tuple[int, int]:
        """(u, 2**64) with u uniform in [0, 2**64)."""
        bits = _bits128(draw_key(self._seed, Stream.ACCEPT, position))
        return bits >> (128 - ACCEPT_RESOLUTION_BITS), 1 << ACCEPT_RESOLUTION_BITS

    def race(self, stream: Stream, position: int, weights: npt.NDArray[np.float64]) -> tuple[int, float]:
        """
        Exponential race: argmin over x of E_x / weight_x, with E_x standard exponential and tied to the id x;
        the Gumbel-max trick after a logarithm.

        A change of 1e-7 in the weights moves the winner with probability of that order, where a cumulative
        sum over ids would move it a thousand times as often.

        Args:
            stream: RESIDUAL, BONUS or COUPLED.
            weights: (V,) float64 or float32, >= 0, not all 0; need not sum to 1.

        Returns:
            (winner, margin), margin = 1 - best / second best, 1.0 when nothing else can win.
        """
        exponentials = self._exponentials(stream, position, weights.shape[0])
        with np.errstate(divide="ignore"):
            times = exponentials / weights
        winner = int(np.argmin(times))
        best = times[winner]
        times[winner] = np.inf
        return winner, float(1.0 - best / times.min()) if times.size > 1 else 1.0

    def _exponentials(self, stream: Stream, position: int, size: int) -> npt.NDArray[np.float64]:
        """(size,) float64 standard exponentials; element x depends on the key and x alone."""
        generator = np.random.Philox(key=_bits128(draw_key(self._seed, stream, position)))
        raw = generator.random_raw(size)
        # 53 bits, centred in their cell: never 0, never 1, so the logarithm is finite and non-zero.
        return np.asarray(-np.log(((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53))


def _bits128(key: bytes) -> int:
    """128 bits of BLAKE2b(key) as an integer."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=16).digest(), "little")
