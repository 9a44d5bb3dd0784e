"""What an edge daemon can be told besides its model and its cloud; each field is an option."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from thinwire.common.config import MAX_PROMPT_BYTES, Seconds, SecondsOrNone, Switch, check_fields, whole

DEFAULT_EDGE = "127.0.0.1:7072"
"""Where an edge listens, and is looked for."""


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """Deadlines by phase and bounds of one edge daemon; all times in seconds."""

    connect_timeout_s: Seconds = 5.0
    """How long to wait for a connection to the cloud, at the start and at each reconnect."""
    round_timeout_s: Seconds = 120.0
    """
    How long a round may take from sending to verdict, or an Open, or a pause that a quota asks for.
    The first round also waits for the target's pass over the prompt.
    """
    least_round_timeout_s: Seconds = 2.0
    """Least deadline of a round; from there to --round-timeout it follows from the rounds before."""
    # Half the second in which both sides are freed.
    close_timeout_s: Seconds = 0.5
    """How long to wait for the cloud's answer to Close."""
    write_timeout_s: Seconds = 30.0
    """How long a client may take nothing of the text that waits for it; its generation ends then."""
    patience_s: SecondsOrNone = 60.0
    """How long a text goes on reconnecting after a loss of the cloud; 0 ends it at once."""
    backoff_s: SecondsOrNone = 0.1
    """Pause before the first reconnect; doubles with each, jittered down to its half."""
    max_backoff_s: SecondsOrNone = 2.0
    """Longest pause before a reconnect."""
    keepalive_s: SecondsOrNone = 30.0
    """Pause between pings of an idle link while a text is made; 0 for none."""
    max_generations: Annotated[int, whole("texts", 1, 10_000)] = 8
    """Texts at once; one more is refused."""
    max_prompt_bytes: Annotated[int, whole("bytes", 1, MAX_PROMPT_BYTES)] = MAX_PROMPT_BYTES
    """Longest prompt in UTF-8, refused before it is tokenised; no more than the default."""
    no_copied_hints: Switch = False
    """
    Texts whose cloud does not copy are not copied from here either: no hints of what followed the last time.
    """
    drain_grace_s: SecondsOrNone = 10.0
    """How long texts may go on after SIGTERM."""
    status_timeout_s: Seconds = 2.0
    """How long to wait for the cloud's account of itself when a client asks for the status."""

    def __post_init__(self) -> None:
        check_fields(self)
