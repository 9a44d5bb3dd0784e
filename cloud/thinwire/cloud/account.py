"""What one session used: bytes, tokens and seconds, for the metrics and for its line in the log."""

from __future__ import annotations

import logging

from thinwire.cloud.batcher import Done
from thinwire.cloud.metrics import CloudMetrics
from thinwire.cloud.session import CloudSession
from thinwire.common.observe.log import log_request, short_session
from thinwire.common.observe.tracing import Trace
from thinwire.common.session.statistics import RoundVerified

_log = logging.getLogger(__name__)


class SessionAccount:
    """One session's; `opened_s` in monotonic seconds, `trace` of the stream that opened it."""

    def __init__(
        self, metrics: CloudMetrics, session: CloudSession, *, tenant: str, opened_s: float, trace: Trace
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

    def opened(self) -> None:
        """The session has its slot and its memory."""
        self._metrics.count("sessions_opened", self._scheme)
        self._metrics.count("prompt_tokens", self._scheme, len(self._session.open.prompt_token_ids))

    def received(self, size_bytes: int) -> None:
        self._totals["bytes_up"] += size_bytes
        self._metrics.count("uplink_bytes", self._scheme, size_bytes)

    def sent(self, size_bytes: int) -> None:
        self._totals["bytes_down"] += size_bytes
        self._metrics.count("downlink_bytes", self._scheme, size_bytes)

    def verified(self, measured: RoundVerified, decoding: Done, scoring: Done) -> None:
        self._trace.phases(
            ("queue", decoding.queue_us * 1e-6),
            ("decode", decoding.work_us * 1e-6),
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
