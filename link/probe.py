"""
The measuring half of the self-test: `python -m link.probe SETTINGS`, one JSON line of raw figures.

One process holds a socket in either namespace (a socket stays in the namespace it was made in), so that both
ends share one clock and no second process must wake up to echo a probe.
Judging is `link.self_test`'s.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial

from link import linux
from link.description import UDP_FRAME_BYTES, Direction, LinkDescription

REAL_TIME_PRIORITY = 5
"""Below the wire's."""
OVERLOAD = 0.15
"""The flood's excess over the rate, at most."""
HEAD_START_S = 0.1
"""The flood's queue from the start, so that a pause of this process does not idle the line."""
_QUEUE_SHARE = 0.4
"""Share of the queue for the head start, and again for the excess: together they overflow nothing."""
_FLOOD_PACKETS = 60
_SMALLEST_PAYLOAD_BYTES = 64
_LARGEST_PAYLOAD_BYTES = 1200
_PROBE_PATIENCE_S = 0.5
"""Beyond the expected round trip, before a probe counts as lost."""
_SILENCE_S = 0.5
"""Beyond the expected time, before the flood's tail counts as lost."""
_FULL_BUFFER_PAUSE_S = 0.001
_SO_TIMESTAMPNS = 35
_SEQUENCE = struct.Struct("=q")
_TIMESPEC = struct.Struct("=qq")


@dataclass(frozen=True, slots=True)
class NamespacePaths:
    """Where both ends are, for a process outside."""

    edge: str
    """Path of the network namespace."""
    cloud: str
    edge_address: str
    cloud_address: str
    user: str | None = None
    """Path of the user namespace both belong to; None for this process's own."""


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """One measurement."""

    namespaces: NamespacePaths
    description: LinkDescription
    """What the link is said to be; sets the pace, never the figures."""
    probes: int = 0
    """Round trips of each size; 0 measures rates instead."""
    payload_sizes: tuple[int, ...] = ()
    flood_s: float = 0.0
    warm_up_bytes: tuple[int, int] = (0, 0)
    """Up, down: bytes a token bucket lets through at once, left out of the rate."""

    def as_json(self) -> str:
        """One argument of the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ProbeSettings:
        """The other way."""
        fields = json.loads(text)
        fields["namespaces"] = NamespacePaths(**fields["namespaces"])
        fields["description"] = LinkDescription(**fields["description"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """Round trips of one payload size."""

    payload_bytes: int
    round_trips_s: tuple[float, ...]
    lost: int


@dataclass(frozen=True, slots=True)
class FloodResult:
    """Result of one direction."""

    sent: int
    """Datagrams handed to the kernel."""
    received: int
    counted: int
    """Received ones after the first counted one: the numerator of the rate."""
    frame_bytes: int
    """Bytes on the line of each."""
    seconds: float
    """From the first counted arrival to the last, by the kernel's time stamps."""
    counted_span: int
    """Sequence numbers in the same span: the counted and the missing."""


def measure_round_trips(
    edge: socket.socket, cloud: socket.socket, settings: ProbeSettings
) -> list[RoundTrips]:
    """Echo single datagrams over the idle link; the sizes take turns."""
    taken: dict[int, list[float]] = {size: [] for size in settings.payload_sizes}
    lost = dict.fromkeys(settings.payload_sizes, 0)
    sequence = 0
    for _ in range(settings.probes):
        for size in settings.payload_sizes:
            sequence += 1
            patience_s = settings.description.udp_round_trip_s(size) + _PROBE_PATIENCE_S
            round_trip_s = _round_trip(edge, cloud, _SEQUENCE.pack(sequence).ljust(size, b"\0"), patience_s)
            if round_trip_s is None:
                lost[size] += 1
            else:
                taken[size].append(round_trip_s)
    return [RoundTrips(size, tuple(taken[size]), lost[size]) for size in settings.payload_sizes]


def _round_trip(edge: socket.socket, cloud: socket.socket, probe: bytes, patience_s: float) -> float | None:
    started_s = time.monotonic()
    edge.send(probe)
    if not _await(cloud, probe, started_s + patience_s):
        return None
    cloud.send(probe)
    if not _await(edge, probe, started_s + patience_s):
        return None
    return time.monotonic() - started_s


def _await(receiver: socket.socket, expected: bytes, until_s: float) -> bool:
    """Wait for one datagram; a probe given up earlier may come in between."""
    while (left_s := until_s - time.monotonic()) > 0:
        if not select.select([receiver], (), (), left_s)[0]:
            return False
        if receiver.recv(65_535) == expected:
            return True
    return False


class Flood:
    """One direction kept busy for a while, a little faster than it is said to be."""

    def __init__(
        self,
        sender: socket.socket,
        receiver: socket.socket,
        direction: Direction,
        *,
        seconds: float,
        largest_payload_bytes: int,
        warm_up_bytes: int,
    ) -> None:
        self.receiver = receiver
        self._sender = sender
        self._seconds = seconds
        self._warm_up_bytes = warm_up_bytes
        line_bytes = direction.rate_bps * seconds / 8
        payload = round(line_bytes / _FLOOD_PACKETS) - UDP_FRAME_BYTES
        self._payload_bytes = min(max(payload, _SMALLEST_PAYLOAD_BYTES), largest_payload_bytes)
        self._frame_bytes = self._payload_bytes + UDP_FRAME_BYTES
        share_bytes = _QUEUE_SHARE * direction.queue_bytes
        excess = min(OVERLOAD, share_bytes / line_bytes)
        self._packets_per_s = (1 + excess) * direction.rate_bps / 8 / self._frame_bytes
        self._head_start = min(HEAD_START_S * direction.rate_bps / 8, share_bytes) / self._frame_bytes
        self.drain_s = 2 * share_bytes * 8 / direction.rate_bps + direction.delay_s + direction.jitter_s
        self._sent = 0
        self._arrivals: list[tuple[int, float]] = []

    @property
    def complete(self) -> bool:
        """Whether all that was sent has arrived."""
        return len(self._arrivals) >= self._sent

    def send_due(self, elapsed_s: float) -> float:
        """Send what is due; returns when the next datagram is."""
        due = int(self._head_start + 1 + min(elapsed_s, self._seconds) * self._packets_per_s)
        while self._sent < due:
            try:
                self._sender.send(_SEQUENCE.pack(self._sent).ljust(self._payload_bytes, b"\0"))
            except BlockingIOError:
                # The socket's own buffer is full: the line is busy, which is all we want.
                return elapsed_s + _FULL_BUFFER_PAUSE_S
            self._sent += 1
        return (self._sent - self._head_start) / self._packets_per_s

    def receive(self) -> int:
        """Take in what has arrived; returns how many."""
        before = len(self._arrivals)
        while True:
            try:
                datagram, ancillary, _, _ = self.receiver.recvmsg(65_535, socket.CMSG_SPACE(_TIMESPEC.size))
            except BlockingIOError:
                return len(self._arrivals) - before
            if len(datagram) == self._payload_bytes:
                seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2][: _TIMESPEC.size])
                self._arrivals.append((_SEQUENCE.unpack_from(datagram)[0], seconds + nanoseconds * 1e-9))

    def result(self) -> FloodResult:
        """What arrived between the first counted datagram and the last."""
        first = -(-self._warm_up_bytes // self._frame_bytes)
        span = self._arrivals[first:]
        if len(span) < 2:
            return FloodResult(self._sent, len(self._arrivals), 0, self._frame_bytes, 0.0, 0)
        return FloodResult(
            sent=self._sent,
            received=len(self._arrivals),
            counted=len(span) - 1,
            frame_bytes=self._frame_bytes,
            seconds=span[-1][1] - span[0][1],
            counted_span=span[-1][0] - span[0][0],
        )


def measure_rates(
    edge: socket.socket, cloud: socket.socket, settings: ProbeSettings
) -> dict[str, FloodResult]:
    """Flood both directions at once."""
    up_warm_up, down_warm_up = settings.warm_up_bytes
    description = settings.description
    make = partial(
        Flood,
        seconds=settings.flood_s,
        largest_payload_bytes=min(_LARGEST_PAYLOAD_BYTES, description.largest_udp_payload_bytes),
    )
    floods = {
        "up": make(edge, cloud, description.up, warm_up_bytes=up_warm_up),
        "down": make(cloud, edge, description.down, warm_up_bytes=down_warm_up),
    }
    by_receiver = {flood.receiver: flood for flood in floods.values()}
    for receiver in by_receiver:
        receiver.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    started_s = time.monotonic()
    while (elapsed_s := time.monotonic() - started_s) < settings.flood_s:
        next_due_s = min(flood.send_due(elapsed_s) for flood in floods.values())
        timeout_s = min(max(next_due_s - elapsed_s, 0.0), settings.flood_s - elapsed_s)
        for receiver in select.select(list(by_receiver), (), (), timeout_s)[0]:
            by_receiver[receiver].receive()
    give_up_at_s = time.monotonic() + max(flood.drain_s for flood in floods.values()) + _SILENCE_S
    while not all(flood.complete for flood in floods.values()):
        readable = select.select(list(by_receiver), (), (), max(0.0, give_up_at_s - time.monotonic()))[0]
        if not readable:
            break
        for receiver in readable:
            by_receiver[receiver].receive()
    return {name: flood.result() for name, flood in floods.items()}


def open_sockets(namespaces: NamespacePaths) -> tuple[socket.socket, socket.socket]:
    """A UDP socket in either namespace, connected to each other; this process ends up in the cloud's."""
    paths = [path for path in (namespaces.user, namespaces.edge, namespaces.cloud) if path is not None]
    descriptors = [
        os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths
    ]  # before our own rights change
    if namespaces.user is not None:
        linux.set_namespace(descriptors.pop(0), linux.CLONE_NEWUSER)
    sockets = []
    for descriptor, address in zip(
        descriptors, (namespaces.edge_address, namespaces.cloud_address), strict=True
    ):
        linux.set_namespace(descriptor, linux.CLONE_NEWNET)
        end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        end.bind((address, 0))
        sockets.append(end)
    edge, cloud = sockets
    edge.connect(cloud.getsockname())
    cloud.connect(edge.getsockname())
    return edge, cloud


def main() -> None:
    """Measure once."""
    settings = ProbeSettings.from_json(sys.argv[1])
    edge, cloud = open_sockets(settings.namespaces)
    linux.become_real_time(REAL_TIME_PRIORITY)
    if settings.probes:
        print(json.dumps([asdict(result) for result in measure_round_trips(edge, cloud, settings)]))
    else:
        rates = measure_rates(edge, cloud, settings)
        print(json.dumps({name: asdict(result) for name, result in rates.items()}))


if __name__ == "__main__":
    main()
