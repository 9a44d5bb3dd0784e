"""What Prometheus can ask an edge, besides what both daemons count (`common.observe.metrics`)."""

from __future__ import annotations

from collections.abc import Callable

from thinwire.common.observe.metrics import Metrics
from thinwire.common.session.messages import FinishReason
from thinwire.common.session.statistics import GenerationStatistics


class EdgeMetrics(Metrics):
    """What an edge counts, given the generations running now; its rounds are `RoundMeasured`."""

    def __init__(self, *, generations: Callable[[], int]) -> None:
        super().__init__(
            counters={
                "generations_finished": ("reason", "Generations that are over, by how they ended."),
                "reconnects": ("", "Streams to the cloud opened beyond the first."),
                "rebuilds": (
                    "",
                    "Sessions opened again from the committed tokens, because the cloud had lost them.",
                ),
            },
            times={
                "draft_s": "Drafting of a block, without its coding.",
                "encode_s": "Coding of a block's payload.",
                "round_trip_s": "From a round's first sending to its verdict.",
                "network_s": "Round trip less the cloud's own time.",
            },
        )
        self._begin("generations_finished", [reason.value for reason in FinishReason])
        self._gauge("generations", "Generations running now.", generations)
        self._first_token = self._histogram(
            "time_to_first_token_seconds", "From a request to its first output token."
        )
        self._generation = self._histogram("generation_seconds", "From a request to the end of its text.")

    def generation_finished(self, reason: FinishReason, statistics: GenerationStatistics) -> None:
        """A generation is over; the times are those of texts that came to their end."""
        self.count("generations_finished", reason.value)
        self.count("reconnects", amount=statistics.reconnects)
        self.count("rebuilds", amount=statistics.rebuilds)
        if reason in (FinishReason.CANCELLED, FinishReason.ERROR):
            return
        self._generation.observe(statistics.total_s)
        self._first_token.observe(statistics.first_token_s)
