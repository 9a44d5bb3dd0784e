"""
What Prometheus can ask a daemon; names are those of vLLM's where it has them, with the prefix `thinwire_`.

What one of them alone counts stands in `edge.metrics` and `cloud.metrics`.
Each daemon has a registry of its own and never the library's global one, so that two can live in a process.
The labels are `scheme`, `reason` and `position` and no others: no request, session or tenant has a series.
Methods may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from thinwire.common.config import MAX_DRAFT_LENGTH
from thinwire.common.errors import ThinwireError
from thinwire.common.session.statistics import RoundVerified

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


class Metrics:
    """
    What both daemons count: rounds, tokens, bytes, the cloud's times, and what was refused.

    Args:
        times: by fields of the daemon's rounds, what the seconds in them are.
    """

    def __init__(self, **times: str) -> None:
        times |= {
            "queue_s": "What a round waited for the target model, as the cloud measured it.",
            "verify_s": "Decoding, target pass and tests of a round, as the cloud measured it.",
        }
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
        self._times = {
            name: self._histogram(name.removesuffix("_s") + "_seconds", text) for name, text in times.items()
        }
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

    def round_verified(self, measured: RoundVerified) -> None:
        """A round has its verdict."""
        scheme, accepted = measured.scheme, measured.accepted
        self._of(self._rounds, scheme).inc()
        if measured.draft_length:
            self._of(self._drafts, scheme).inc()
            self._of(self._draft_tokens, scheme).inc(measured.draft_length)
            self._of(self._accepted_tokens, scheme).inc(accepted)
        for position in range(min(accepted, MAX_DRAFT_LENGTH)):
            self._of(self._accepted_per_position, position).inc()
        self._of(self._payload_bytes, scheme).inc(measured.uplink_payload_bits // 8)
        for name, histogram in self._times.items():
            histogram.observe(getattr(measured, name))

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

    def _read_counter(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A counter that is read where it is kept."""
        self.registry.register(_Counted(PREFIX + name, text, value))

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(PREFIX + name, text, registry=self.registry, buckets=TIME_BUCKETS_S)


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
