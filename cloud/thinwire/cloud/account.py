"""What a cloud counts, and what one session used of it: for Prometheus, and for the session's log line."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from thinwire.cloud.batch_queue import Done
from thinwire.cloud.conversation import Conversation
from thinwire.common.observe.log import log_request, short_session
from thinwire.common.observe.metrics import Metrics
from thinwire.common.observe.tracing import Trace
from thinwire.common.session.statistics import RoundVerified

if TYPE_CHECKING:
    from thinwire.common.language_model.kv_pool import KvPool

_log = logging.getLogger(__name__)


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


class SessionAccount:
    """One session's; `opened_s` in monotonic seconds, `trace` of the stream that opened it."""

    def __init__(
        self, metrics: CloudMetrics, session: Conversation, *, tenant: str, opened_s: float, trace: Trace
    ) -> None:
        self._metrics = metrics
        self._session = session
        self._scheme = session.scheme.name
        self._tenant = tenant
        self._opened_s = opened_s
        self._trace = trace
        self._totals: dict[str, float] = dict.fromkeys(
            ("drafted_tokens", "accepted_tokens", "bytes_up", "bytes_down", "queue_s", "verify_s"), 0
        )
        """As the session's line names them."""

    def received(self, size_bytes: int) -> None:
        self._totals["bytes_up"] += size_bytes
        self._metrics.count("uplink_bytes", self._scheme, size_bytes)

    def sent(self, size_bytes: int) -> None:
        self._totals["bytes_down"] += size_bytes
        self._metrics.count("downlink_bytes", self._scheme, size_bytes)

    def verified(self, measured: RoundVerified, decoding: Done, scoring: Done) -> None:
        decoded: tuple[tuple[str, float], ...] = ()
        if decoding.outcome is not None:  # a target that writes by itself decodes nothing in line
            decoded = ("queue", decoding.queue_us * 1e-6), ("decode", decoding.work_us * 1e-6)
        self._trace.phases(
            *decoded,
            ("queue", scoring.queue_us * 1e-6),
            ("verify", scoring.work_us * 1e-6),
            session=short_session(self._session.session_id.hex()),
            scheme=measured.scheme,
            round=measured.round,
            drafted=measured.draft_length,
            accepted=measured.accepted,
            payload_bits=measured.uplink_payload_bits,
        )
        self._totals["drafted_tokens"] += measured.draft_length
        self._totals["accepted_tokens"] += measured.accepted
        self._totals["queue_s"] += measured.queue_s
        self._totals["verify_s"] += measured.verify_s
        self._metrics.round_verified(measured)
        self._metrics.count("generation_tokens", self._scheme, measured.accepted + 1)

    def ended(self, reason: str, now: float) -> None:
        """The session is over, "CLOSED" or by the reason of an error: one line."""
        self._metrics.count("sessions_ended", reason)
        session = self._session
        prompt_tokens = len(session.open.prompt_token_ids)
        log_request(
            _log,
            "session ended",
            session=short_session(session.session_id.hex()),
            tenant=self._tenant,
            scheme=self._scheme,
            reason=reason,
            prompt_tokens=prompt_tokens,
            tokens=session.committed_length - prompt_tokens,
            rounds=session.rounds,
            total_s=now - self._opened_s,
            **self._totals,
        )
