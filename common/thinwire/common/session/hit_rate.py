"""How often drafted tokens were right of late, and how far it is worth to draft; no clock, no I/O."""

from __future__ import annotations

import math

FADED = 0.12
"""
Right less often than this, a drafted token is worth neither its bytes nor a row of the target's pass.

A pass of 2 to 7 rows takes the bundled target 1.0 to 1.2 times one of a single row (docs/decisions/0009).
"""
PROBE_TOKENS = 16
"""After so many tokens without a draft a faded one is tried once more."""
_MEMORY = 16
_MEMORY_OF_RARE = 4
_FAR = 1000
_RARE, _SURE = 0.02, 0.98
_STEEPEST = 4.0


class HitRate:
    """
    A running share of right tokens, by which a useless draft fades within some 32 tokens.

    Args:
        first: what is believed before any was judged.
        memory: tokens that are remembered, about; fewer where one is right after many that were not.
    """

    def __init__(self, first: float = 0.75, *, memory: float = _MEMORY) -> None:
        self.value = first
        self.judged = 0
        """Tokens noted so far."""
        self.right = 0
        """Those of them that were right."""
        self._memory = memory

    @property
    def is_faded(self) -> bool:
        """Whether drafting is not worth it now."""
        return self.value < FADED

    def note(self, right: bool) -> bool:
        """One token was judged; returns `right`."""
        self.judged += 1
        self.right += right
        memory = min(self._memory, _MEMORY_OF_RARE) if right and self.is_faded else self._memory
        self.value += (right - self.value) / memory
        return right

    def depth(self, price: float) -> int:
        """Tokens ahead up to which all are right at least this often."""
        if self.value >= 1:
            return _FAR
        return int(math.log(price) / math.log(self.value)) if self.value > 0 else 0


class Calibration:
    """
    Estimated chances held against what happened: a chance c counts as cᵏ, by the k that makes the mean right.

    Every chance keeps its rank, and a source that claims too much is believed less.
    """

    def __init__(self) -> None:
        self.hit_rate = HitRate()
        self._claimed = self.hit_rate.value
        self._exponent = 1.0

    def note(self, right: bool, claimed: float) -> bool:
        """One token was judged, of which so much was claimed; returns `right`."""
        self._claimed += (claimed - self._claimed) / _MEMORY
        self.hit_rate.note(right)
        rate, mean = (min(_SURE, max(_RARE, share)) for share in (self.hit_rate.value, self._claimed))
        self._exponent = min(_STEEPEST, max(1 / _STEEPEST, math.log(rate) / math.log(mean)))
        return right

    def chance(self, claimed: float) -> float:
        """What a claimed chance is worth."""
        return float(min(1.0, max(0.0, claimed)) ** self._exponent)

    def claim(self, chance: float) -> float:
        """What has to be claimed to be worth so much."""
        return float(chance ** (1 / self._exponent))
