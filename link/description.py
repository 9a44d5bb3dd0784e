"""What a link is, whichever way it is made: rates, round trip, jitter, loss, queue."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from link.errors import LinkDescriptionError

ETHERNET_HEADER_BYTES = 14
"""Charged for every IP packet, so that a TUN device and a veth pair count the same bytes."""
UDP_FRAME_BYTES = 42
"""Ethernet, IPv4 and UDP header around a UDP payload: 14 + 20 + 8."""
DEFAULT_MTU_BYTES = 1500
SIDECAR_MTU_BYTES = 1400
"""IP packets of this size still fit a 1500-byte network inside UDP (28 bytes more)."""
MIN_MTU_BYTES = 576
"""What every IPv4 host must take (RFC 791)."""
MIN_RATE_BPS = 8_000
"""Below it a full frame takes over 1.5 s and no self-test ends in time."""

_QUEUES = ((256_000, 32 * 1024), (10_000_000, 64 * 1024))
_FAST_QUEUE_BYTES = 128 * 1024
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgG]?)(?:bit|bps|bit/s)?")
_MULTIPLES = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def default_queue_bytes(rate_bps: int) -> int:
    """
    The queue before a line of `rate_bps`: 32 KiB below 256 kbit/s, 64 KiB below 10 Mbit/s, then 128 KiB.

    Measured over tbf with gRPC: these gave 0 to 4 dropped packets, while anything below TCP's first flight
    (10 segments, 15 KB) drops in every burst.
    """
    for limit_bps, queue_bytes in _QUEUES:
        if rate_bps < limit_bps:
            return queue_bytes
    return _FAST_QUEUE_BYTES


def parse_rate_bps(text: str) -> int:
    """
    Bits per second of "32k", "1.5M", "256kbit" or "64000"; multiples are decimal.

    Raises:
        LinkDescriptionError: anything else.
    """
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise LinkDescriptionError(f"rate is {text!r}; expected bits per second such as 64000, 32k or 1.5M.")
    return round(float(match[1]) * _MULTIPLES[match[2].lower()])


@dataclass(frozen=True, slots=True)
class Direction:
    """One direction of a link, as a shaper makes it."""

    rate_bps: int
    delay_s: float
    """From the last bit sent to the packet's arrival: half the round trip."""
    jitter_s: float
    """Half-width of the uniform law added to the delay."""
    loss: float
    """Probability that a packet which has used the line does not arrive."""
    queue_bytes: int
    """Most bytes that wait for the line, the packet being sent included."""

    def serialisation_s(self, frame_bytes: int) -> float:
        """Seconds the line is busy with one frame."""
        return frame_bytes * 8 / self.rate_bps


@dataclass(frozen=True, slots=True)
class LinkDescription:
    """
    A symmetric-delay, asymmetric-rate link seen from the edge.

    Raises:
        LinkDescriptionError: a field outside its range.
    """

    rate_up_bps: int
    """Edge to cloud, counted with Ethernet headers."""
    rate_down_bps: int
    """Cloud to edge."""
    rtt_s: float = 0.0
    """Round trip of an infinitely short packet; half in each direction."""
    jitter_s: float = 0.0
    """Each direction's delay varies uniformly by this much to both sides; packets keep their order."""
    loss: float = 0.0
    """Per packet and direction."""
    queue_bytes: int | None = None
    """Queue of each direction; None takes `default_queue_bytes` of its rate."""
    mtu_bytes: int = DEFAULT_MTU_BYTES
    """Largest IP packet."""

    def __post_init__(self) -> None:
        for name in ("rate_up_bps", "rate_down_bps"):
            rate = getattr(self, name)
            _require(
                _is_whole(rate) and rate >= MIN_RATE_BPS, name, rate, f"at least {MIN_RATE_BPS} bit/s, whole"
            )
        _require(_is_number(self.rtt_s) and 0 <= self.rtt_s <= 60, "rtt_s", self.rtt_s, "0 to 60 seconds")
        _require(
            _is_number(self.jitter_s) and 0 <= self.jitter_s <= self.rtt_s / 2,
            "jitter_s",
            self.jitter_s,
            f"0 to half the round trip ({self.rtt_s / 2} s), since no packet arrives before it was sent",
        )
        _require(_is_number(self.loss) and 0 <= self.loss < 1, "loss", self.loss, "a probability in [0, 1)")
        _require(
            _is_whole(self.mtu_bytes) and MIN_MTU_BYTES <= self.mtu_bytes <= 9000,
            "mtu_bytes",
            self.mtu_bytes,
            f"{MIN_MTU_BYTES} to 9000",
        )
        smallest_queue = self.mtu_bytes + ETHERNET_HEADER_BYTES
        _require(
            self.queue_bytes is None or (_is_whole(self.queue_bytes) and self.queue_bytes >= smallest_queue),
            "queue_bytes",
            self.queue_bytes,
            f"None or at least one full frame ({smallest_queue})",
        )

    @property
    def up(self) -> Direction:
        """Edge to cloud."""
        return self._direction(self.rate_up_bps)

    @property
    def down(self) -> Direction:
        """Cloud to edge."""
        return self._direction(self.rate_down_bps)

    @property
    def largest_udp_payload_bytes(self) -> int:
        """Payload of a datagram that is one packet."""
        return self.mtu_bytes + ETHERNET_HEADER_BYTES - UDP_FRAME_BYTES

    def udp_round_trip_s(self, payload_bytes: int) -> float:
        """Round trip of a UDP datagram echoed at once over the idle link."""
        frame_bytes = payload_bytes + UDP_FRAME_BYTES
        return self.rtt_s + self.up.serialisation_s(frame_bytes) + self.down.serialisation_s(frame_bytes)

    def _direction(self, rate_bps: int) -> Direction:
        return Direction(
            rate_bps=rate_bps,
            delay_s=self.rtt_s / 2,
            jitter_s=self.jitter_s,
            loss=self.loss,
            queue_bytes=default_queue_bytes(rate_bps) if self.queue_bytes is None else self.queue_bytes,
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _require(holds: bool, name: str, received: object, expected: str) -> None:
    if not holds:
        raise LinkDescriptionError(f"{name} is {received!r}; expected {expected}.")
