"""
One JSON line per round and one per generation, with a versioned schema; figures are made from these lines.

Field names carry their unit. NaN and infinity are written as null, so that every line is strict JSON.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, TextIO

from common.generation import GenerationStatistics

SCHEMA_VERSION = 1
"""Rises when a field changes its meaning or leaves; a new field does not raise it."""


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One verified round as the edge saw it."""

    session: str
    """The cloud's session id, hexadecimal."""
    round: int
    scheme: str
    draft_length: int
    """γ of this block."""
    lattice_resolution: int
    """ℓ."""
    support_sizes: tuple[int, ...]
    """K_n of each drafted token, before zero counts left."""
    wire_support_sizes: tuple[int, ...]
    """K_n⁺ of each drafted token, as sent."""
    dropped_masses: tuple[float, ...]
    """α_n of each drafted token."""
    accepted: int
    """Draft tokens accepted, 0 to γ."""
    uplink_payload_bits: int
    """8 × bytes of the coded block."""
    uplink_message_bytes: int
    """Serialised bytes of the round, repeats included."""
    downlink_message_bytes: int
    """Serialised bytes of the verdict."""
    draft_s: float
    """Without coding."""
    encode_s: float
    round_trip_s: float
    """From the round's first sending to its verdict."""
    queue_s: float
    verify_s: float
    draft_margin: float = 1.0
    """How far the closest of the block's float decisions was from another (`common.decision_margin`)."""

    def to_json(self) -> str:
        """One line, without its newline."""
        return _line("round", asdict(self))


def generation_to_json(session: str, reason: str, seed: int, statistics: GenerationStatistics) -> str:
    """One line for a whole generation, without its newline."""
    return _line(
        "generation", {"session": session, "reason": reason, "seed": seed, **statistics_to_dict(statistics)}
    )


def statistics_to_dict(statistics: GenerationStatistics) -> dict[str, Any]:
    """Every field and derived rate of `statistics`; NaN as None."""
    values = {field.name: getattr(statistics, field.name) for field in fields(statistics)}
    for name in ("acceptance_rate", "block_efficiency", "resampling_rate"):
        values[name] = getattr(statistics, name)
    return {name: _finite(value) for name, value in values.items()}


class RoundLog:
    """
    Appends records to a file, a line each, flushed at once.

    Args:
        path: created when missing, appended to otherwise.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._file: TextIO = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - closed by close()

    def write(self, line: str) -> None:
        """Append one line."""
        self._file.write(line + "\n")

    def close(self) -> None:
        """Nothing may be written afterwards."""
        self._file.close()


def _line(kind: str, values: dict[str, Any]) -> str:
    finite = {name: _finite(value) for name, value in values.items()}
    return json.dumps({"schema": SCHEMA_VERSION, "kind": kind, **finite}, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
