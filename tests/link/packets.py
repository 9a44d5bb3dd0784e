"""
Ethernet frames of one TCP connection → segments, streams without repeats, HTTP/2 frames; pure.

IPv4 and TCP only, no fragments, no encryption: what two daemons of ours say to each other on a veth pair.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

ETHERNET_BYTES = 14
_ETHERTYPE_IPV4, _PROTOCOL_TCP = 0x0800, 6
_SYN = 0x02
_FRAME_HEAD = struct.Struct(">HBBBI")
"""Length (upper 16 and lower 8 bits), type, flags, stream."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0x0, 0x1, 0x4, 0x6, 0x8


class CaptureError(Exception):
    """What was captured is not what this module reads."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment with payload, seen for the first time."""

    up: bool
    """Towards the cloud."""
    header_bytes: int
    """Of IPv4 and TCP, options included."""
    payload: bytes

    @property
    def ip_bytes(self) -> int:
        """What the IP header says."""
        return self.header_bytes + len(self.payload)


@dataclass(frozen=True, slots=True)
class Http2Frame:
    """One frame, and the segment it ended in."""

    up: bool
    kind: int
    stream: int
    payload: bytes
    segment: int
    """Index into the segments the frames were read from."""

    @property
    def wire_bytes(self) -> int:
        """With the frame's own header of 9 bytes."""
        return 9 + len(self.payload)


def new_segments(frames: Iterable[bytes], cloud_port: int) -> list[Segment]:
    """
    The segments that brought something new: pure ACKs, handshakes and repeats are left out.

    Args:
        frames: whole Ethernet frames in the order in which they crossed the line, other traffic included.
        cloud_port: TCP port of the cloud's server; everything to or from another port is left out.

    Raises:
        CaptureError: more than one connection, a gap, or a segment that repeats only a part.
    """
    segments: list[Segment] = []
    next_sequence: dict[bool, int] = {}
    peer_ports: set[int] = set()
    for frame in frames:
        parsed = _parse(frame, cloud_port)
        if parsed is None:
            continue
        up, peer_port, sequence, flags, header_bytes, payload = parsed
        peer_ports.add(peer_port)
        if len(peer_ports) > 1:
            raise CaptureError(f"connections from the ports {sorted(peer_ports)}; expected one.")
        if flags & _SYN:
            next_sequence[up] = (sequence + 1) % 2**32
            continue
        if not payload:
            continue  # a pure ACK, or the end
        missing = _signed(sequence - next_sequence.setdefault(up, sequence))
        if missing < 0 and missing + len(payload) <= 0:
            continue  # a repeat
        if missing:
            raise CaptureError(f"a segment begins {missing} bytes from where one was expected.")
        next_sequence[up] = (sequence + len(payload)) % 2**32
        segments.append(Segment(up, header_bytes, payload))
    return segments


def http2_frames(segments: Iterable[Segment]) -> Iterator[Http2Frame]:
    """The frames of both directions, in the order in which they ended; the client's preface is left out."""
    pending = {True: b"", False: b""}
    preface_left = True
    for index, segment in enumerate(segments):
        buffer = pending[segment.up] + segment.payload
        if segment.up and preface_left and len(buffer) >= len(_PREFACE):
            buffer, preface_left = buffer.removeprefix(_PREFACE), False
        while len(buffer) >= 9:
            high, low, kind, _, stream = _FRAME_HEAD.unpack_from(buffer)
            length = high << 8 | low
            if len(buffer) < 9 + length:
                break
            yield Http2Frame(segment.up, kind, stream & 0x7FFF_FFFF, buffer[9 : 9 + length], index)
            buffer = buffer[9 + length :]
        pending[segment.up] = buffer


def _signed(difference: int) -> int:
    """A difference of sequence numbers, which count modulo 2^32."""
    return (difference + 2**31) % 2**32 - 2**31


def _parse(frame: bytes, cloud_port: int) -> tuple[bool, int, int, int, int, bytes] | None:
    """(up, the other port, sequence number, flags, header bytes, payload); None for other traffic."""
    if struct.unpack_from(">H", frame, 12)[0] != _ETHERTYPE_IPV4 or frame[23] != _PROTOCOL_TCP:
        return None
    ip_header = (frame[14] & 0x0F) * 4
    total = struct.unpack_from(">H", frame, 16)[0]
    at = ETHERNET_BYTES + ip_header
    source, destination, sequence = struct.unpack_from(">HHI", frame, at)
    tcp_header = (frame[at + 12] >> 4) * 4
    if cloud_port not in (source, destination):
        return None
    up = destination == cloud_port
    payload = frame[at + tcp_header : ETHERNET_BYTES + total]
    return up, source if up else destination, sequence, frame[at + 13], ip_header + tcp_header, payload
