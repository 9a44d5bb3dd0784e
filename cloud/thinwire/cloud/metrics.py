"""What Prometheus can ask a cloud, besides what both daemons count (`common.observe.metrics`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from thinwire.common.observe.metrics import Metrics

if TYPE_CHECKING:
    from thinwire.common.language_model.kv_pool import KvPool


class CloudMetrics(Metrics):
    """What a cloud counts, given the sessions held now and the target passes made so far."""

    def __init__(self, *, sessions: Callable[[], int], passes: Callable[[], int]) -> None:
        super().__init__(
            counters={
                "sessions_opened": ("scheme", "Sessions opened."),
                "sessions_resumed": ("scheme", "Streams that took up a session that was there."),
                "sessions_ended": (
                    "reason",
                    "Sessions that are over: CLOSED, or the error that ended them.",
                ),
            }
        )
        self._gauge("sessions", "Sessions held now, those kept for a resume included.", sessions)
        self._read_counter("target_passes", "Forward passes of the target model.", passes)

    def watch_kv(self, pool: KvPool) -> None:
        """Show the KV memory of all sessions too; called once, and not for a model without a pool."""
        self._gauge("kv_bytes_used", "KV memory that sessions hold.", lambda: pool.bytes - pool.free_bytes)
        self._gauge("kv_bytes_capacity", "KV memory set aside at the start.", lambda: pool.bytes)
