"""What a link and a cloud do to messages: drops, repeats, delays, cuts, restarts and evictions."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator
from dataclasses import dataclass


class Fault(enum.Enum):
    """What the link does to one message."""

    NONE = "none"
    DROP = "drop"
    DUPLICATE = "duplicate"
    DELAY = "delay"
    """Late, but within the round's timeout."""
    DELAY_PAST_TIMEOUT = "delay past the timeout"
    CUT_BEFORE = "cut before"
    """The link breaks first, both ends notice, the message is lost."""
    CUT_AFTER = "cut after"
    """The message goes out, then the link breaks; the cloud notices long after the edge."""
    RESTART = "restart"
    """The cloud is killed and is back at once, without any session; the message is lost."""
    EVICT = "evict"
    """The message goes out; the cloud drops every session and says so."""


@dataclass(frozen=True)
class Weather:
    """An endless, seeded row of faults; the fields are probabilities a message, tried in their order."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    """Half of the delays outlast the round's timeout."""
    tear: float = 0.0
    """The link breaks, half of the time before the message and half behind it."""
    forget: float = 0.0
    """The cloud loses its sessions, half of the time by a restart and half by an eviction."""
    seed: int = 0

    def __iter__(self) -> Iterator[Fault]:
        generator = random.Random(self.seed)
        while True:
            yield self._next(generator)

    def _next(self, generator: random.Random) -> Fault:
        if generator.random() < self.drop:
            return Fault.DROP
        if generator.random() < self.duplicate:
            return Fault.DUPLICATE
        if generator.random() < self.delay:
            return generator.choice([Fault.DELAY, Fault.DELAY_PAST_TIMEOUT])
        if generator.random() < self.tear:
            return generator.choice([Fault.CUT_BEFORE, Fault.CUT_AFTER])
        if generator.random() < self.forget:
            return generator.choice([Fault.RESTART, Fault.EVICT])
        return Fault.NONE


FAIR = Weather()
"""Nothing happens to any message."""
