"""
What one generation cost: times by phase, bits and bytes on the link, and a line per round in the round log.

Counts of tokens are the session's; everything here is measured by the shell around it.
"""

from __future__ import annotations

import logging

from thinwire.common.observe.metrics import EdgeMetrics
from thinwire.common.observe.tracing import NO_TRACE, Trace
from thinwire.common.schemes.base import Scheme
from thinwire.common.session.generation import GenerationStatistics
from thinwire.common.session.messages import Verdict
from thinwire.edge.events import DraftedBlock, EdgeEvent, OpenedReceived, VerdictReceived
from thinwire.edge.session import EdgeSession
from thinwire.edge.telemetry import RoundLog, RoundRecord

_log = logging.getLogger(__name__)


class GenerationMeter:
    """
    Accumulates one generation's measurements; all times are the event loop's monotonic seconds.

    Args:
        scheme: of the generation.
        started_s: when the client's request came in.
        round_log: where each round is written, None for nowhere.
        metrics: of the daemon; of nobody when None.
        trace: of the request.
    """

    def __init__(
        self,
        scheme: Scheme,
        *,
        started_s: float,
        round_log: RoundLog | None = None,
        metrics: EdgeMetrics | None = None,
        trace: Trace = NO_TRACE,
    ) -> None:
        self._scheme = scheme
        self._trace = trace
        self._metrics = metrics or EdgeMetrics(generations=lambda: 1)
        self._started_s = started_s
        self._round_log = round_log
        self.session_id = ""
        """The cloud's name of the session, hexadecimal; empty before it answered."""
        self._block: DraftedBlock | None = None
        self._round = 0
        self._round_up_bytes = 0
        self._sent_s = 0.0
        self._verified_round = 0
        self._first_token_s: float | None = None
        self._finished_s = started_s
        self._up_bytes = 0
        self._down_bytes = 0
        self._draft_s = 0.0
        self._encode_s = 0.0
        self._network_s = 0.0
        self._queue_s = 0.0
        self._verify_s = 0.0

    def drafted(self, block: DraftedBlock) -> None:
        """A block was drafted."""
        self._block = block
        self._draft_s += block.draft_s
        self._encode_s += block.encode_s
        self._metrics.block_drafted(draft_s=block.draft_s, encode_s=block.encode_s)
        self._trace.phases(
            ("draft", block.draft_s),
            ("encode", block.encode_s),
            scheme=self._scheme.name,
            round=self._round + 1,
            drafted=len(block.tokens),
            payload_bits=8 * len(block.payload),
        )

    def block_sent(self, round_number: int, size_bytes: int, now: float) -> None:
        """A round goes up; a repeat adds its bytes, and its clock runs on."""
        if round_number > self._round:
            assert self._block is not None, "a round sent before any block was drafted"
            self._round = round_number
            self._round_up_bytes = 0
            self._sent_s = now
        self._round_up_bytes += size_bytes

    def bytes_up(self, size_bytes: int) -> None:
        """A message of this serialised size was written, rounds included."""
        self._up_bytes += size_bytes
        self._metrics.bytes_up(self._scheme.name, size_bytes)

    def received(self, event: EdgeEvent, size_bytes: int, at_s: float) -> None:
        """A message of this serialised size came down at `at_s`."""
        self._down_bytes += size_bytes
        self._metrics.bytes_down(self._scheme.name, size_bytes)
        if isinstance(event, OpenedReceived):
            session_id = event.opened.session_id.hex()
            if session_id != self.session_id:  # rounds count from 1 again
                self.session_id, self._round, self._verified_round = session_id, 0, 0
        elif isinstance(event, VerdictReceived):
            self._verdict_received(event.verdict, size_bytes, at_s)

    def emitted(self, now: float) -> None:
        """Committed tokens go to the client."""
        if self._first_token_s is None:
            self._first_token_s = now - self._started_s

    def finished(self, now: float) -> None:
        """The text is over."""
        self._finished_s = now

    def statistics(self, session: EdgeSession) -> GenerationStatistics:
        """Everything in numbers; the cloud's answer to Close comes later and is not counted."""
        tally = session.tally
        kept = tally.kept_positions
        return GenerationStatistics(
            output_tokens=tally.output_tokens,
            rounds=tally.rounds,
            drafted_tokens=tally.drafted_tokens,
            tested_tokens=tally.tested_tokens,
            accepted_tokens=tally.accepted_tokens,
            resampled_tokens=tally.resampled_tokens,
            uplink_payload_bits=tally.payload_bits,
            uplink_message_bytes=self._up_bytes,
            downlink_message_bytes=self._down_bytes,
            mean_dropped_mass=tally.mean_dropped_mass,
            dropped_mass_guarantee=self._scheme.guarantee(kept) if kept else None,
            cap_binding_rate=tally.cap_binding_rate,
            total_s=self._finished_s - self._started_s,
            draft_s=self._draft_s,
            encode_s=self._encode_s,
            close_drafts=tally.close_drafts,
            network_s=self._network_s,
            queue_s=self._queue_s,
            verify_s=self._verify_s,
            kept_positions=kept,
            reconnects=tally.reconnects,
            rebuilds=tally.rebuilds,
            draft_full_from=tally.draft_full_from,
            first_token_s=self._first_token_s or 0.0,
        )

    def _verdict_received(self, verdict: Verdict, size_bytes: int, now: float) -> None:
        """A verdict for any round but the pending one is a late repeat and measures nothing."""
        if verdict.round != self._round or verdict.round == self._verified_round:
            return
        self._verified_round = verdict.round
        queue_s, verify_s = verdict.queue_us * 1e-6, verdict.verify_us * 1e-6
        round_trip_s = now - self._sent_s
        network_s = max(0.0, round_trip_s - queue_s - verify_s)
        self._queue_s += queue_s
        self._verify_s += verify_s
        self._network_s += network_s
        assert self._block is not None, "a verdict for a round that was never drafted"
        self._metrics.round_verified(
            self._scheme.name,
            drafted=len(self._block.tokens),
            accepted=verdict.accepted,
            payload_bytes=len(self._block.payload),
            queue_s=queue_s,
            verify_s=verify_s,
        )
        self._metrics.round_tripped(round_trip_s=round_trip_s, network_s=network_s)
        self._trace.phases(
            ("round trip", round_trip_s),
            ended_s=now,
            scheme=self._scheme.name,
            round=verdict.round,
            drafted=len(self._block.tokens),
            accepted=verdict.accepted,
            payload_bits=8 * len(self._block.payload),
            network_s=network_s,
        )
        if self._round_log is not None:
            self._round_log.write(self._record(verdict, size_bytes, round_trip_s).to_json())

    def _record(self, verdict: Verdict, size_bytes: int, round_trip_s: float) -> RoundRecord:
        assert self._block is not None, "a verdict for a round that was never drafted"
        block, parameters = self._block, self._scheme.parameters
        return RoundRecord(
            session=self.session_id,
            round=verdict.round,
            scheme=parameters.scheme,
            draft_length=len(block.tokens),
            lattice_resolution=parameters.lattice_resolution,
            support_sizes=tuple(d.support_size for d in block.distributions),
            wire_support_sizes=tuple(d.quantized.support_ids.size for d in block.distributions),
            dropped_masses=tuple(d.dropped_mass for d in block.distributions),
            accepted=verdict.accepted,
            uplink_payload_bits=8 * len(block.payload),
            uplink_message_bytes=self._round_up_bytes,
            downlink_message_bytes=size_bytes,
            draft_s=block.draft_s,
            encode_s=block.encode_s,
            round_trip_s=round_trip_s,
            queue_s=verdict.queue_us * 1e-6,
            verify_s=verdict.verify_us * 1e-6,
            draft_margin=block.margin,
        )
