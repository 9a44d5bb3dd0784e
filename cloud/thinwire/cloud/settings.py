"""What a cloud daemon can be told besides its model; each field is an option."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from thinwire.common.config import MAX_ROUND_BYTES, Seconds, SecondsOrNone, Switch, check_fields, whole
from thinwire.common.errors import ConfigError
from thinwire.common.schemes import scheme_names
from thinwire.common.schemes.dense_f16 import MAX_DENSE_ROUND_BYTES, DenseF16


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """Deadlines by phase and bounds of one cloud daemon; all times in seconds."""

    max_sessions: Annotated[int, whole("sessions", 1, 10_000)] = 16
    """Sessions held at once, kept ones included; one more evicts a kept one or is refused."""
    max_unopened_per_peer: Annotated[int, whole("streams", 1, 10_000)] = 16
    """
    Streams of one address, and tenant where tokens are asked for, that have not said Open yet; one more is
    refused.
    """
    max_queued_rounds: Annotated[int, whole("rounds", 1, 10_000)] = 64
    """Rounds that wait for the target model at once, over all sessions; one more is refused."""
    max_batch_sequences: Annotated[int, whole("sessions", 1, 10_000)] = 64
    """Sessions that share one target pass; 1 verifies them one by one."""
    # A piece of a prompt (256) beside 50 rounds of the default draft length; so a prompt adds at most one
    # piece to the pass that a round waits for.
    max_batch_tokens: Annotated[int, whole("tokens", 1, 1_000_000)] = 512
    """Tokens of one target pass."""
    kv_bytes: Annotated[int | None, whole("bytes", 1, 2**63 - 1)] = None
    """
    KV memory of all sessions together, set aside at the start; none is 2048 tokens a session (the context
    where that is less), and at least one whole context.
    """
    open_timeout_s: Seconds = 10.0
    """How long a new stream may take to say Open."""
    resume_ttl_s: Seconds = 30.0
    """How long a session whose stream ended without Close is kept."""
    idle_ttl_s: Seconds = 600.0
    """How long a session with a stream may stay silent."""
    write_timeout_s: Seconds = 30.0
    """How long a peer may take nothing of what waits for it; its stream is torn then, its session kept."""
    drain_grace_s: SecondsOrNone = 5.0
    """How long rounds in flight may go on after SIGTERM."""
    no_copied_hints: Switch = False
    """Free-running targets are hinted by edges alone, and not by what followed the last time in the text."""
    allow_dense_f16: Switch = False
    """Serve dense-f16, a baseline whose rounds have up to 4 MiB; off, so that nobody pays unasked."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def schemes(self) -> tuple[str, ...]:
        return tuple(name for name in scheme_names() if self.allow_dense_f16 or name != DenseF16.name)

    @property
    def max_round_bytes(self) -> int:
        return MAX_DENSE_ROUND_BYTES if self.allow_dense_f16 else MAX_ROUND_BYTES

    def check_scheme(self, name: str) -> None:
        """ConfigError on a scheme that is switched off; an unknown name is the registry's to refuse."""
        if name == DenseF16.name and not self.allow_dense_f16:
            raise ConfigError(
                f"scheme is {name!r}, which this cloud does not serve; expected one of "
                f"{', '.join(self.schemes)} (thinwire-cloud serve --allow-dense-f16 switches it on).",
                setting="scheme",
            )
