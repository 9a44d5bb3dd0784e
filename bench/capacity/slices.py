"""When one tenant offers how much: the slices of time that the ways of offering take in turn."""

from __future__ import annotations

import enum
from dataclasses import dataclass

EXCESS = 10
"""What a tenant offers above its quota, in quotas."""


class Offer(enum.Enum):
    """How much the tenant with the quota offers, and what it does when it is refused."""

    AT_QUOTA = "at quota"
    """Exactly the quota's rounds a second; what is refused comes again after the pause asked for."""
    PATIENT = "ten times, patient"
    """Ten times as many sessions at the same pace, each with the pauses that a real edge makes."""
    HOSTILE = "ten times, hostile"
    """The same sessions, and no pause that is asked for is made; only the refusal is waited for."""
    TEARING = "ten times, tearing"
    """Ten quotas of attempts a second, come what may: a stream unanswered by then is torn for a new one."""
    ALONE = "alone"
    """Nothing."""
    RANDOM_PAYLOADS = "at quota, random payloads"
    """Exactly the quota, each round a session of its own with the block that takes longest to decode."""

    @property
    def factor(self) -> int:
        """Quotas offered."""
        if self is Offer.ALONE:
            return 0
        return 1 if self in (Offer.AT_QUOTA, Offer.RANDOM_PAYLOADS) else EXCESS

    @property
    def is_paused(self) -> bool:
        """Whether the pauses asked for are made."""
        return self in (Offer.AT_QUOTA, Offer.PATIENT, Offer.RANDOM_PAYLOADS)


QUOTAS = (Offer.AT_QUOTA, Offer.PATIENT, Offer.HOSTILE, Offer.TEARING)
"""What offering ten quotas does, held against one."""
DECODING = (Offer.ALONE, Offer.RANDOM_PAYLOADS)
"""What one quota of the dearest blocks does, held against none."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of monotonic time; the seconds before `counted_s` let the former offer's rounds run out."""

    offer: Offer
    begin_s: float
    counted_s: float
    """What ends from here on counts."""
    end_s: float

    def counts(self, now_s: float) -> bool:
        """Whether what ends now counts."""
        return self.counted_s <= now_s < self.end_s


def schedule(
    begin_s: float, *, cycles: int, seconds: float, settle_s: float, offers: tuple[Offer, ...] = QUOTAS
) -> list[Slice]:
    """
    Every offer once a cycle, in turn, every second cycle backwards, so that what else the machine does meets
    all of them and a drift none more than another.

    Args:
        begin_s: monotonic.
        cycles: of all offers.
        seconds: counted of each slice.
        settle_s: before them.
        offers: the one that the others are held against first.
    """
    slices = []
    for cycle in range(cycles):
        for offer in offers if cycle % 2 == 0 else reversed(offers):
            slices.append(Slice(offer, begin_s, begin_s + settle_s, begin_s + settle_s + seconds))
            begin_s += settle_s + seconds
    return slices
