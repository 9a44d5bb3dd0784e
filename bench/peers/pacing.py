"""
Pacing: a small target stands in for a large one by taking as long.

A pass over n tokens lasts max(measured, a + b * n). The result is the small model's, the time is the large
one's; every figure made so says "paced".
"""

from __future__ import annotations

from dataclasses import dataclass

from thinwire.common.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Pacing:
    """How long a target pass lasts at least."""

    base_s: float = 0.0
    """a: seconds of any pass."""
    per_token_s: float = 0.0
    """b: seconds more for each token fed."""

    def __post_init__(self) -> None:
        for name in ("base_s", "per_token_s"):
            if not 0 <= getattr(self, name) <= 60:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected 0 to 60 seconds.")

    @classmethod
    def parse(cls, text: str) -> Pacing:
        """The pacing of "A_MS,B_MS", both in milliseconds; ConfigError for anything else."""
        try:
            base_ms, per_token_ms = (float(part) for part in text.split(","))
        except ValueError:
            raise ConfigError(
                f"pacing is {text!r}; expected A_MS,B_MS: milliseconds of a pass and of each of its tokens."
            ) from None
        return cls(base_ms / 1000, per_token_ms / 1000)

    def due_s(self, tokens: int) -> float:
        """Seconds a pass over `tokens` tokens lasts at least."""
        return self.base_s + self.per_token_s * tokens

    def as_argument(self) -> str:
        """What `parse` understands."""
        return f"{self.base_s * 1000:g},{self.per_token_s * 1000:g}"

    def __str__(self) -> str:
        if self == Pacing():
            return "not paced"
        base_ms, per_token_ms = self.as_argument().split(",")
        return f"paced: a target pass lasts max(measured, {base_ms} ms + {per_token_ms} ms x tokens)"
