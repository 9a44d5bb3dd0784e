"""
What a round costs in closed form: seconds, and bytes on the wire from the contract alone.

    seconds of a round = work at both ends + RTT + 8 (bytes up / rate up + bytes down / rate down)

The estimate before a run, tuning by transfer and the simulation's fit all count by this.

One TCP connection in ping-pong: every message goes as one HTTP/2 DATA frame, and the two WINDOW_UPDATE frames
(stream and connection) that its receiver owes ride on the receiver's next message.
Pure ACKs and repeats are not in here; `ACK_BYTES` is one of them.
`tests/link/test_round_bytes.py` holds all of this against real daemons, `docs/protocol.md` prints it.
"""

from __future__ import annotations

import math
from typing import Protocol

from thinwire.common.pb import verifier_pb2

ETHERNET_BYTES, IP_BYTES, TCP_BYTES, TIMESTAMP_BYTES = 14, 20, 20, 12
"""TCP's time stamps are on by default in Linux."""
PACKET_BYTES = ETHERNET_BYTES + IP_BYTES + TCP_BYTES + TIMESTAMP_BYTES
MTU_BYTES = 1500
SEGMENT_BYTES = MTU_BYTES - (PACKET_BYTES - ETHERNET_BYTES)
"""The most a packet carries."""
FRAME_HEAD_BYTES = 9
GRPC_PREFIX_BYTES = 5
WINDOW_UPDATE_BYTES = FRAME_HEAD_BYTES + 4
WINDOW_UPDATES = 2
"""Owed for each received message: one for the stream, one for the connection."""
ROUND_HEADER_BYTES = (
    WINDOW_UPDATES * WINDOW_UPDATE_BYTES + FRAME_HEAD_BYTES + GRPC_PREFIX_BYTES + PACKET_BYTES
)
"""A message of one packet less the message itself."""
STREAM_HEADER_BYTES = PACKET_BYTES + FRAME_HEAD_BYTES + GRPC_PREFIX_BYTES
"""The same of a streamed token: no window update rides on it, as the receiver says nothing."""
ACK_BYTES = PACKET_BYTES
"""A packet without payload."""
MAX_FRAME_BYTES = 16_384
"""HTTP/2's default; a longer message has more than one DATA frame, and nothing here speaks of those."""


class Rated(Protocol):
    """A link, or a cell of the grid."""

    @property
    def rate_up_bps(self) -> float: ...  # edge to cloud

    @property
    def rate_down_bps(self) -> float: ...  # cloud to edge

    @property
    def rtt_s(self) -> float: ...  # of an empty packet


def lines_s(link: Rated, up_bytes: float, down_bytes: float) -> float:
    """Seconds of a round on the link: both lines' bytes, headers of the wire included, and the round trip."""
    return 8 * up_bytes / link.rate_up_bps + 8 * down_bytes / link.rate_down_bps + link.rtt_s


def message_wire_bytes(message_bytes: int) -> int:
    """
    Bytes on the line of one message of a stream in its steady state, Ethernet headers included.

    Args:
        message_bytes: of the serialised protobuf message.

    Raises:
        ValueError: negative, or too long for one DATA frame.
    """
    if not 0 <= message_bytes <= MAX_FRAME_BYTES - GRPC_PREFIX_BYTES:
        raise ValueError(
            f"message_bytes is {message_bytes}; expected 0 to {MAX_FRAME_BYTES - GRPC_PREFIX_BYTES}."
        )
    stream_bytes = WINDOW_UPDATES * WINDOW_UPDATE_BYTES + FRAME_HEAD_BYTES + GRPC_PREFIX_BYTES + message_bytes
    return stream_bytes + math.ceil(stream_bytes / SEGMENT_BYTES) * PACKET_BYTES


def draft_block_bytes(
    *, round_number: int, base_length: int, draft_length: int, payload_bytes: int, code: int | None
) -> int:
    """
    Serialised bytes of a `VerifyRequest` with a `DraftBlock`.

    A prefix hash or checksum of 0 (one in 2³²) would save its 5 bytes.

    Args:
        code: the support-size code, None where the round leaves it out.
    """
    block = verifier_pb2.DraftBlock(
        round=round_number,
        base_length=base_length,
        prefix_hash=1,
        draft_length=draft_length,
        coding=code,
        payload=bytes(payload_bytes),
        crc32c=1,
    )
    return verifier_pb2.VerifyRequest(draft_block=block).ByteSize()


def verdict_bytes(*, round_number: int, accepted: int, next_token_id: int, committed_length: int) -> int:
    """Serialised bytes of a `VerifyResponse` with a `Verdict`; neither of its times is ever 0."""
    verdict = verifier_pb2.Verdict(
        round=round_number,
        accepted=accepted,
        next_token_id=next_token_id,
        committed_length=committed_length,
        queue_us=1,
        verify_us=1,
    )
    return verifier_pb2.VerifyResponse(verdict=verdict).ByteSize()
