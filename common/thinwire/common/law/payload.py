"""
One big integer per block: symbols go in and come out exactly, at the cost of their logarithms.

The integer is the state of an asymmetric numeral system without renormalisation.
Pushing the symbol that owns [start, start + frequency) of a total T maps state s to
(s // f) T + start + s mod f; popping is the inverse.
A uniform digit has f = 1, so a block of uniform digits is a mixed-radix number.
Symbols are pushed in reverse, so that they pop in reading order; the state before the first push is 0, and
after the last pop it must be 0 again.

The payload is the state in little-endian bytes without a zero byte on top (no bytes for 0), so every
sequence of symbols has exactly one payload.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from thinwire.common.errors import PayloadInvalidError
from thinwire.common.law.steps import Steps

Symbol = tuple[int, int, int]
"""(start, frequency, total), 0 <= start < start + frequency <= total."""


def encode_symbols(symbols: Sequence[Symbol]) -> bytes:
    """The payload from which `SymbolReader` reads `symbols` in the given order."""
    state = 0
    for start, frequency, total in reversed(symbols):
        if frequency == 1:
            state = state * total + start
        else:
            quotient, remainder = divmod(state, frequency)
            state = quotient * total + start + remainder
    return state.to_bytes((state.bit_length() + 7) // 8, "little")


_SEGMENT_BITS = 1 << 13
"""
A payload is read as digits of this many bits, so that the division of all of it comes in steps.

Digits by large totals, of some thousand bits, then take less than 0.1 ms a step.
"""
_SEGMENT_MASK = (1 << _SEGMENT_BITS) - 1


class SymbolReader:
    """
    Pops symbols off a payload of `encode_symbols`, whose length the caller has checked.

    Raises:
        PayloadInvalidError: the top byte is zero, so the payload is longer than it must be.
    """

    def __init__(self, payload: bytes) -> None:
        if payload and payload[-1] == 0:
            raise PayloadInvalidError(
                f"a payload of {len(payload)} bytes ends in a zero byte; expected no spare bytes."
            )
        size = _SEGMENT_BITS // 8
        pieces = (payload[start : start + size] for start in range(0, len(payload), size))
        self._segments = [int.from_bytes(piece, "little") for piece in pieces]
        """The state, least significant first, without a zero at the end."""

    def digit(self, total: int) -> Steps[int]:
        """A uniform digit in [0, total), in steps."""
        segments = self._segments
        rest = 0
        for n in range(len(segments) - 1, -1, -1):
            segments[n], rest = divmod(rest << _SEGMENT_BITS | segments[n], total)
            if n:
                yield
        self._trim()
        return rest

    def symbol(self, cumulative: Sequence[int]) -> Steps[int]:
        """
        An index i in [0, len(cumulative) - 1), in steps.

        Args:
            cumulative: ascending from 0 to the total; symbol i owns [cumulative[i], cumulative[i + 1]).
        """
        slot = yield from self.digit(cumulative[-1])
        index = bisect_right(cumulative, slot) - 1
        start = cumulative[index]
        frequency, carry = cumulative[index + 1] - start, slot - start
        for n, segment in enumerate(self._segments):
            value = segment * frequency + carry
            self._segments[n], carry = value & _SEGMENT_MASK, value >> _SEGMENT_BITS
        if carry:
            self._segments.append(carry)
        return index

    def finish(self) -> None:
        """Refuse what is left, with PayloadInvalidError: padding that is not zero, or a rank out of range."""
        if self._segments:
            bits = self._segments[-1].bit_length() + _SEGMENT_BITS * (len(self._segments) - 1)
            raise PayloadInvalidError(f"{bits} bits are left after the last symbol; expected zero padding.")

    def _trim(self) -> None:
        while self._segments and not self._segments[-1]:
            self._segments.pop()
