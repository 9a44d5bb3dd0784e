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

from common.errors import PayloadInvalidError

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


class SymbolReader:
    """
    Pops symbols off a payload.

    Args:
        payload: as made by `encode_symbols`; its length is checked by the caller beforehand.

    Raises:
        PayloadInvalidError: the top byte is zero, so the payload is longer than it must be.
    """

    def __init__(self, payload: bytes) -> None:
        if payload and payload[-1] == 0:
            raise PayloadInvalidError(
                f"a payload of {len(payload)} bytes ends in a zero byte; expected no spare bytes."
            )
        self._state = int.from_bytes(payload, "little")

    def digit(self, total: int) -> int:
        """A uniform digit in [0, total)."""
        self._state, digit = divmod(self._state, total)
        return digit

    def symbol(self, cumulative: Sequence[int]) -> int:
        """
        An index i in [0, len(cumulative) - 1).

        Args:
            cumulative: ascending from 0 to the total; symbol i owns [cumulative[i], cumulative[i + 1]).
        """
        quotient, slot = divmod(self._state, cumulative[-1])
        index = bisect_right(cumulative, slot) - 1
        start = cumulative[index]
        self._state = quotient * (cumulative[index + 1] - start) + slot - start
        return index

    def finish(self) -> None:
        """
        Check that nothing is left.

        Raises:
            PayloadInvalidError: the padding is not zero (a rank out of range ends here too).
        """
        if self._state:
            raise PayloadInvalidError(
                f"{self._state.bit_length()} bits are left after the last symbol; expected zero padding."
            )
