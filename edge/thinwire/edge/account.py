"""One Generate call: its stream to the client, and what became of it, for the metrics and its log line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from thinwire.common import wire
from thinwire.common.errors import (
    ResourceExhaustedError,
    ThinwireError,
    TransportError,
    UnauthenticatedError,
    WrongDaemonError,
)
from thinwire.common.observe.log import log_request, short_session
from thinwire.common.observe.tracing import Trace
from thinwire.common.session.generation import GenerationEvent, GenerationFinished, GenerationRequest
from thinwire.common.session.messages import FinishReason
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge.meter import EdgeMetrics, GenerationMeter

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


class GenerateCall:
    """
    One call, from its arrival to its one line; the client of its generation (`edge.generation.Client`).

    Args:
        write_timeout_s: how long the client may take nothing.
        with_text: whether the line shows prompt and text.
    """

    def __init__(
        self, context: Any, metrics: EdgeMetrics, *, trace: Trace, write_timeout_s: float, with_text: bool
    ) -> None:
        self.context = context
        self.outbox = wire.Outbox(context, write_timeout_s=write_timeout_s)
        self.trace = trace
        self._now = asyncio.get_running_loop().time
        self.arrived_s = self._now()
        self.output_tokens = 0
        self._metrics = metrics
        self._with_text = with_text
        self._tenant: str | None = None
        self._scheme = ""
        self._prompt_tokens = 0
        self._prompt = ""
        self._texts: list[str] = []
        self._meter: GenerationMeter | None = None
        self._over = False

    def admitted(self, tenant: str, check: Callable[[], None]) -> None:
        """Whose call it is; `check` raises when the client may read no more, as its token was revoked."""
        self._tenant = tenant
        self._check = check

    def begun(self, meter: GenerationMeter, request: GenerationRequest, prompt_tokens: int) -> None:
        """The request was understood, and its generation starts."""
        self._meter = meter
        self._scheme = request.scheme.scheme
        self._prompt = request.prompt
        self._prompt_tokens = prompt_tokens
        self._metrics.count("prompt_tokens", self._scheme, prompt_tokens)

    def put(self, event: GenerationEvent) -> None:
        """Hand over an event, after those before it; the last makes the text whole, whatever comes after."""
        self._check()
        if isinstance(event, tuple):
            self.output_tokens += len(event)
            self._metrics.count("generation_tokens", self._scheme, len(event))
            if self._with_text:
                self._texts += [token.text for token in event]
        elif isinstance(event, GenerationFinished):
            self._over = True
            self._metrics.generation_finished(event.reason, event.statistics)
            self._texts.append(event.text)
            self._line(event.reason, event.statistics)
        self.outbox.put(wire.generation_event_to_proto(event))

    async def room(self) -> None:
        await self.outbox.room()

    def broken_off(self, error: ThinwireError | None = None) -> None:
        """The call ends in an error, or its client went away (None); only its first end counts."""
        if self._over:
            return
        self._over = True
        error_reason = None if error is None else error.reason
        if error is not None:
            self._metrics.refused(error.reason)
        failure = error.message if isinstance(error, _WITHOUT_TEXT) else None
        if self._meter is None:
            self.trace.end(error=error_reason)
            log_request(_log, "generation refused", tenant=self._tenant, error=error_reason, failure=failure)
            return
        self._meter.finished(self._now())
        statistics = self._meter.statistics()
        reason = FinishReason.CANCELLED if error is None else FinishReason.ERROR
        self._metrics.generation_finished(reason, statistics)
        self._line(reason, statistics, error=error_reason, failure=failure)

    def _line(self, reason: FinishReason, s: GenerationStatistics, **why: str | None) -> None:
        assert self._meter is not None, "a line for a generation that never began"
        who = {"session": short_session(self._meter.session_id), "scheme": self._scheme}
        self.trace.end(
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
