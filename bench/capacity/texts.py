"""Recorded texts: every message a real edge sent for a text, how long it drafted, and what came back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RecordedRound:
    """One round."""

    request: str
    """The message up, serialised, base64."""
    draft_s: float
    """Seconds that the edge drafted for it."""
    accepted: int
    next_token_id: int


@dataclass(frozen=True, slots=True)
class RecordedText:
    """One text."""

    prompt: str
    open: str
    """The message that opens the session, serialised, base64."""
    rounds: tuple[RecordedRound, ...]

    def to_json(self) -> str:
        """One line, without its newline."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> RecordedText:
        """Inverse of `to_json`."""
        values = json.loads(line)
        return cls(**{**values, "rounds": tuple(RecordedRound(**one) for one in values["rounds"])})


def read_texts(path: Path) -> list[RecordedText]:
    """The texts in a file."""
    return [RecordedText.from_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
