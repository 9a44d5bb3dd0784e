"""
OpenTelemetry spans of one request, at either end; without the extra `otel`, or when off, nothing is made.

Spans are laid out backwards from the moment at which their measured seconds are known.
Neither prompt, text, token ids nor credentials are ever among the attributes.
The clock is read, and OpenTelemetry imported, only where tracing is on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from thinwire.common.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

MAX_CHILD_SPANS = 512
"""Spans of one request at one end: 128 rounds at the cloud, 170 at the edge; a long text has thousands."""
_FIELDS = ("traceparent", "tracestate")
_PREFIX = "thinwire."
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

Attribute = str | int | float | None
"""None is left out."""
Metadata = tuple[tuple[str, str], ...]
CallMetadata = Iterable[tuple[str, Any]] | None
"""What came with a call."""


@dataclass(eq=False)
class Trace:
    """What one request leaves at one end; without a tracer nothing."""

    tracer: Tracer | None = None
    parent: Any = None
    """OpenTelemetry's context that holds the parent of all phases."""
    epoch_ns: int = 0
    """Makes a reading of the monotonic clock one of the wall clock."""
    span: Span | None = None
    """The request's own, None where only phases are told."""
    context: Metadata = ()
    """W3C context for calls made on the request's behalf, as gRPC metadata."""
    _children: int = 0
    _left_out: int = 0
    _over: bool = False

    def phases(
        self, *phases: tuple[str, float], ended_s: float | None = None, **attributes: Attribute
    ) -> None:
        """
        Phases that followed one another, by name and seconds: a child span each, up to `MAX_CHILD_SPANS`.

        The last one ended at `ended_s`, in seconds of `time.monotonic`; now when None.
        """
        if self.tracer is None or self._over:
            return  # over: a block drafted for a text that had ended, which is in no statistics either
        if self._children + len(phases) > MAX_CHILD_SPANS:
            self._left_out += len(phases)
            return
        self._children += len(phases)
        ended_s = time.monotonic() if ended_s is None else ended_s
        end_ns = self.epoch_ns + round(ended_s * 1e9)
        for name, seconds in reversed(phases):
            start_ns = end_ns - round(seconds * 1e9)
            span = self.tracer.start_span(
                name, context=self.parent, attributes=_prefixed(attributes), start_time=start_ns
            )
            span.end(end_ns)
            end_ns = start_ns

    def end(self, *, error: str | None = None, **attributes: Attribute) -> None:
        """The request is over, and so its own span, once; `error` is the reason of the error it ended in."""
        span = self.span
        if span is None or self._over:
            return
        from opentelemetry.trace import StatusCode

        self._over = True
        span.set_attributes(_prefixed({**attributes, "spans_left_out": self._left_out}))
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(StatusCode.ERROR)
        span.end()


NO_TRACE = Trace()


class Tracing:
    """Where spans go: to this daemon's own provider, never the process's global one; off without."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._provider = provider
        if provider is not None:
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            self._tracer = provider.get_tracer("thinwire")
            self._propagator = TraceContextTextMapPropagator()
            self._epoch_ns = time.time_ns() - time.monotonic_ns()

    def begin(self, name: str, metadata: CallMetadata) -> Trace:
        """A request came, with this gRPC metadata; its span is a child of the caller's if that has one."""
        if self._provider is None:
            return NO_TRACE
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind, set_span_in_context

        span = self._tracer.start_span(name, context=self._caller(metadata), kind=SpanKind.SERVER)
        parent = set_span_in_context(span, Context())
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context=parent)
        context = tuple(carrier.items())
        return Trace(self._tracer, parent, self._epoch_ns, span, context)

    def join(self, metadata: CallMetadata) -> Trace:
        """Take part in the caller's trace; in none when the metadata carries none that is well formed."""
        if self._provider is None:
            return NO_TRACE
        from opentelemetry.trace import get_current_span

        parent = self._caller(metadata)
        if not get_current_span(parent).get_span_context().is_valid:
            return NO_TRACE
        return Trace(self._tracer, parent, self._epoch_ns)

    def close(self) -> None:
        """Export what is left; may wait for the exporter's own deadline."""
        if self._provider is not None:
            self._provider.shutdown()

    def _caller(self, metadata: CallMetadata) -> Any:
        """OpenTelemetry's context of whoever calls."""
        from opentelemetry.context import Context

        given = {k: value for k, value in metadata or () if k in _FIELDS and isinstance(value, str)}
        return self._propagator.extract(given, context=Context())


NO_TRACING = Tracing()


def caller_context(traceparent: str | None) -> Metadata:
    """A client's context as gRPC metadata; a `traceparent` that is not well formed is left out."""
    if traceparent is None or _TRACEPARENT.fullmatch(traceparent) is None:
        return ()
    return (("traceparent", traceparent),)


def start_tracing(service: str, exporter: str | None) -> Tracing:
    """
    Trace to an installed exporter; OpenTelemetry's own variables configure it and the sampling.

    Args:
        service: its name, unless OTEL_SERVICE_NAME says otherwise.
        exporter: value of OTEL_TRACES_EXPORTER; otlp when None. ConfigError if it is not installed.
    """
    name = exporter or "otlp"  # as OpenTelemetry has it
    if name == "none":
        return NO_TRACING
    found = entry_points(
        group="opentelemetry_traces_exporter", name="otlp_proto_grpc" if name == "otlp" else name
    )
    try:
        make = next(iter(found)).load()
    except (ImportError, StopIteration):
        raise ConfigError(
            f"--trace with OTEL_TRACES_EXPORTER {name}, which is not installed; "
            "expected `pip install 'thinwire[otel]'`, or an exporter that is there."
        ) from None
    return tracing_to(make(), service=service)


def tracing_to(exporter: SpanExporter, *, service: str) -> Tracing:
    """Trace to an exporter, from a bounded queue in a thread of its own; what is too much is dropped."""
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = Resource.create().merge(Resource({SERVICE_NAME: service}))
    provider = TracerProvider(resource=named.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)


def _prefixed(attributes: dict[str, Attribute]) -> dict[str, str | int | float]:
    return {_PREFIX + name: value for name, value in attributes.items() if value is not None}
