"""
One direction of a line, without any I/O: packets in, packets out, time is an argument.

A packet joins a drop-tail queue, occupies the line for its bytes at the line's rate, and arrives the delay
after its last bit was sent.
The queue is kept as one number, the moment at which the line falls free: bytes that wait at `now` are
(line free at - now) × rate.
A line does not overtake itself, so jitter may bunch packets but never reorders them.
A lost packet has used the line like any other.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from link.description import ETHERNET_HEADER_BYTES, Direction


@dataclass(slots=True)
class ShaperCounters:
    """What one direction has done since it was made."""

    carried_packets: int = 0
    """Packets that used the line, lost ones included."""
    carried_bytes: int = 0
    """Their bytes with Ethernet headers."""
    dropped_packets: int = 0
    """Found the queue full."""
    lost_packets: int = 0
    """Used the line and did not arrive."""
    released_packets: int = 0
    late_total_s: float = 0.0
    """Sum over released packets of the time between due and released."""
    late_max_s: float = 0.0


class Shaper:
    """
    One direction of a line.

    Args:
        direction: rate, delay, jitter, loss, queue.
        seed: of the line's own draws (jitter and loss).
        overhead_bytes: charged on top of every packet.
    """

    def __init__(
        self, direction: Direction, *, seed: int, overhead_bytes: int = ETHERNET_HEADER_BYTES
    ) -> None:
        self.counters = ShaperCounters()
        self._direction = direction
        self._overhead_bytes = overhead_bytes
        self._seconds_per_byte = 8 / direction.rate_bps
        self._random = random.Random(seed)
        self._line_free_at_s = float("-inf")
        self._last_arrival_s = float("-inf")
        self._under_way: deque[tuple[float, bytes]] = deque()

    @property
    def next_due_s(self) -> float | None:
        """When the next packet arrives; None while nothing is under way."""
        return self._under_way[0][0] if self._under_way else None

    def waiting_bytes(self, now_s: float) -> float:
        """Bytes not yet sent, the rest of the packet being sent included."""
        return max(0.0, self._line_free_at_s - now_s) / self._seconds_per_byte

    def push(self, now_s: float, packet: bytes) -> bool:
        """
        Take a packet.

        Args:
            now_s: never less than in an earlier call.

        Returns:
            whether it will arrive.
        """
        frame_bytes = len(packet) + self._overhead_bytes
        if self.waiting_bytes(now_s) + frame_bytes > self._direction.queue_bytes:
            self.counters.dropped_packets += 1
            return False
        self._line_free_at_s = max(self._line_free_at_s, now_s) + frame_bytes * self._seconds_per_byte
        self.counters.carried_packets += 1
        self.counters.carried_bytes += frame_bytes
        if self._direction.loss and self._random.random() < self._direction.loss:
            self.counters.lost_packets += 1
            return False
        arrival_s = self._line_free_at_s + self._direction.delay_s
        if self._direction.jitter_s:
            arrival_s += self._random.uniform(-self._direction.jitter_s, self._direction.jitter_s)
        self._last_arrival_s = max(arrival_s, self._last_arrival_s)
        self._under_way.append((self._last_arrival_s, packet))
        return True

    def pop(self, now_s: float) -> bytes | None:
        """The next packet that has arrived by `now_s`, oldest first; None if there is none."""
        if not self._under_way or self._under_way[0][0] > now_s:
            return None
        due_s, packet = self._under_way.popleft()
        late_s = now_s - due_s
        self.counters.released_packets += 1
        self.counters.late_total_s += late_s
        self.counters.late_max_s = max(self.counters.late_max_s, late_s)
        return packet
