"""Spans of one request across both daemons, over real gRPC, in OpenTelemetry's own in-memory exporter."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from fakes import TableModel, TableVocabulary, random_law
from loopback import CuttableLink, Generated, generate, loopback, make_request, unchecked
from thinwire.common.errors import ConfigError, ThinwireError
from thinwire.common.observe import tracing
from thinwire.common.observe.tracing import NO_TRACE, NO_TRACING, caller_context, start_tracing, tracing_to
from thinwire.common.session.generation import GenerationFinished

SIZE = 12
VOCABULARY = TableVocabulary(SIZE)
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
PROMPT = "abcabcabc"
EDGE_PHASES = {"draft", "encode", "round trip"}
CLOUD_PHASES = {"queue", "decode", "verify"}
KNOWN = {
    *("session", "scheme", "round", "drafted", "accepted", "payload_bits", "network_s", "reason"),
    *("prompt_tokens", "tokens", "rounds", "spans_left_out"),
}
"""Every attribute there is, without its prefix."""


@dataclass(frozen=True, slots=True)
class Traced:
    """A text and what either end exported."""

    text: Generated | ThinwireError
    edge: Sequence[ReadableSpan]
    cloud: Sequence[ReadableSpan]

    @property
    def request(self) -> ReadableSpan:
        """The edge's span of the request."""
        (span,) = (span for span in self.edge if span.name == "Generate")
        return span

    def seconds(self, *names: str) -> float:
        """What the spans of these names last, together."""
        spans = [span for span in (*self.edge, *self.cloud) if span.name in names]
        return sum(lasted_s(span) for span in spans)


def lasted_s(span: ReadableSpan) -> float:
    """Seconds from start to end."""
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) * 1e-9


def trace_id(span: ReadableSpan) -> str:
    """As W3C writes it."""
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


async def traced(
    *,
    traceparent: str | None = None,
    edge_on: bool = True,
    cloud_on: bool = True,
    past_checks: dict[str, object] | None = None,
    **request: object,
) -> Traced:
    """One text by table models; both daemons are stopped, and all spans exported, before it is given."""
    edge, cloud = InMemorySpanExporter(), InMemorySpanExporter()
    edge_tracing = tracing_to(edge, service="edge") if edge_on else NO_TRACING
    cloud_tracing = tracing_to(cloud, service="cloud") if cloud_on else NO_TRACING
    target, draft = (TableModel(random_law(SIZE, seed), context_length=2048) for seed in (1, 2))
    text: Generated | ThinwireError
    async with loopback(
        target,
        draft,
        VOCABULARY,
        edge_tracing=edge_tracing,
        cloud_tracing=cloud_tracing,
        traceparent=traceparent,
    ) as both:
        try:
            asked = make_request(PROMPT, **{"max_tokens": 30, **request})
            text = await generate(both.client, unchecked(asked, **(past_checks or {})))
        except ThinwireError as error:
            text = error
    await asyncio.to_thread(edge_tracing.close)
    await asyncio.to_thread(cloud_tracing.close)
    return Traced(text, edge.get_finished_spans(), cloud.get_finished_spans())


async def test_one_trace_spans_client_edge_and_cloud() -> None:
    """The client's id everywhere; the request's span is the client's child and the parent of all phases."""
    done = await traced(traceparent=TRACEPARENT)

    assert {trace_id(span) for span in (*done.edge, *done.cloud)} == {TRACE_ID}
    request = done.request
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == TRACEPARENT.split("-")[2]
    assert request.context is not None
    phases = [span for span in (*done.edge, *done.cloud) if span is not request]
    assert {span.parent.span_id for span in phases if span.parent} == {request.context.span_id}
    assert all(span.parent is not None for span in phases)
    assert {span.name for span in done.edge} == {"Generate", *EDGE_PHASES}
    assert {span.name for span in done.cloud} == CLOUD_PHASES
    assert {span.resource.attributes["service.name"] for span in done.cloud} == {"cloud"}


async def test_the_phases_add_up_to_the_statistics() -> None:
    """Spans are made from what is measured: their sums are the statistics', to the clock's microsecond."""
    done = await traced()
    assert isinstance(done.text, Generated)
    s = done.text.finished.statistics

    assert s.rounds > 3
    for name in ("round trip", "decode", "verify"):
        assert sum(span.name == name for span in (*done.edge, *done.cloud)) == s.rounds
    assert done.seconds("draft") == pytest.approx(s.draft_s, abs=1e-6)
    assert done.seconds("encode") == pytest.approx(s.encode_s, abs=1e-6)
    assert done.seconds("queue") == pytest.approx(s.queue_s, abs=1e-6)
    assert done.seconds("decode", "verify") == pytest.approx(s.verify_s, abs=1e-6)
    whole_s = s.network_s + s.queue_s + s.verify_s
    assert done.seconds("round trip") == pytest.approx(whole_s, abs=1e-6)
    assert done.seconds("draft", "encode", "round trip") <= lasted_s(done.request)
    trips = [span for span in done.edge if span.name == "round trip"]
    for name, total in (
        ("drafted", s.drafted_tokens),
        ("accepted", s.accepted_tokens),
        ("payload_bits", s.uplink_payload_bits),
        ("network_s", pytest.approx(s.network_s)),
    ):
        assert sum(float(str((span.attributes or {})[f"thinwire.{name}"])) for span in trips) == total


async def test_the_phases_of_a_round_lie_within_its_round_trip() -> None:
    """Both daemons share a clock here: queue, decode, queue, verify, inside the round trip."""
    done = await traced()
    trips = {(s.attributes or {})["thinwire.round"]: s for s in done.edge if s.name == "round trip"}

    for number, trip in trips.items():
        phases = [s for s in done.cloud if (s.attributes or {})["thinwire.round"] == number]
        assert [span.name for span in reversed(phases)] == ["queue", "decode", "queue", "verify"]
        phases.reverse()  # laid out backwards
        assert all(one.end_time == next_.start_time for one, next_ in pairwise(phases))
        slack_ns = 50_000_000  # each process-wide offset, and the loop's own delay
        assert (trip.start_time or 0) - slack_ns <= (phases[0].start_time or 0)
        assert (phases[-1].end_time or 0) <= (trip.end_time or 0) + slack_ns


async def test_spans_say_nothing_of_the_text() -> None:
    """Only attributes from a list, each a number or a short word."""
    done = await traced()
    assert isinstance(done.text, Generated)
    for span in (*done.edge, *done.cloud):
        attributes = span.attributes or {}
        assert {name.removeprefix("thinwire.") for name in attributes} <= KNOWN
        assert not span.events
        shown = span.to_json()
        assert PROMPT not in shown
        assert done.text.text not in shown
        session = attributes.get("thinwire.session")
        assert session is None or len(str(session)) == 8


async def test_a_torn_link_leaves_one_trace() -> None:
    """The session's second stream carries the same context, and its rounds are children of the same span."""
    edge, cloud, link = InMemorySpanExporter(), InMemorySpanExporter(), CuttableLink()
    tracings = [tracing_to(exporter, service="either") for exporter in (edge, cloud)]
    target, draft = (TableModel(random_law(SIZE, seed), context_length=2048) for seed in (1, 2))
    async with loopback(
        target, draft, VOCABULARY, edge_tracing=tracings[0], cloud_tracing=tracings[1], proxy=link
    ) as both:
        events = []
        async for event in both.client.events(make_request(PROMPT, max_tokens=60)):
            events.append(event)
            if len(events) == 3:
                link.cut()
    for one in tracings:
        await asyncio.to_thread(one.close)

    finished = events[-1]
    assert isinstance(finished, GenerationFinished)
    assert finished.statistics.reconnects
    spans = (*edge.get_finished_spans(), *cloud.get_finished_spans())
    for name in ("round trip", "verify"):
        assert sum(span.name == name for span in spans) == finished.statistics.rounds
    assert len({trace_id(span) for span in spans}) == 1


async def test_a_long_text_has_a_bounded_number_of_spans() -> None:
    """Above the bound phases are counted and not exported."""
    done = await traced(scheme="cloud-ar", draft_length=0, max_tokens=300)

    assert isinstance(done.text, Generated)
    assert done.text.finished.statistics.rounds == 300
    assert tracing.MAX_CHILD_SPANS - 4 <= len(done.cloud) <= tracing.MAX_CHILD_SPANS
    assert len(done.edge) <= tracing.MAX_CHILD_SPANS + 1
    left_out = (done.request.attributes or {})["thinwire.spans_left_out"]
    assert left_out == 3 * 300 - (len(done.edge) - 1)


@pytest.mark.parametrize(
    "traceparent",
    ["", "nonsense", "00-" + 32 * "0" + "-b7ad6b7169203331-01", TRACEPARENT + "\n", "é", TRACEPARENT.upper()],
)
async def test_a_bad_traceparent_is_ignored(traceparent: str) -> None:
    """The text comes, and its request is the root of a trace of its own."""
    done = await traced(traceparent=traceparent)

    assert isinstance(done.text, Generated)
    assert done.request.parent is None
    assert {trace_id(span) for span in (*done.edge, *done.cloud)} == {trace_id(done.request)}
    assert trace_id(done.request) != TRACE_ID


async def test_a_caller_that_is_not_sampled_leaves_no_spans() -> None:
    """W3C's flag is the parent's decision, carried to the cloud."""
    done = await traced(traceparent=TRACEPARENT[:-2] + "00")

    assert isinstance(done.text, Generated)
    assert not done.edge
    assert not done.cloud


async def test_a_request_that_is_refused_has_a_span_with_the_reason() -> None:
    """The error's reason and no sentence, which may quote the request."""
    done = await traced(past_checks={"draft_length": 65})

    assert isinstance(done.text, ThinwireError)
    assert done.request.status.status_code is StatusCode.ERROR
    assert done.request.status.description is None
    assert (done.request.attributes or {})["error.type"] == done.text.reason
    assert not done.cloud


async def test_an_edge_that_is_off_carries_nothing_to_a_cloud_that_is_on() -> None:
    """No byte more on the link; the cloud makes no trace of its own, and the text is the same."""
    off = await traced(traceparent=TRACEPARENT, edge_on=False)
    both = await traced(traceparent=TRACEPARENT)

    assert not off.edge
    assert not off.cloud
    assert isinstance(off.text, Generated)
    assert isinstance(both.text, Generated)
    assert off.text.token_ids == both.text.token_ids


def test_nothing_is_made_when_off() -> None:
    """The same object for every request, and no context."""
    assert NO_TRACING.begin("Generate", [("traceparent", TRACEPARENT)]) is NO_TRACE
    assert NO_TRACING.join([("traceparent", TRACEPARENT)]) is NO_TRACE
    assert NO_TRACE.context == ()
    assert start_tracing("edge", "none") is NO_TRACING
    assert caller_context(TRACEPARENT) == (("traceparent", TRACEPARENT),)


def test_an_exporter_that_is_not_installed_is_an_error_that_says_so() -> None:
    """The name received, and how to get one."""
    with pytest.raises(ConfigError, match=r"carrier-pigeon.*thinwire\[otel\]"):
        start_tracing("edge", "carrier-pigeon")


@pytest.mark.parametrize("program", ["thinwire.cloud.cli", "thinwire.edge.cli"])
def test_the_daemons_do_without_the_packages(program: str) -> None:
    """Import and command line work without OpenTelemetry; --trace alone asks for it, with exit code 2."""
    command = "serve" if program == "thinwire.cloud.cli" else "edge"
    script = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        f"from {program} import main\n"
        "import thinwire.common.observe.tracing\n"
        f"sys.exit(main(['{command}', '--trace']))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

    assert ended.returncode == 2
    assert "expected `pip install 'thinwire[otel]'`" in ended.stderr


async def test_a_text_comes_where_the_packages_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With tracing off nothing imports OpenTelemetry, the client's context included."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.setitem(sys.modules, name, None)  # importing it is an ImportError

    done = await traced(traceparent=TRACEPARENT, edge_on=False, cloud_on=False)

    assert isinstance(done.text, Generated)
