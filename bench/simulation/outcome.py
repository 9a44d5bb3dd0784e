"""What a simulation came to."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Text:
    """One text as its edge saw it; seconds from its beginning."""

    first_s: float
    last_s: float
    tokens: int


@dataclass(slots=True)
class Outcome:
    """What a simulation came to, from `since_s` on."""

    since_s: float = 0.0
    until_s: float = 0.0
    token_s: list[float] = field(default_factory=list)
    """
    The time since the arrival before it in its text, shared by the tokens that came together.

    One entry a token; the first arrival of a text has none before it.
    """
    tokens: int = 0
    """That arrived, first ones included."""
    passes: int = 0
    rows: int = 0
    busy_s: float = 0.0
    """Seconds of passes that ended in the window."""
    wire_up_bytes: int = 0
    wire_down_bytes: int = 0
    rounds: int = 0
    texts: list[Text] = field(default_factory=list)
