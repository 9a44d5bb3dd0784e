"""
What a client asks for and sees of one generation, and what the two daemons say of themselves, as plain data.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from thinwire.common.config import (
    MAX_DRAFT_LENGTH,
    MAX_PREDICTION_BYTES,
    MAX_PROMPT_BYTES,
    MAX_ROUND_BYTES,
    MAX_SEED,
    Option,
    SamplingParameters,
    Switch,
    check_fields,
    check_integer,
    real,
    whole,
)
from thinwire.common.errors import ConfigError
from thinwire.common.schemes import SchemeParameters, is_auto, runs_free, scheme_parameters
from thinwire.common.session.messages import FinishReason, TokenKind, VocabularyIdentity
from thinwire.common.session.prompt import check_text
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.common.session.stop_strings import check_stop_strings

OBJECTIVES = ("latency", "cloud")


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """All that defines one generation; equal requests give equal texts. ConfigError out of range."""

    prompt: str
    """Text to continue; at most `MAX_PROMPT_BYTES` in UTF-8."""
    seed: Annotated[int, whole("number", 0, MAX_SEED)] = field(default_factory=partial(secrets.randbits, 64))
    """0 to 2**64 - 1, makes the text reproducible; fresh bits unless given."""
    scheme: SchemeParameters = field(default_factory=scheme_parameters)
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    max_tokens: Annotated[int, whole("tokens", 1, 2**31 - 1)] = 128
    """Output tokens at most; at least 1."""
    draft_length: Annotated[int, whole("tokens", 0, MAX_DRAFT_LENGTH)] = 6
    """The most draft tokens a round (γ), 0 to 64."""
    uplink_budget_bits: Annotated[int, whole("bits", 0, 8 * MAX_ROUND_BYTES)] = 0
    """Payload bits a round at most (at least one token is drafted all the same); 0 is no budget."""
    min_block_acceptance: Annotated[float, real("chance", "a number in [0, 1)", lambda p: 0 <= p < 1)] = 0.2
    """
    The block ends after the token with which its estimated chance of being accepted whole falls below this.
    In [0, 1); 0 is never, and the length does not follow what was accepted either.
    """
    stop: Annotated[tuple[str, ...], Option("text")] = ()
    """
    The text ends before this string, or at the special token of this name; repeatable.
    At most 16, each 1 to 256 characters.
    """
    ignore_eos: Switch = False
    """Whether the text goes on after an end-of-text token."""
    stop_token_ids: Annotated[tuple[int, ...], Option("id", name="--stop-token-id")] = ()
    """The text ends at this token, which has no text of its own; repeatable. At most 64, each below V."""
    prediction: str = ""
    """
    A text that is expected behind the prompt, in whole or in parts; where it is right it saves time, and it
    changes no token. At most `MAX_PREDICTION_BYTES` in UTF-8, and only with a scheme that runs free.
    """

    objective: Annotated[str, Option("name", choices=OBJECTIVES)] = "latency"
    """
    What a cloud that writes by itself saves: time (latency), or passes of its target, for which it waits for
    drafts (cloud). Only with scheme coupled, or with auto, which then takes the scheme of fewest passes.
    """

    def __post_init__(self) -> None:
        check_text("the prompt", self.prompt, MAX_PROMPT_BYTES)
        check_text("prediction", self.prediction, MAX_PREDICTION_BYTES)
        check_fields(self)
        if self.objective != "latency" and not (is_auto(self.scheme) or runs_free(self.scheme)):
            raise ConfigError(
                f"objective is {self.objective!r} with scheme {self.scheme}; expected latency, as in rounds "
                "the target makes no pass before a draft is there, or scheme coupled or auto.",
                setting="objective",
            )
        check_stop_strings(self.stop)
        if len(self.stop_token_ids) > 64:
            raise ConfigError(f"stop_token_ids holds {len(self.stop_token_ids)} ids; expected at most 64.")
        for token_id in self.stop_token_ids:
            check_integer("a stop token id", token_id, 0, 2**31 - 1)


@dataclass(frozen=True, slots=True)
class GenerationStarted:
    """First event: what was resolved."""

    seed: int
    prompt_tokens: int
    scheme: SchemeParameters
    draft_length: int
    objective: str = "latency"
    """What was asked for."""
    choice: str = ""
    """Why the edge took this scheme, where it was asked to choose; otherwise empty."""


@dataclass(frozen=True, slots=True)
class Token:
    """One committed output token; `text` is what became final with it."""

    token_id: int
    kind: TokenKind
    text: str


@dataclass(frozen=True, slots=True)
class GenerationFinished:
    """Last event: why the text ended, and its statistics."""

    reason: FinishReason
    text: str
    """Text that was held back until the end."""
    statistics: GenerationStatistics


GenerationEvent = GenerationStarted | tuple[Token, ...] | GenerationFinished


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonInfo:
    """What either daemon says of itself."""

    version: str
    model: str
    vocabulary: VocabularyIdentity
    schemes: tuple[str, ...]
    """Of an edge, those that it drafts with."""
    dtype: str
    device: str
    listener_security: str
    """What protects its listener, and whether it asks for tokens."""

    @property
    def is_loading(self) -> bool:
        """Whether it has no model yet, and so nothing to say of it."""
        return self.vocabulary.size == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo(DaemonInfo):
    """The cloud's account of itself; units in proto/verifier.proto."""

    model_rows: int
    context_length: int
    eos_token_ids: tuple[int, ...]
    sessions: int
    max_sessions: int
    resume_ttl_s: int
    target_fingerprint: bytes = b""
    """8 bytes that tell target models of one vocabulary apart; empty where it knows none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeStatus(DaemonInfo):
    """The edge's account of itself; units in proto/generator.proto."""

    cloud: str
    cloud_info: ServerInfo | None
    """None when the cloud did not answer just now."""
    cloud_failure: str
    """Why it did not: a status and a sentence; empty when it did."""
    cloud_security: str
    """What protects the link to the cloud."""
    generations: int
    generations_finished: int
    output_tokens: int

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
