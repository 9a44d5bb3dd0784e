"""How often a log tells what strangers do: it is bounded however many there are and whatever they send."""

from __future__ import annotations

import time
from collections.abc import Callable

INTERVAL_S = 60.0
MAX_HOSTS = 64
"""With a line in one interval; those beyond have none."""


class LogLimiter:
    """
    One line by address and minute, and no more addresses in a minute than a log can bear.

    Args:
        now: monotonic seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._logged_at_s: dict[str, float] = {}
        """By host, the oldest first."""

    def allows(self, host: str) -> bool:
        """Whether this host (`door.peer_bound.peer_host`) may have a line now; if so, it has had it."""
        now = self._now()
        while self._logged_at_s:
            oldest = next(iter(self._logged_at_s))
            if now - self._logged_at_s[oldest] < INTERVAL_S:
                break
            del self._logged_at_s[oldest]
        if host in self._logged_at_s or len(self._logged_at_s) >= MAX_HOSTS:
            return False
        self._logged_at_s[host] = now
        return True
