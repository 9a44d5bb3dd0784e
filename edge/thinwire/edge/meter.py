"""
What one generation cost: each round measured once, and told to whoever counts, logs or traces it.

The session says when a round is decided; times and bytes are measured by the shell around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace

from thinwire.common.law.decision_margin import CLOSE_DRAFT_MARGIN
from thinwire.common.observe.metrics import Metrics
from thinwire.common.observe.tracing import NO_TRACE, Trace
from thinwire.common.schemes.base import Scheme
from thinwire.common.session.messages import Close, DraftBlock, FinishReason, Hints, Open, Written
from thinwire.common.session.statistics import DraftMeasured, GenerationStatistics, RoundMeasured
from thinwire.edge.events import Decided, DraftedBlock, EdgeEvent, Hinted, OpenedReceived, Passed
from thinwire.edge.telemetry import RoundLog

_OF_A_ROUND = {field.name for field in fields(RoundMeasured)} | set(dir(RoundMeasured))
_OF_EVERY_MESSAGE = {"uplink_message_bytes", "downlink_message_bytes"}
SUMS = tuple(
    field.name
    for field in fields(GenerationStatistics)
    if field.name in _OF_A_ROUND and field.name not in _OF_EVERY_MESSAGE
)


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


class GenerationMeter:
    """
    Accumulates one generation's measurements; all times are the event loop's monotonic seconds.

    Args:
        statistics: of its session; completed here.
        started_s: when the client's request came in.
        round_log: where each round is written, None for nowhere.
        metrics: of the daemon; of nobody when None.
    """

    def __init__(
        self,
        scheme: Scheme,
        statistics: GenerationStatistics,
        *,
        started_s: float,
        round_log: RoundLog | None = None,
        metrics: EdgeMetrics | None = None,
        trace: Trace = NO_TRACE,
    ) -> None:
        self._scheme = scheme
        self._statistics = statistics
        self._started_s = started_s
        self._metrics = metrics or EdgeMetrics(generations=lambda: 1)
        self._trace = trace
        self._tally = Tally(statistics)
        self._round_log = round_log
        self.session_id = ""
        """The cloud's name of the session, hexadecimal; empty before it answered."""
        self._sent_s: float | None = None
        self._round_up_bytes = 0
        self._opened_s = started_s
        """Since when the first pass of a session is waited for."""
        self._received_bytes = 0
        self._drafting = DraftMeasured()
        """Times of the hints drafted since the pass before."""
        self._hint_bits = 0
        self._received_s = started_s
        self._opening_s = started_s
        """When the last Open went up."""
        self._gone_up: dict[int, float] = {}
        """Position of a guess → when it went up; of those that are not written yet."""
        self._ages = Mean()
        self._draft_times = Mean()
        self._is_fed = False
        """Whether a block was drafted, and with it the prompt fed."""

    def sent(self, message: Open | DraftBlock | Hints | Close, size_bytes: int, now: float) -> None:
        """A message of this serialised size goes up; a repeat adds to its round, whose clock runs on."""
        self._statistics.uplink_message_bytes += size_bytes
        self._metrics.count("uplink_bytes", self._scheme.name, size_bytes)
        if isinstance(message, Hints):
            self._round_up_bytes += size_bytes
            self._hint_bits += 8 * len(message.payload)
            first = message.held_length + message.ahead
            last = first + message.draft_length - sum(message.branch_lengths)
            self._gone_up |= dict.fromkeys(range(first, last), now)
            self._statistics.hints_sent += message.draft_length
            self._statistics.hint_messages += message.draft_length > 0
        if isinstance(message, Open):
            self._opening_s = now
        if isinstance(message, DraftBlock):
            self._sent_s = now if self._sent_s is None else self._sent_s
            self._round_up_bytes += size_bytes

    def received(self, event: EdgeEvent, size_bytes: int, at_s: float) -> None:
        self._received_bytes, self._received_s = size_bytes, at_s
        self._statistics.downlink_message_bytes += size_bytes
        self._metrics.count("downlink_bytes", self._scheme.name, size_bytes)
        if isinstance(event, OpenedReceived):
            self._statistics.open_s = at_s - self._opening_s
        if isinstance(event, OpenedReceived) and event.opened.session_id.hex() != self.session_id:
            self.session_id = event.opened.session_id.hex()
            self._opened_s = at_s if self._statistics.rounds else self._started_s
            self._sent_s, self._round_up_bytes = None, 0  # a lost session's pending round begins anew

    def decided(self, decided: Decided) -> None:
        assert self._sent_s is not None, "a verdict for a round that was never sent"
        measured = measure(
            decided,
            self._scheme,
            session=self.session_id,
            uplink_message_bytes=self._round_up_bytes,
            downlink_message_bytes=self._received_bytes,
            round_trip_s=self._received_s - self._sent_s,
        )
        self._sent_s, self._round_up_bytes = None, 0
        self._drafted(decided.block)
        self._tell(measured)

    def counted(self, effect: Passed | Hinted) -> None:
        """Free-running: hints were drafted, or the message received last told of a target pass."""
        drafting = self._drafting
        if isinstance(effect, Hinted):
            block = effect.block
            self._drafted(block)
            self._drafting = DraftMeasured(
                draft_s=drafting.draft_s + block.draft_s, encode_s=drafting.encode_s + block.encode_s
            )
            return
        written = effect.written
        since_s = self._sent_s if self._sent_s is not None else self._opened_s
        measured = RoundMeasured(
            draft_s=drafting.draft_s,
            encode_s=drafting.encode_s,
            session=self.session_id,
            round=self._statistics.rounds + 1,
            scheme=self._scheme.name,
            draft_length=written.hint_rows,
            accepted=written.hinted,
            has_rejection=written.resampled,
            uplink_payload_bits=self._hint_bits,
            uplink_message_bytes=self._round_up_bytes,
            downlink_message_bytes=self._received_bytes,
            round_trip_s=self._received_s - since_s,
            queue_s=written.queue_us * 1e-6,
            verify_s=written.verify_us * 1e-6,
            copied_tokens=written.copied,
            wait_s=written.wait_us * 1e-6,
        )
        self._used(written)
        self._drafting, self._hint_bits, self._round_up_bytes = DraftMeasured(), 0, 0
        self._sent_s = self._received_s
        self._tell(measured)

    def _drafted(self, block: DraftedBlock) -> None:
        if self._is_fed and block.tokens:
            self._draft_times.add(block.draft_s, len(block.tokens))
            self._statistics.draft_token_s = self._draft_times.value
        self._is_fed = self._is_fed or bool(block.tokens)

    def _used(self, written: Written) -> None:
        """Hold what was written against the guesses that had gone up."""
        first, own = written.first_position, written.hinted - written.copied
        for position in range(first, first + own):
            if position in self._gone_up:
                self._ages.add(self._received_s - self._gone_up[position], 1)
                self._statistics.hint_age_s = self._ages.value
        behind = first + len(written.token_ids)
        self._gone_up = {position: at_s for position, at_s in self._gone_up.items() if position >= behind}

    def _tell(self, measured: RoundMeasured) -> None:
        self._tally.add(measured)
        self._metrics.round_verified(measured)
        if self._round_log is not None:
            self._round_log.round_measured(measured)
        self._trace.phases(
            ("draft", measured.draft_s),
            ("encode", measured.encode_s),
            ("round trip", measured.round_trip_s),
            ended_s=self._received_s,
            scheme=measured.scheme,
            round=measured.round,
            drafted=measured.draft_length,
            accepted=measured.accepted,
            payload_bits=measured.uplink_payload_bits,
            network_s=measured.network_s,
        )

    def emitted(self, now: float) -> None:
        self._statistics.first_token_s = self._statistics.first_token_s or now - self._started_s

    def finished(self, now: float) -> None:
        self._statistics.total_s = now - self._started_s

    def statistics(self) -> GenerationStatistics:
        """Everything in numbers; the cloud's answer to Close comes later and is not counted."""
        kept = self._statistics.kept_positions
        return replace(
            self._statistics, dropped_mass_guarantee=self._scheme.guarantee(kept) if kept else None
        )


def measure(
    decided: Decided,
    scheme: Scheme,
    *,
    session: str = "",
    uplink_message_bytes: int = 0,
    downlink_message_bytes: int = 0,
    round_trip_s: float = 0.0,
) -> RoundMeasured:
    """A decided round, with what the shell measured of its messages."""
    block, verdict = decided.block, decided.verdict
    length, distributions = len(block.tokens), block.distributions
    kept = scheme.kept_positions(length, verdict.accepted)
    return RoundMeasured(
        **{field.name: getattr(block, field.name) for field in fields(DraftMeasured)},
        session=session,
        round=verdict.round,
        scheme=scheme.name,
        draft_length=length,
        lattice_resolution=scheme.parameters.values().get("lattice_resolution", 0),
        support_sizes=tuple(d.support_size for d in distributions),
        wire_support_sizes=tuple(d.quantized.support_ids.size for d in distributions),
        dropped_masses=tuple(d.dropped_mass for d in distributions),
        accepted=verdict.accepted,
        kept_positions=kept,
        cap_bound_positions=sum(d.cap_binds for d in distributions[:kept]),
        close_drafts=int(block.margin < CLOSE_DRAFT_MARGIN),
        draft_margin=block.margin,
        uplink_payload_bits=8 * len(block.payload),
        uplink_message_bytes=uplink_message_bytes,
        downlink_message_bytes=downlink_message_bytes,
        round_trip_s=round_trip_s,
        queue_s=verdict.queue_us * 1e-6,
        verify_s=verdict.verify_us * 1e-6,
    )


class Mean:
    """Of things that were measured together."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    @property
    def value(self) -> float:
        """NaN before anything was added."""
        return self._sum / self._count if self._count else math.nan

    def add(self, total: float, count: int) -> None:
        """So many things had this sum."""
        self._sum += total
        self._count += count


class Tally:
    """Counts up the statistics of one generation."""

    def __init__(self, statistics: GenerationStatistics) -> None:
        self.statistics = statistics
        self._dropped_mass = 0.0
        self._cap_bound_positions = 0

    def add(self, measured: RoundMeasured) -> None:
        """One more round: positions after the first rejection were drafted, but neither tested nor kept."""
        s = self.statistics
        s.rounds += 1
        for name in SUMS:
            setattr(s, name, getattr(s, name) + getattr(measured, name))
        for dropped_mass in measured.dropped_masses[: measured.kept_positions]:
            self._dropped_mass += dropped_mass
        self._cap_bound_positions += measured.cap_bound_positions
        if s.kept_positions:
            s.mean_dropped_mass = self._dropped_mass / s.kept_positions
            s.cap_binding_rate = self._cap_bound_positions / s.kept_positions
