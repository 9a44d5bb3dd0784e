"""What a client sees of one generation, and what the two daemons say of themselves, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from thinwire.common.config import SchemeParameters
from thinwire.common.session.messages import FinishReason, TokenKind, VocabularyIdentity


@dataclass(frozen=True, slots=True)
class GenerationStarted:
    """First event: what was resolved."""

    seed: int
    prompt_tokens: int
    scheme: SchemeParameters
    draft_length: int


@dataclass(frozen=True, slots=True)
class Token:
    """One committed output token; `text` is what became final with it."""

    token_id: int
    kind: TokenKind
    text: str


@dataclass(frozen=True, slots=True)
class GenerationStatistics:
    """One generation in numbers; field names and units are those of `Statistics` in proto/generator.proto."""

    output_tokens: int = 0
    rounds: int = 0
    drafted_tokens: int = 0
    tested_tokens: int = 0
    accepted_tokens: int = 0
    resampled_tokens: int = 0
    uplink_payload_bits: int = 0
    uplink_message_bytes: int = 0
    downlink_message_bytes: int = 0
    mean_dropped_mass: float = float("nan")
    dropped_mass_guarantee: float | None = None
    cap_binding_rate: float = 0.0
    total_s: float = 0.0
    draft_s: float = 0.0
    network_s: float = 0.0
    queue_s: float = 0.0
    verify_s: float = 0.0
    kept_positions: int = 0
    reconnects: int = 0
    first_token_s: float = 0.0
    rebuilds: int = 0
    encode_s: float = 0.0
    close_drafts: int = 0
    draft_full_from: int = 0

    @property
    def acceptance_rate(self) -> float:
        """Accepted / tested; estimates 1 - TV(p, q̂). NaN before any test."""
        return self.accepted_tokens / self.tested_tokens if self.tested_tokens else float("nan")

    @property
    def block_efficiency(self) -> float:
        """Output tokens a round; NaN before any round."""
        return self.output_tokens / self.rounds if self.rounds else float("nan")

    @property
    def resampling_rate(self) -> float:
        """Resampled / output tokens; NaN before any output."""
        return self.resampled_tokens / self.output_tokens if self.output_tokens else float("nan")


@dataclass(frozen=True, slots=True)
class GenerationFinished:
    """Last event: why the text ended and what it took."""

    reason: FinishReason
    text: str
    """Text that was held back until the end."""
    statistics: GenerationStatistics


GenerationEvent = GenerationStarted | tuple[Token, ...] | GenerationFinished


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The cloud's account of itself; units in proto/verifier.proto."""

    version: str
    model: str
    vocabulary: VocabularyIdentity
    model_rows: int
    context_length: int
    eos_token_ids: tuple[int, ...]
    schemes: tuple[str, ...]
    sessions: int
    max_sessions: int
    resume_ttl_s: int
    dtype: str
    device: str
    listener_security: str
    """What protects its listener, and whether it asks for tokens."""
    target_fingerprint: bytes = b""
    """8 bytes that tell target models of one vocabulary apart; empty where it knows none."""

    @property
    def is_loading(self) -> bool:
        """Whether it has no model yet, and so nothing to say of it."""
        return self.vocabulary.size == 0


@dataclass(frozen=True, slots=True)
class EdgeStatus:
    """The edge's account of itself; units in proto/generator.proto."""

    version: str
    model: str
    vocabulary: VocabularyIdentity
    cloud: str
    cloud_info: ServerInfo | None
    """None when the cloud did not answer just now."""
    cloud_failure: str
    """Why it did not: a status and a sentence; empty when it did."""
    cloud_security: str
    """What protects the link to the cloud."""
    listener_security: str
    """What protects the edge's own listener, and whether it asks for tokens."""
    generations: int
    generations_finished: int
    output_tokens: int
    schemes: tuple[str, ...]
    """That it drafts with."""
    dtype: str
    device: str

    @property
    def is_loading(self) -> bool:
        """Whether it has no model yet."""
        return self.vocabulary.size == 0

    @property
    def is_pair(self) -> bool | None:
        """Whether both models have one vocabulary, as any text needs; None until both are there."""
        if self.cloud_info is None or self.cloud_info.is_loading or self.is_loading:
            return None
        return self.cloud_info.vocabulary == self.vocabulary

    @property
    def common_schemes(self) -> tuple[str, ...]:
        """Names of the schemes that both ends serve; none without a cloud."""
        served = () if self.cloud_info is None else self.cloud_info.schemes
        return tuple(name for name in self.schemes if name in served)
