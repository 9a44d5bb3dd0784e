"""What an edge daemon can be told besides its model and its cloud."""

from __future__ import annotations

from dataclasses import dataclass

from thinwire.common.config import MAX_PROMPT_BYTES, check_integer, check_seconds


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """Deadlines by phase and bounds of one edge daemon; all times in seconds."""

    connect_timeout_s: float = 5.0
    """How long to wait for a connection to the cloud, at the start and at each reconnect."""
    round_timeout_s: float = 120.0
    """
    At most for one round from sending to verdict, and for an open; the first round also waits for the
    target's pass over the prompt.
    """
    least_round_timeout_s: float = 2.0
    """At least for one round; between the two the deadline follows from what the rounds before it took."""
    close_timeout_s: float = 0.5
    """How long to wait for the cloud's answer to Close; half the second in which both sides are freed."""
    write_timeout_s: float = 30.0
    """How long a client may take nothing of the text that waits for it; its generation ends then."""
    patience_s: float = 60.0
    """How long a generation goes on reconnecting after a loss; a cloud may be restarted meanwhile."""
    backoff_s: float = 0.1
    """Pause before the first reconnect; doubles with each, jittered down to its half."""
    max_backoff_s: float = 2.0
    """Longest pause before a reconnect."""
    keepalive_s: float = 30.0
    """Ping an idle link while a generation runs; 0 never pings (for byte counting)."""
    max_generations: int = 8
    """Generations at once; one more is refused with RESOURCE_EXHAUSTED."""
    max_prompt_bytes: int = MAX_PROMPT_BYTES
    """Of a prompt in UTF-8, so that it is refused before it is tokenised; never more than the default."""
    drain_grace_s: float = 10.0
    """How long generations may go on after SIGTERM."""
    status_timeout_s: float = 2.0
    """How long GetStatus waits for the cloud's account of itself."""

    def __post_init__(self) -> None:
        for name in (
            "connect_timeout_s",
            "round_timeout_s",
            "least_round_timeout_s",
            "close_timeout_s",
            "status_timeout_s",
            "write_timeout_s",
        ):
            check_seconds(name, getattr(self, name))
        for name in ("patience_s", "backoff_s", "max_backoff_s", "keepalive_s", "drain_grace_s"):
            check_seconds(name, getattr(self, name), or_none=True)
        check_integer("max_generations", self.max_generations, 1, 10_000)
        check_integer("max_prompt_bytes", self.max_prompt_bytes, 1, MAX_PROMPT_BYTES)
