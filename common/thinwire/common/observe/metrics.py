"""
What Prometheus can ask a daemon; names are those of vLLM's where it has them, with the prefix `thinwire_`.

What one of them alone counts stands in `edge.meter` and `cloud.account`.
Each daemon has a registry of its own and never the library's global one, so that two can live in a process.
The labels are `scheme`, `reason` and `position` and no others: no request, session or tenant has a series.
Methods may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from thinwire.common.config import MAX_DRAFT_LENGTH
from thinwire.common.errors import errors_by_reason
from thinwire.common.session.statistics import RoundVerified

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""Content type of what `render` returns."""
PREFIX = "thinwire_"
CLOSED_REASONS = ("crowd", "silence", "unread")
"""Too many of one address, or one for too long."""
TIME_BUCKETS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
)
"""Upper bounds in seconds: from the coding of one block to the longest that a round may take."""

_COUNTERS = {
    "rounds": ("scheme", "Rounds verified, those without a draft included."),
    "spec_decode_num_drafts": ("scheme", "Rounds verified that had drafted tokens."),
    "spec_decode_num_draft_tokens": ("scheme", "Tokens drafted in rounds that were verified."),
    "spec_decode_num_accepted_tokens": ("scheme", "Drafted tokens that the target accepted."),
    "spec_decode_num_accepted_tokens_per_pos": (
        "position",
        "Drafted tokens that the target accepted, by their place in the block, from 0.",
    ),
    "generation_tokens": ("scheme", "Tokens of the texts."),
    "prompt_tokens": ("scheme", "Tokens of the prompts."),
    "uplink_payload_bytes": ("scheme", "Coded payloads of verified rounds, repeats not counted."),
    "uplink_bytes": ("scheme", "Serialised messages from edge to cloud, repeats included."),
    "downlink_bytes": ("scheme", "Serialised messages from cloud to edge, repeats included."),
    "refusals": ("reason", "Calls that ended in an error, by the reason in the error."),
    "connections_closed": ("reason", "Connections closed that made no call with a token, by why."),
}
_TIMES = {
    "queue_s": "What a round waited for the target model, as the cloud measured it.",
    "verify_s": "Decoding, target pass and tests of a round, as the cloud measured it.",
}


class Metrics:
    """
    What both daemons count: rounds, tokens, bytes, the cloud's times, and what was refused.

    Args:
        counters: name → label, empty for none, and what it counts; of this daemon alone.
        times: field of a round → what its seconds are; of this daemon alone.
    """

    def __init__(
        self, counters: Mapping[str, tuple[str, str]], times: Mapping[str, str] | None = None
    ) -> None:
        self.registry = _Registry()
        self._counters = {
            name: Counter(PREFIX + name, text, (label,) if label else (), registry=self.registry)
            for name, (label, text) in {**_COUNTERS, **counters}.items()
        }
        self._times = {
            name: self._histogram(name.removesuffix("_s") + "_seconds", text)
            for name, text in {**_TIMES, **(times or {})}.items()
        }
        self._labelled: dict[tuple[str, str | int], Counter] = {}
        self._begin("refusals", sorted(errors_by_reason()))
        self._begin("connections_closed", CLOSED_REASONS)

    def count(self, name: str, label: str | int = "", amount: float = 1) -> None:
        """Count up, by a counter's name without prefix and its label: a scheme, a reason, a place or none."""
        counter = self._labelled.get((name, label))
        if counter is None:  # remembered: the library's look-up is dear, and a round takes ten
            counter = self._counters[name]
            counter = self._labelled[name, label] = counter if label == "" else counter.labels(str(label))
        counter.inc(amount)

    def round_verified(self, measured: RoundVerified) -> None:
        scheme, accepted = measured.scheme, measured.accepted
        self.count("rounds", scheme)
        if measured.draft_length:
            self.count("spec_decode_num_drafts", scheme)
            self.count("spec_decode_num_draft_tokens", scheme, measured.draft_length)
            self.count("spec_decode_num_accepted_tokens", scheme, accepted)
        for position in range(min(accepted, MAX_DRAFT_LENGTH)):
            self.count("spec_decode_num_accepted_tokens_per_pos", position)
        self.count("uplink_payload_bytes", scheme, measured.uplink_payload_bits // 8)
        for name, histogram in self._times.items():
            histogram.observe(getattr(measured, name))

    def refused(self, reason: str) -> None:
        """A call ended in an error; `reason` is one of `errors_by_reason()`."""
        self.count("refusals", reason)

    def connection_closed(self, reason: str) -> None:
        """The doorkeeper closed a connection; `reason` is one of `CLOSED_REASONS`."""
        self.count("connections_closed", reason)

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _begin(self, name: str, labels: Iterable[str]) -> None:
        for label in labels:
            self.count(name, label, 0)  # so that the first one is an increase too

    def _gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        Gauge(PREFIX + name, text, registry=self.registry).set_function(value)

    def _read_counter(self, name: str, text: str, value: Callable[[], float]) -> None:
        self.registry.register(_Counted(PREFIX + name, text, value))

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(PREFIX + name, text, registry=self.registry, buckets=TIME_BUCKETS_S)


@dataclass(frozen=True, slots=True)
class _Counted(Collector):
    """A counter that is read where it is kept."""

    name: str
    text: str
    value: Callable[[], float]

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(self.name, self.text, value=self.value())


class _Registry(CollectorRegistry):
    """A registry without the series of creation times, which double the page and say nothing here."""

    def collect(self) -> Iterator[Metric]:
        for family in super().collect():
            family.samples = [one for one in family.samples if not one.name.endswith("_created")]
            yield family
