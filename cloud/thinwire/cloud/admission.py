"""
What a caller may begin here: streams, prompts and rounds, under its tenant's quotas.

A stream costs a round as soon as it is there, whatever becomes of it, which pays for the first round on it:
whoever opens anew for every round pays what one stream would cost, and whoever tears streams pays for each.

A bucket fills at the tenant's rate up to a quarter of a second's worth: what is saved up comes at once, and
whoever shares a pass with it waits for all of it.
A request passes once the bucket holds its cost, or is full: what costs more than a full bucket passes too and
leaves a debt, so that over time the rate holds.

Whoever is refused is given a turn of its own, after those that were refused before it: told one and the same
moment, all of a tenant's sessions would come back together, and all but one of them in vain.
A turn is a piece of advice and is not kept for anybody.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

from thinwire.common.door.tenants import Quotas
from thinwire.common.errors import QuotaExceededError

SAVED_S = 0.25
"""How much of its rate a tenant can save up."""
MIN_PAUSE_S = 0.01
"""No retry is asked for sooner: a pause that rounds to nothing would be a busy loop."""
MAX_PAUSE_S = 5.0
"""Longest pause that a quota asks for; a larger debt takes several."""
MAX_HELD_BACK_S = 1.0
"""
How much of its pause a refused stream or round spends here before it is told: an edge that makes no pause
gets a refusal or two a second and session, not hundreds; half of an edge's least deadline is left.
"""
MAX_HELD_BACK_STREAMS = 64
"""Refused streams of one tenant that are held back at once; one more is told at once."""
LATE_S = 0.5
"""So much after its turn may come whoever was told one."""
_ROUNDING = 1e-9
"""A bucket this little short is not short: whoever waited as told must find what it waited for."""


class RateBucket:
    """One rate of one tenant, full at first: `per_s` comes in a second; each `now` is monotonic seconds."""

    def __init__(self, per_s: float, now: float) -> None:
        self._per_s = per_s
        self._level = self._capacity
        self._filled_at_s = now
        self._told_at_s = -math.inf
        """When the last turn comes that was told to one who was refused."""
        self._promised_at_s = now
        """The last turn told."""

    @property
    def _capacity(self) -> float:
        return max(1.0, SAVED_S * self._per_s)

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until this amount may be taken; 0 for now."""
        self._fill(now)
        missing = min(amount, self._capacity) - self._level
        return 0.0 if missing <= _ROUNDING else max(MIN_PAUSE_S, missing / self._per_s)

    def turn_s(self, amount: float, now: float, *, longest_s: float) -> float:
        """
        Seconds until the turn of a request for which `wait_s` is not 0; the next one's comes after it.

        No turn is further away than `longest_s`, however many are told.
        """
        behind_s = self._promised_at_s + min(amount, self._capacity) / self._per_s - now
        turn_s = min(longest_s, max(self.wait_s(amount, now), behind_s))
        self._promised_at_s = self._told_at_s = now + turn_s
        return turn_s

    def spare_s(self, amount: float, now: float) -> float:
        """Seconds until this amount is there and no turn that was told is still to come; 0 for now."""
        return max(self.wait_s(amount, now), self._told_at_s + LATE_S - now)

    def take(self, amount: float, now: float) -> None:
        """Take, into debt if need be."""
        self._fill(now)
        self._level -= amount

    def change(self, per_s: float, now: float) -> None:
        """Go on at another rate with what is there."""
        self._fill(now)
        if per_s != self._per_s:
            self._promised_at_s = now
        self._per_s = per_s
        self._level = min(self._level, self._capacity)

    def _fill(self, now: float) -> None:
        self._level = min(self._capacity, self._level + self._per_s * (now - self._filled_at_s))
        self._filled_at_s = now


class Admission:
    """
    The rates of every tenant.

    Args:
        quotas_of: a tenant's quotas as they stand now; a change holds from the next charge on.
        longest_pause_s: no longer pause is asked for, so that a session kept meanwhile does not expire.
        now: monotonic seconds.

    In all methods `rounds` is 1 for a stream or a round, and `tokens` what the target will score and the
    price of decoding; the rate of what is 0 is not looked at.
    """

    def __init__(
        self,
        quotas_of: Callable[[str], Quotas],
        *,
        longest_pause_s: float = MAX_PAUSE_S,
        now: Callable[[], float],
    ) -> None:
        self.quotas_of = quotas_of
        self._longest_pause_s = longest_pause_s
        self._now = now
        self._buckets: dict[tuple[str, str], RateBucket] = {}
        self._held_back: Counter[str] = Counter()

    def check(self, tenant: str, *, rounds: int = 0, tokens: int = 0) -> None:
        """QuotaExceededError if a rate of this tenant is used up; nothing is taken."""
        now = self._now()
        for unit, amount, per_s, bucket in self._limited(tenant, rounds, tokens, now):
            wait_s = bucket.wait_s(amount, now) if amount else 0.0
            if wait_s > 0:
                raise QuotaExceededError(
                    f"tenant {tenant} is above its {per_s:g} {unit}/s; expected a pause of {wait_s:.2f} s.",
                    retry_after_s=bucket.turn_s(amount, now, longest_s=self._longest_pause_s),
                )

    def pause_s(self, tenant: str, *, rounds: int = 0, tokens: int = 0) -> float:
        """
        Seconds for which something waits that need not be refused, such as a pass of a free-running target.

        So long as a turn is to come that another one was told, it finds its rate there.
        """
        now = self._now()
        pauses = (
            bucket.spare_s(amount, now)
            for _, amount, _, bucket in self._limited(tenant, rounds, tokens, now)
            if amount
        )
        return max(pauses, default=0.0)

    def take(self, tenant: str, *, rounds: int = 0, tokens: int = 0) -> None:
        """Take what a request costs that `check` let pass."""
        now = self._now()
        for _, amount, _, bucket in self._limited(tenant, rounds, tokens, now):
            bucket.take(amount, now)

    def charge(self, tenant: str, *, rounds: int = 0, tokens: int = 0) -> None:
        """Both at once; a round that turns out to be invalid has cost the same."""
        self.check(tenant, rounds=rounds, tokens=tokens)
        self.take(tenant, rounds=rounds, tokens=tokens)

    def stream(self, tenant: str) -> QuotaExceededError | None:
        """
        Charge a stream before its first message is read; returns the refusal for it, None if it may go on.

        It can only be told after that message: gRPC forgets the status if the stream ends as its peer writes.
        """
        try:
            self.charge(tenant, rounds=1)
        except QuotaExceededError as refusal:
            return refusal
        return None

    async def hold_back(self, tenant: str, refusal: QuotaExceededError) -> QuotaExceededError:
        """`held_back` for a refused stream, unless many of this tenant's are."""
        if self._held_back[tenant] >= MAX_HELD_BACK_STREAMS:
            return refusal
        self._held_back[tenant] += 1
        try:
            return await held_back(refusal, asyncio.sleep)
        finally:
            self._held_back[tenant] -= 1

    def _limited(
        self, tenant: str, rounds: int, tokens: int, now: float
    ) -> Iterator[tuple[str, int, float, RateBucket]]:
        """(unit, how many, what comes in a second, bucket) of every rate that is limited."""
        quotas = self.quotas_of(tenant)
        for unit, amount, per_s in (
            ("rounds", rounds, quotas.rounds_per_s),
            ("tokens", tokens, quotas.tokens_per_s),
        ):
            if per_s is not None:
                bucket = self._buckets.setdefault((tenant, unit), RateBucket(per_s, now))
                bucket.change(per_s, now)
                yield unit, amount, per_s, bucket


async def held_back(
    refusal: QuotaExceededError, wait: Callable[[float], Awaitable[None]]
) -> QuotaExceededError:
    """
    Wait for part of a refusal's pause; returns the refusal with what is left of it.

    Not the same part for all: those who are told together come back together, and whoever shares a pass with
    them waits for all.
    """
    held_s = min(refusal.retry_after_s, MAX_HELD_BACK_S) * random.uniform(0.5, 1.0)
    await wait(held_s)
    return QuotaExceededError(refusal.message, retry_after_s=max(MIN_PAUSE_S, refusal.retry_after_s - held_s))
