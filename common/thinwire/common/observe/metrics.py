"""
What Prometheus can ask a daemon; names are those of vLLM's where it has them, with the prefix `thinwire_`.

Each daemon has a registry of its own and never the library's global one, so that two can live in a process.
The labels are `scheme`, `reason` and `position` and no others: no request, session or tenant has a series.
Methods may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from thinwire.common.config import MAX_DRAFT_LENGTH
from thinwire.common.errors import ThinwireError
from thinwire.common.session.generation import GenerationStatistics
from thinwire.common.session.messages import FinishReason

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""Of what `render` returns."""
PREFIX = "thinwire_"
CLOSED_REASONS = ("crowd", "silence", "unread")
"""Too many of one address, or one for too long."""
TIME_BUCKETS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
)
"""Upper bounds in seconds: from the coding of one block to the longest that a round may take."""


class KvMemory(Protocol):
    """The KV memory of all sessions of a cloud."""

    @property
    def bytes(self) -> int:
        """Its size."""

    @property
    def free_bytes(self) -> int:
        """What no session holds."""


class Metrics:
    """What both daemons count: rounds, tokens, bytes, the cloud's times, and what was refused."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._labelled: dict[tuple[int, str | int], Counter] = {}
        """By the counter's identity and its label."""
        by_scheme = ("scheme",)
        self._rounds = self._counter("rounds", "Rounds verified, those without a draft included.", by_scheme)
        self._drafts = self._counter(
            "spec_decode_num_drafts", "Rounds verified that had drafted tokens.", by_scheme
        )
        self._draft_tokens = self._counter(
            "spec_decode_num_draft_tokens", "Tokens drafted in rounds that were verified.", by_scheme
        )
        self._accepted_tokens = self._counter(
            "spec_decode_num_accepted_tokens", "Drafted tokens that the target accepted.", by_scheme
        )
        self._accepted_per_position = self._counter(
            "spec_decode_num_accepted_tokens_per_pos",
            "Drafted tokens that the target accepted, by their place in the block, from 0.",
            ("position",),
        )
        self._generation_tokens = self._counter("generation_tokens", "Tokens of the texts.", by_scheme)
        self._prompt_tokens = self._counter("prompt_tokens", "Tokens of the prompts.", by_scheme)
        self._payload_bytes = self._counter(
            "uplink_payload_bytes", "Coded payloads of verified rounds, repeats not counted.", by_scheme
        )
        self._uplink_bytes = self._counter(
            "uplink_bytes", "Serialised messages from edge to cloud, repeats included.", by_scheme
        )
        self._downlink_bytes = self._counter(
            "downlink_bytes", "Serialised messages from cloud to edge, repeats included.", by_scheme
        )
        self._queue = self._histogram(
            "queue_seconds", "What a round waited for the target model, as the cloud measured it."
        )
        self._verify = self._histogram(
            "verify_seconds", "Decoding, target pass and tests of a round, as the cloud measured it."
        )
        self._refusals = self._counter(
            "refusals", "Calls that ended in an error, by the reason in the error.", ("reason",)
        )
        for reason in sorted(error_reasons()):  # from 0, so that the first one is an increase too
            self._refusals.labels(reason)
        self._closed = self._counter(
            "connections_closed", "Connections closed that made no call with a token, by why.", ("reason",)
        )
        for reason in CLOSED_REASONS:
            self._closed.labels(reason)

    def round_verified(
        self, scheme: str, *, drafted: int, accepted: int, payload_bytes: int, queue_s: float, verify_s: float
    ) -> None:
        """
        A round has its verdict.

        Args:
            scheme: a name of the registry.
            drafted: γ of the block, 0 to 64.
            accepted: 0 to `drafted`.
            payload_bytes: of the coded block.
            queue_s, verify_s: the cloud's own times.
        """
        self._of(self._rounds, scheme).inc()
        if drafted:
            self._of(self._drafts, scheme).inc()
            self._of(self._draft_tokens, scheme).inc(drafted)
            self._of(self._accepted_tokens, scheme).inc(accepted)
        for position in range(min(accepted, MAX_DRAFT_LENGTH)):
            self._of(self._accepted_per_position, position).inc()
        self._of(self._payload_bytes, scheme).inc(payload_bytes)
        self._queue.observe(queue_s)
        self._verify.observe(verify_s)

    def tokens_committed(self, scheme: str, count: int) -> None:
        """Tokens became part of a text."""
        self._of(self._generation_tokens, scheme).inc(count)

    def bytes_up(self, scheme: str, count: int) -> None:
        """A message from edge to cloud."""
        self._of(self._uplink_bytes, scheme).inc(count)

    def bytes_down(self, scheme: str, count: int) -> None:
        """A message from cloud to edge."""
        self._of(self._downlink_bytes, scheme).inc(count)

    def refused(self, reason: str) -> None:
        """A call ended in an error; `reason` is one of `error_reasons()`."""
        self._refusals.labels(reason).inc()

    def connection_closed(self, reason: str) -> None:
        """The doorkeeper closed a connection; `reason` is one of `CLOSED_REASONS`."""
        self._closed.labels(reason).inc()

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(_WithoutCreationTimes(self.registry))

    def _of(self, counter: Counter, label: str | int) -> Counter:
        """The counter of one label, remembered: the library's look-up is dear, and a round takes ten."""
        key = (id(counter), label)
        found = self._labelled.get(key)
        if found is None:
            found = self._labelled[key] = counter.labels(str(label))
        return found

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        Gauge(PREFIX + name, text, registry=self.registry).set_function(value)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(PREFIX + name, text, registry=self.registry, buckets=TIME_BUCKETS_S)


class CloudMetrics(Metrics):
    """
    A cloud's.

    Args:
        sessions: sessions held now.
        passes: target passes made so far.
    """

    def __init__(self, *, sessions: Callable[[], int], passes: Callable[[], int]) -> None:
        super().__init__()
        self._gauge("sessions", "Sessions held now, those kept for a resume included.", sessions)
        self._opened = self._counter("sessions_opened", "Sessions opened.", ("scheme",))
        self._resumed = self._counter(
            "sessions_resumed", "Streams that took up a session that was there.", ("scheme",)
        )
        self._ended = self._counter(
            "sessions_ended", "Sessions that are over: CLOSED, or the error that ended them.", ("reason",)
        )
        self.registry.register(
            _Counted(PREFIX + "target_passes", "Forward passes of the target model.", passes)
        )

    def watch_kv(self, memory: KvMemory) -> None:
        """Show the KV memory too; called once, and not for a model without a pool."""
        self._gauge(
            "kv_bytes_used", "KV memory that sessions hold.", lambda: memory.bytes - memory.free_bytes
        )
        self._gauge("kv_bytes_capacity", "KV memory set aside at the start.", lambda: memory.bytes)

    def session_opened(self, scheme: str, *, prompt_tokens: int) -> None:
        """A new session has its slot and its memory."""
        self._opened.labels(scheme).inc()
        self._prompt_tokens.labels(scheme).inc(prompt_tokens)

    def session_resumed(self, scheme: str) -> None:
        """A stream took up a session that was there."""
        self._resumed.labels(scheme).inc()

    def session_ended(self, reason: str) -> None:
        """A session is over: "CLOSED", or a reason of `error_reasons()`."""
        self._ended.labels(reason).inc()


class EdgeMetrics(Metrics):
    """
    An edge's.

    Args:
        generations: generations running now.
    """

    def __init__(self, *, generations: Callable[[], int]) -> None:
        super().__init__()
        self._gauge("generations", "Generations running now.", generations)
        self._finished = self._counter(
            "generations_finished", "Generations that are over, by how they ended.", ("reason",)
        )
        for reason in FinishReason:
            self._finished.labels(reason.value)
        self._reconnects = self._counter("reconnects", "Streams to the cloud opened beyond the first.")
        self._rebuilds = self._counter(
            "rebuilds", "Sessions opened again from the committed tokens, because the cloud had lost them."
        )
        self._draft = self._histogram("draft_seconds", "Drafting of a block, without its coding.")
        self._encode = self._histogram("encode_seconds", "Coding of a block's payload.")
        self._round_trip = self._histogram(
            "round_trip_seconds", "From a round's first sending to its verdict."
        )
        self._network = self._histogram("network_seconds", "Round trip less the cloud's own time.")
        self._first_token = self._histogram(
            "time_to_first_token_seconds", "From a request to its first output token."
        )
        self._generation = self._histogram("generation_seconds", "From a request to the end of its text.")

    def generation_started(self, scheme: str, *, prompt_tokens: int) -> None:
        """A request was understood."""
        self._prompt_tokens.labels(scheme).inc(prompt_tokens)

    def block_drafted(self, *, draft_s: float, encode_s: float) -> None:
        """A block is ready; the two times do not overlap."""
        self._draft.observe(draft_s)
        self._encode.observe(encode_s)

    def round_tripped(self, *, round_trip_s: float, network_s: float) -> None:
        """A verdict came."""
        self._round_trip.observe(round_trip_s)
        self._network.observe(network_s)

    def generation_finished(self, reason: FinishReason, statistics: GenerationStatistics) -> None:
        """A generation is over; the times are those of texts that came to their end."""
        self._finished.labels(reason.value).inc()
        self._reconnects.inc(statistics.reconnects)
        self._rebuilds.inc(statistics.rebuilds)
        if reason in (FinishReason.CANCELLED, FinishReason.ERROR):
            return
        self._generation.observe(statistics.total_s)
        self._first_token.observe(statistics.first_token_s)


def error_reasons() -> set[str]:
    """Every reason that an error can have."""
    found, kinds = set(), [ThinwireError]
    while kinds:
        kind = kinds.pop()
        found.add(kind.reason)
        kinds += kind.__subclasses__()
    return found


class _Counted(Collector):
    """A counter that is read where it is kept."""

    def __init__(self, name: str, text: str, value: Callable[[], float]) -> None:
        self._name = name
        self._text = text
        self._value = value

    def collect(self) -> Iterator[Metric]:
        """The one family."""
        yield CounterMetricFamily(self._name, self._text, value=self._value())


class _WithoutCreationTimes(Collector):
    """A registry without the series of creation times, which double the page and say nothing here."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """The families."""
        for family in self._registry.collect():
            family.samples = [one for one in family.samples if not one.name.endswith("_created")]
            yield family
