"""What became of one request, for the daemon's metrics and for the request's log line."""

from __future__ import annotations

import logging
from dataclasses import asdict

from thinwire.common.errors import (
    ResourceExhaustedError,
    ThinwireError,
    TransportError,
    UnauthenticatedError,
    WrongDaemonError,
)
from thinwire.common.observe.log import log_request, short_session
from thinwire.common.observe.tracing import NO_TRACE, Trace
from thinwire.common.session.generation import GenerationFinished, GenerationRequest, Token
from thinwire.common.session.messages import FinishReason
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge.meter import GenerationMeter
from thinwire.edge.metrics import EdgeMetrics

_log = logging.getLogger(__name__)

_WITHOUT_TEXT = (TransportError, ResourceExhaustedError, UnauthenticatedError, WrongDaemonError)
"""Errors whose sentences speak of addresses, counts and tenants; those of others may quote a request."""
_LOG_NAMES = {
    "output_tokens": "tokens",
    "uplink_payload_bits": "payload_bits",
    "uplink_message_bytes": "bytes_up",
    "downlink_message_bytes": "bytes_down",
}
"""Names in the line, where they are not those of `GenerationStatistics`."""


class GenerationAccount:
    """
    One request's, from its arrival to its one line.

    Args:
        metrics: the daemon's.
        trace: the request's.
        with_text: whether the line shows prompt and text.
    """

    def __init__(self, metrics: EdgeMetrics, *, trace: Trace = NO_TRACE, with_text: bool = False) -> None:
        self._metrics = metrics
        self._trace = trace
        self._with_text = with_text
        self._tenant: str | None = None
        self._scheme = ""
        self._prompt = ""
        self._prompt_tokens = 0
        self._texts: list[str] = []
        self._meter: GenerationMeter | None = None
        self._over = False

    def admitted(self, tenant: str) -> None:
        """Whose the request is."""
        self._tenant = tenant

    def begun(self, meter: GenerationMeter, request: GenerationRequest, prompt_tokens: int) -> None:
        """The request was understood, and its generation starts."""
        self._meter = meter
        self._scheme = request.scheme.scheme
        self._prompt = request.prompt
        self._prompt_tokens = prompt_tokens
        self._metrics.count("prompt_tokens", self._scheme, prompt_tokens)

    def emitted(self, tokens: tuple[Token, ...]) -> None:
        """Tokens go to the client."""
        self._metrics.count("generation_tokens", self._scheme, len(tokens))
        if self._with_text:
            self._texts += [token.text for token in tokens]

    def finished(self, finished: GenerationFinished) -> None:
        """The text is whole; what becomes of its client afterwards changes nothing."""
        self._over = True
        self._metrics.generation_finished(finished.reason, finished.statistics)
        self._texts.append(finished.text)
        self._line(finished.reason, finished.statistics)

    def cancelled(self, now: float) -> None:
        """The client went away."""
        self._broken_off(FinishReason.CANCELLED, None, now)

    def failed(self, error: ThinwireError, now: float) -> None:
        """The request ends in an error; only its first end counts."""
        if self._over:
            return
        self._metrics.refused(error.reason)
        self._broken_off(FinishReason.ERROR, error, now)

    def _broken_off(self, reason: FinishReason, error: ThinwireError | None, now: float) -> None:
        if self._over:
            return
        self._over = True
        error_reason = None if error is None else error.reason
        failure = error.message if isinstance(error, _WITHOUT_TEXT) else None
        if self._meter is None:
            self._trace.end(error=error_reason)
            log_request(_log, "generation refused", tenant=self._tenant, error=error_reason, failure=failure)
            return
        self._meter.finished(now)
        statistics = self._meter.statistics()
        self._metrics.generation_finished(reason, statistics)
        self._line(reason, statistics, error=error_reason, failure=failure)

    def _line(self, reason: FinishReason, s: GenerationStatistics, **why: str | None) -> None:
        assert self._meter is not None, "a line for a generation that never began"
        who = {"session": short_session(self._meter.session_id), "scheme": self._scheme}
        self._trace.end(
            error=why.get("error"),
            **who,
            reason=reason.value,
            prompt_tokens=self._prompt_tokens,
            tokens=s.output_tokens,
            rounds=s.rounds,
            drafted=s.drafted_tokens,
            accepted=s.accepted_tokens,
            payload_bits=s.uplink_payload_bits,
        )
        shown = {"prompt": self._prompt, "text": "".join(self._texts)} if self._with_text else {}
        log_request(
            _log,
            "generation ended",
            **who,
            tenant=self._tenant,
            reason=reason.value,
            **why,
            prompt_tokens=self._prompt_tokens,
            **{_LOG_NAMES.get(name, name): value for name, value in asdict(s).items()},
            **shown,
        )
