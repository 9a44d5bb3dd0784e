"""
What each tenant has used of its rounds and tokens a second; the clock is passed in.

A bucket fills at the tenant's rate up to a quarter of a second's worth: what is saved up comes at once, and
whoever shares a pass with it waits for all of it.
A request passes once the bucket holds its cost, or is full: what costs more than a full bucket passes too and
leaves a debt, so that over time the rate holds.

Whoever is refused is given a turn of its own, after those that were refused before it: told one and the same
moment, all of a tenant's sessions would come back together, and all but one of them in vain.
A turn is a piece of advice and is not kept for anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from thinwire.common.door.tenants import Quotas
from thinwire.common.errors import QuotaExceededError

SAVED_S = 0.25
"""How much of its rate a tenant can save up."""
MIN_PAUSE_S = 0.01
"""No retry is asked for sooner: a pause that rounds to nothing would be a busy loop."""
_ROUNDING = 1e-9
"""A bucket this little short is not short: whoever waited as told must find what it waited for."""


class RateBucket:
    """
    One rate of one tenant.

    Args:
        per_s: what comes in a second.
        now: monotonic seconds; the bucket begins full.
    """

    def __init__(self, per_s: float, now: float) -> None:
        self._per_s = per_s
        self._level = self._capacity
        self._filled_at_s = now
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

        Args:
            longest_s: no turn is further away, however many are told.
        """
        behind_s = self._promised_at_s + min(amount, self._capacity) / self._per_s - now
        turn_s = min(longest_s, max(self.wait_s(amount, now), behind_s))
        self._promised_at_s = now + turn_s
        return turn_s

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


class QuotaLedger:
    """
    The rates of every tenant.

    Args:
        quotas_of: a tenant's quotas as they stand now; a change holds from the next charge on.
        longest_pause_s: no longer pause is asked for, so that a session kept meanwhile does not expire; a
            debt that is larger takes several.
    """

    def __init__(self, quotas_of: Callable[[str], Quotas], *, longest_pause_s: float) -> None:
        self._quotas_of = quotas_of
        self._longest_pause_s = longest_pause_s
        self._buckets: dict[tuple[str, str], RateBucket] = {}

    def admit(self, tenant: str, *, rounds: int, tokens: int, now: float) -> None:
        """
        Whether a request of this tenant may go on; nothing is taken.

        Args:
            rounds: 1 for a stream or a round, 0 where there is none, whose rate is then not looked at.
            tokens: what the target will score; likewise.
            now: monotonic seconds.

        Raises:
            QuotaExceededError: a rate is used up.
        """
        for unit, amount, per_s, bucket in self._limited(tenant, rounds, tokens, now):
            wait_s = bucket.wait_s(amount, now) if amount else 0.0
            if wait_s > 0:
                raise QuotaExceededError(
                    f"tenant {tenant} is above its {per_s:g} {unit}/s; expected a pause of {wait_s:.2f} s.",
                    retry_after_s=bucket.turn_s(amount, now, longest_s=self._longest_pause_s),
                )

    def take(self, tenant: str, *, rounds: int, tokens: int, now: float) -> None:
        """Take what an admitted request costs; the arguments are those of `admit`."""
        for _, amount, _, bucket in self._limited(tenant, rounds, tokens, now):
            bucket.take(amount, now)

    def charge(self, tenant: str, *, rounds: int, tokens: int, now: float) -> None:
        """Take what a request costs if it is admitted; arguments and errors are those of `admit`."""
        self.admit(tenant, rounds=rounds, tokens=tokens, now=now)
        self.take(tenant, rounds=rounds, tokens=tokens, now=now)

    def _limited(
        self, tenant: str, rounds: int, tokens: int, now: float
    ) -> Iterator[tuple[str, int, float, RateBucket]]:
        """(unit, how many, what comes in a second, bucket) of every rate that is limited."""
        quotas = self._quotas_of(tenant)
        for unit, amount, per_s in (
            ("rounds", rounds, quotas.rounds_per_s),
            ("tokens", tokens, quotas.tokens_per_s),
        ):
            if per_s is not None:
                bucket = self._buckets.setdefault((tenant, unit), RateBucket(per_s, now))
                bucket.change(per_s, now)
                yield unit, amount, per_s, bucket
