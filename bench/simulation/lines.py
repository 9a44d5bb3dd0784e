"""The two lines of one edge: serialisation, delay, headers, and the ACKs that go alone."""

from __future__ import annotations

import simpy

from bench import round_time
from bench.simulation.outcome import Outcome
from bench.simulation.scenario import Scenario

DELAYED_ACK_S = 0.04
"""When nothing has gone back by then, TCP acknowledges by itself (Linux's shortest delay)."""


class Line:
    """One direction: first in first out at a rate, then a delay."""

    def __init__(self, rate_bps: float, delay_s: float) -> None:
        self._rate_bps, self._delay_s = rate_bps, delay_s
        self._free_s = 0.0

    def send(self, at_s: float, wire_bytes: int) -> float:
        """When it has arrived."""
        self._free_s = max(self._free_s, at_s) + 8 * wire_bytes / self._rate_bps
        return self._free_s + self._delay_s


class EdgeLines:
    """
    Both directions of one edge; what crosses them is added to the outcome's bytes.

    Args:
        environment: its clock is the only one.
        scenario: for the link, the headers and the transport's seconds.
        outcome: counts from its `since_s` on.
    """

    def __init__(self, environment: simpy.Environment, scenario: Scenario, outcome: Outcome) -> None:
        link = scenario.link
        self.up = Line(link.rate_up_bps, link.rtt_s / 2)
        self.down = Line(link.rate_down_bps, link.rtt_s / 2)
        self._environment, self._outcome = environment, outcome
        self._headers = scenario.headers
        self._half_s = scenario.transport_s / 2
        self._up_arrived_s: float | None = None
        self._down_arrived_s: float | None = None

    def forget(self) -> None:
        """Nothing is owed an answer at a text's beginning."""
        self._up_arrived_s = self._down_arrived_s = None

    def send_up(self, message_bytes: int) -> float:
        """Seconds at which a message of the edge has arrived."""
        now = self._environment.now
        own = self._message(message_bytes)
        ack = self._late_ack(self.up, self._down_arrived_s, now)
        self._up_arrived_s = self.up.send(now, own) + self._half_s
        self.count(own + ack, 0)
        return self._up_arrived_s

    def send_down(self, message_bytes: int) -> float:
        """The other way."""
        now = self._environment.now
        own = self._message(message_bytes)
        ack = self._late_ack(self.down, self._up_arrived_s, now)
        self._down_arrived_s = self.down.send(now, own) + self._half_s
        self.count(0, own + ack)
        return self._down_arrived_s

    def stream_down(self, message_bytes: int) -> float:
        """One streamed token; no window update rides on it, as the edge says nothing."""
        own = message_bytes
        if self._headers:
            own += round_time.STREAM_HEADER_BYTES
        self.count(0, own)
        return self.down.send(self._environment.now, own) + self._half_s

    def acknowledge_stream(self) -> None:
        """Each streamed token is acknowledged at once, in a packet of its own."""
        if self._headers:
            self.up.send(self._environment.now, round_time.ACK_BYTES)
            self.count(round_time.ACK_BYTES, 0)

    def count(self, up_bytes: int, down_bytes: int) -> None:
        """Bytes that were sent now."""
        if self._environment.now >= self._outcome.since_s:
            self._outcome.wire_up_bytes += up_bytes
            self._outcome.wire_down_bytes += down_bytes

    def _message(self, message_bytes: int) -> int:
        if not self._headers:
            return message_bytes
        return round_time.message_wire_bytes(message_bytes)

    def _late_ack(self, line: Line, arrived_s: float | None, now: float) -> int:
        """
        Bytes of the ACK that went before this message; 0 if the message itself came in time.

        An end sends nothing between a message's arrival and its own next one, so the line was idle then and
        sending the ACK now, dated back, is exact.
        """
        if not self._headers or arrived_s is None or now - arrived_s <= DELAYED_ACK_S:
            return 0
        line.send(arrived_s + DELAYED_ACK_S, round_time.ACK_BYTES)
        return round_time.ACK_BYTES
