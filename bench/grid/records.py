"""
One line per generation and one per round; tables are made from these lines and from nothing else.

Times are monotonic seconds at the edge, counted from the moment the request was sent there.
Figures of the cloud come from its own log of model passes, read after each text; none of it crosses the link.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

import msgspec

from bench.grid.cells import Cell

SCHEMA_VERSION: Final = 1
"""Rises when a field changes its meaning or leaves; a new field with a default does not raise it."""
MEASURED, TUNING = "measured", "tuning"

RunKey = tuple[Cell, str, str, int, str]
"""Cell, method, prompt, seed and trial: what is run once. A resumed run skips the keys it finds."""


class RecordError(ValueError):
    """A line that is no record of this schema."""


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """One text."""

    rate_up_bps: int
    rtt_s: float
    temperature: float
    method: str
    prompt: str
    """Id in the prompt file."""
    seed: int
    purpose: str
    trial: str
    """Parameters under trial, of a tuning text; empty for a measured one."""
    attempt: str
    """Random; the rounds of this text carry the same."""
    way: str
    """Scheme, or the peers' way."""
    is_peer: bool
    """Tokens streamed from the cloud."""
    parameters: dict[str, Any]
    """What was not at its default: draft length and scheme parameters; `scheme` has them all."""
    tuned_by: str
    """Where the parameters come from: "measured" in the cell, "transfer", "arithmetic", or the "name"."""
    short: bool
    """Rounds were too slow to run all N tokens."""
    pacing_base_s: float
    pacing_per_token_s: float
    link_kind: str
    began_at: str
    """Wall clock, ISO 8601 with its offset."""
    failure: str = ""
    """Why there is no text; then every figure is 0."""
    requested_tokens: int = 0
    output_tokens: int = 0
    first_token_s: float = 0.0
    """Time to first token."""
    last_token_s: float = 0.0
    """Arrival of the last token."""
    largest_gap_s: float = 0.0
    """Between two arrivals; 0 with one."""
    rounds: int = 0
    """Verified blocks; of a peer, target passes that gave tokens."""
    drafted_tokens: int = 0
    tested_tokens: int = 0
    accepted_tokens: int = 0
    resampled_tokens: int = 0
    """Assisted generation's: rounds that did not accept all drafts."""
    uplink_payload_bits: int = 0
    """Coded blocks only; 0 for a peer."""
    wire_up_bytes: int = 0
    """On the link from just before the request until it was quiet again, Ethernet headers included."""
    wire_down_bytes: int = 0
    wire_up_packets: int = 0
    wire_down_packets: int = 0
    dropped_packets: int = 0
    """Found a queue full, both ways."""
    target_passes: int = 0
    """The prompt's included."""
    target_tokens: int = 0
    """Tokens fed to the target, the prompt's included."""
    target_s: float = 0.0
    """Seconds of all target passes, pacing included."""
    target_measured_s: float = 0.0
    """The same without what pacing added."""
    draft_s: float = 0.0
    """Edge: seconds of drafting. Assisted generation: seconds of the draft model's passes."""
    network_s: float = 0.0
    """Round trips less the cloud's queue and verification. A peer: last arrival less the server's seconds."""
    verify_s: float = 0.0
    """The cloud's seconds of verification, as its verdicts say. A peer: the server's seconds of the text."""
    kept_positions: int = 0
    """T of Theorem 2: positions whose threshold update was kept."""
    mean_dropped_mass: float | None = None
    """Over kept positions; None without any, and of a peer."""
    cap_binding_rate: float = 0.0
    """Share of kept positions at which K_max cut the support."""
    dropped_mass_guarantee: float | None = None
    """Theorem 2's bound for T; None where the scheme has none."""
    text_sha256: str = ""
    """Digest of the token ids as little-endian 32-bit integers."""
    predicted_token_s: float | None = None
    """Seconds of an output token that tuning by transfer expected; None where it expected nothing."""
    scheme: dict[str, Any] = field(default_factory=dict)
    """Every scheme parameter, defaults included; empty of a peer."""
    schema: Literal[1] = SCHEMA_VERSION
    kind: Literal["generation"] = "generation"

    @property
    def cell(self) -> Cell:
        """Where it ran."""
        return Cell(self.rate_up_bps, self.rtt_s, self.temperature)

    @property
    def key(self) -> RunKey:
        """What it answers."""
        return self.cell, self.method, self.prompt, self.seed, self.trial

    @property
    def is_paced(self) -> bool:
        """Whether target passes were drawn out."""
        return self.pacing_base_s > 0 or self.pacing_per_token_s > 0

    @property
    def seconds_per_token(self) -> float:
        """(last - first arrival) / (N - 1); NaN below two tokens."""
        return _ratio(self.last_token_s - self.first_token_s, self.output_tokens - 1)

    @property
    def tokens_per_s(self) -> float:
        """N / last arrival: the first token's wait included."""
        return _ratio(self.output_tokens, self.last_token_s)

    def per_output_token(self, name: str) -> float:
        """A field / output tokens."""
        return _ratio(float(getattr(self, name)), self.output_tokens)

    def to_json(self) -> str:
        """One line, without its newline."""
        return json.dumps(asdict(self), allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GenerationRecord:
        """
        Inverse of `to_json`, parsed; fields of a later version are left out.

        Raises:
            RecordError: another schema, or a field that is missing or of another type.
        """
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            expected = f"a line of a text in schema {SCHEMA_VERSION}"
            raise RecordError(f"a line cannot be read ({error}); expected {expected}.") from None


def _ratio(value: float, count: float) -> float:
    return value / count if count > 0 else math.nan
