"""
What a caller may begin here: streams, prompts and rounds, under its token and its tenant's quotas.

A stream costs a round as soon as it is there, whatever becomes of it, which pays for the first round on it:
whoever opens anew for every round pays what one stream would cost, and whoever tears streams pays for each.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

from thinwire.cloud.quotas import MIN_PAUSE_S, QuotaLedger
from thinwire.common.door.tenants import Access
from thinwire.common.errors import QuotaExceededError

MAX_PAUSE_S = 5.0
"""Longest pause that a quota asks for; a larger debt takes several."""
MAX_HELD_BACK_S = 1.0
"""
How much of its pause a refused stream or round spends here before it is told: an edge that makes no pause
gets a refusal or two a second and session, not hundreds; half of an edge's least deadline is left.
"""
MAX_HELD_BACK_STREAMS = 64
"""Refused streams of one tenant that are held back at once; one more is told at once."""


class Admission:
    """
    The tokens and quotas of one cloud.

    Args:
        access: whose tokens are in force, and the quotas of each tenant.
        resume_ttl_s: seconds a session without a stream is kept; no pause outlasts a third of it.
        now: monotonic seconds.
    """

    def __init__(self, access: Access, *, resume_ttl_s: float, now: Callable[[], float]) -> None:
        self._quotas = access.quotas
        self._ledger = QuotaLedger(access.quotas, longest_pause_s=min(MAX_PAUSE_S, resume_ttl_s / 3))
        self._now = now
        self._held_back: Counter[str] = Counter()

    def stream(self, tenant: str) -> QuotaExceededError | None:
        """
        Charge a stream before its first message is read.

        Returns:
            the refusal for it, None if it may go on; it can only be told after that message, as gRPC forgets
            the status of a stream that is ended while its peer writes.
        """
        try:
            self._ledger.charge(tenant, rounds=1, tokens=0, now=self._now())
        except QuotaExceededError as refusal:
            return refusal
        return None

    def max_sessions(self, tenant: str) -> int | None:
        """Sessions that it may hold; None for as many as there are."""
        return self._quotas(tenant).max_sessions

    def check_prompt(self, tenant: str, tokens: int) -> None:
        """
        Whether a prompt of this length may be fed; nothing is taken yet.

        Raises:
            QuotaExceededError: the Open must come again later.
        """
        self._ledger.admit(tenant, rounds=0, tokens=tokens, now=self._now())

    def take_prompt(self, tenant: str, tokens: int) -> None:
        """Charge a prompt that `check_prompt` let pass, once its session is there."""
        self._ledger.take(tenant, rounds=0, tokens=tokens, now=self._now())

    def round(self, tenant: str, tokens: int, *, is_paid: bool) -> None:
        """
        Charge one round before its session sees it; one that turns out to be invalid has cost the same.

        Args:
            tenant: whose it is.
            tokens: what it costs: γ + 1 to score, and the price of its decoding.
            is_paid: whether its stream has paid for it; its tokens are charged all the same.

        Raises:
            QuotaExceededError: the round must come again later.
        """
        rounds = 0 if is_paid else 1
        self._ledger.charge(tenant, rounds=rounds, tokens=tokens, now=self._now())

    async def hold_back(self, tenant: str, refusal: QuotaExceededError) -> QuotaExceededError:
        """
        Wait for part of a refused stream's pause, unless many of this tenant's do.

        Returns:
            the refusal with what is left of its pause.
        """
        if self._held_back[tenant] >= MAX_HELD_BACK_STREAMS:
            return refusal
        self._held_back[tenant] += 1
        try:
            held_s = held_back_s(refusal)
            await asyncio.sleep(held_s)
            return after_holding(refusal, held_s)
        finally:
            self._held_back[tenant] -= 1
            if not self._held_back[tenant]:
                del self._held_back[tenant]


def held_back_s(refusal: QuotaExceededError) -> float:
    """
    Seconds of its pause that a refusal is held back.

    Not the same for all: those who are told together come back together, and whoever shares a pass with them
    waits for all.
    """
    return min(refusal.retry_after_s, MAX_HELD_BACK_S) * random.uniform(0.5, 1.0)


def after_holding(refusal: QuotaExceededError, held_s: float) -> QuotaExceededError:
    """The refusal with what is left of its pause after `held_s`."""
    return QuotaExceededError(refusal.message, retry_after_s=max(MIN_PAUSE_S, refusal.retry_after_s - held_s))
