"""
What a round costs on the wire, to the byte: both daemons' services in two namespaces, an unshaped veth pair
between them, and every frame of it written down.

Pure ACKs and repeats are left out, because when they come is the kernels' affair.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench import round_time
from link.description import LinkDescription
from link.devices import DEVICE
from link.link import End, NamespaceLink
from loopback import make_request
from tests.link.capture import read_frames
from tests.link.on_link import PROCESS_TIMEOUT_S, ask, start, stop
from tests.link.packets import (
    DATA,
    ETHERNET_BYTES,
    HEADERS,
    WINDOW_UPDATE,
    CaptureError,
    Http2Frame,
    Segment,
    http2_frames,
    new_segments,
)
from thinwire.common.pb import verifier_pb2

ROOT = Path(__file__).resolve().parents[2]
TOKENS = 48
DAEMONS = "tests.link.table_daemons"
VOCABULARY_SIZE = "300"
"""Ids of one and of two bytes; the dense payload is then longer than a segment."""
REQUESTS: dict[str, dict[str, Any]] = {
    "k-sqs": {},
    "k-sqs γ=1": {"scheme": "k-sqs", "draft_length": 1},
    "c-sqs": {},
    "dense-qs": {"lattice_resolution": 1024},
    "dense-f16": {},
    "cloud-ar": {"draft_length": 0},
}
"""Name → changes of the request; the name is the scheme where they name none."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round as it crossed the line."""

    segments: tuple[Segment, ...]
    frames: tuple[Http2Frame, ...]
    block: verifier_pb2.DraftBlock
    code_before: int
    """Support-size code in force before this round."""
    verdict: verifier_pb2.Verdict
    log: dict[str, Any]
    """The edge's own line of it."""

    def wire_bytes(self, *, up: bool) -> int:
        """Of this round's segments one way, Ethernet headers included."""
        return sum(ETHERNET_BYTES + s.ip_bytes for s in self.segments if s.up is up)

    def message_bytes(self, *, up: bool) -> int:
        """Of its protobuf message one way."""
        return sum(
            len(frame.payload) - round_time.GRPC_PREFIX_BYTES
            for frame in self.frames
            if frame.kind == DATA and frame.up is up
        )


@dataclass(frozen=True, slots=True)
class Traffic:
    """Everything that crossed the line, and the rounds in it."""

    rounds: dict[str, list[Round]]
    """By name of the request; a text's first round, which brings the stream's headers, is not among them."""
    frames: list[Http2Frame]


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Traffic:
    """One text for each request, one after another."""
    folder = tmp_path_factory.mktemp("round-bytes")
    line = LinkDescription(rate_up_bps=1_000_000_000, rate_down_bps=1_000_000_000)
    # The link ends its processes before their pipes are closed.
    with ExitStack() as pipes, NamespaceLink(line, kind="tc", congestion_control="cubic", seed=0) as link:
        for end in (link.edge, link.cloud):
            _unshape(end)
        capture, _ = start(pipes, link.cloud, "tests.link.capture", DEVICE, str(folder / "frames"))
        listen = f"{link.cloud.address}:0"
        cloud, port = start(pipes, link.cloud, DAEMONS, VOCABULARY_SIZE, "cloud", listen)
        address = f"{link.cloud.address}:{port}"
        edge, _ = start(pipes, link.edge, DAEMONS, VOCABULARY_SIZE, "edge", address, str(folder / "rounds"))
        for name, changes in REQUESTS.items():
            values = {"scheme": name, "max_tokens": TOKENS, "ignore_eos": True, **changes}
            assert ask(edge, make_request("a", min_block_acceptance=0.0, **values)) == TOKENS
        for process in (edge, cloud):
            stop(process)
        assert stop(capture) == "0", "the kernel had no room for a frame"
    segments = new_segments(read_frames(folder / "frames"), int(port))
    frames = list(http2_frames(segments))
    log = [json.loads(text) for text in (folder / "rounds").read_text().splitlines()]
    return Traffic(_rounds(segments, frames, [line for line in log if line["kind"] == "round"]), frames)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_round_costs_what_the_contract_says(traffic: Traffic, name: str) -> None:
    """Both ways, to the byte, from the fields' values alone."""
    rounds = traffic.rounds[name]

    assert len(rounds) >= TOKENS // 5 - 1
    for one in rounds:
        block, verdict = one.block, one.verdict
        assert not block.HasField("coding") or block.coding != one.code_before
        expected_up = round_time.draft_block_bytes(
            round_number=block.round,
            base_length=block.base_length,
            draft_length=block.draft_length,
            payload_bytes=len(block.payload),
            code=block.coding if block.HasField("coding") else None,
        )
        expected_down = round_time.verdict_bytes(
            round_number=verdict.round,
            accepted=verdict.accepted,
            next_token_id=verdict.next_token_id,
            committed_length=verdict.committed_length,
        )
        assert one.message_bytes(up=True) == expected_up
        assert one.message_bytes(up=False) == expected_down
        assert one.wire_bytes(up=True) == round_time.message_wire_bytes(expected_up)
        assert one.wire_bytes(up=False) == round_time.message_wire_bytes(expected_down)


@pytest.mark.parametrize("name", REQUESTS)
def test_the_edge_counts_what_crosses_the_line(traffic: Traffic, name: str) -> None:
    """The round log's bytes are the messages', its bits the payload's."""
    for one in traffic.rounds[name]:
        assert one.log["uplink_message_bytes"] == one.message_bytes(up=True)
        assert one.log["downlink_message_bytes"] == one.message_bytes(up=False)
        assert one.log["uplink_payload_bits"] == 8 * len(one.block.payload)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_round_is_one_message_and_two_window_updates_each_way(traffic: Traffic, name: str) -> None:
    """No HEADERS in the middle of a stream, no SETTINGS, and no PING: the bandwidth probe is off."""
    for one in traffic.rounds[name]:
        for up in (True, False):
            kinds = Counter(frame.kind for frame in one.frames if frame.up is up)
            assert kinds == {DATA: 1, WINDOW_UPDATE: round_time.WINDOW_UPDATES}


def test_a_stream_has_headers_at_its_ends_alone(traffic: Traffic) -> None:
    """One block up, one down and the trailers."""
    headers = Counter((frame.stream, frame.up) for frame in traffic.frames if frame.kind == HEADERS)
    streams = {stream for stream, _ in headers}

    assert len(streams) == len(REQUESTS)
    assert headers == {**{(s, True): 1 for s in streams}, **{(s, False): 2 for s in streams}}


def test_a_long_block_pays_for_each_of_its_packets(traffic: Traffic) -> None:
    """The dense payload of four tokens does not fit one."""
    packets = {sum(segment.up for segment in one.segments) for one in traffic.rounds["dense-f16"]}

    assert 2 in packets


def test_the_documented_table_is_what_crosses_the_line(traffic: Traffic) -> None:
    """docs/protocol.md: bytes beside the protobuf message, one packet each way."""
    one = next(r for r in traffic.rounds["k-sqs"] if r.block.draft_length == 4)
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+?) \| (\d+) \|$", text, flags=re.MULTILINE))
    segment = next(s for s in one.segments if s.up)
    wire = {up: one.wire_bytes(up=up) - one.message_bytes(up=up) for up in (True, False)}
    data_bytes = sum(f.wire_bytes - len(f.payload) for f in one.frames if f.up and f.kind == DATA)
    updates_bytes = sum(f.wire_bytes for f in one.frames if f.up and f.kind == WINDOW_UPDATE)

    assert int(rows["Ethernet header"]) == ETHERNET_BYTES
    assert int(rows["IPv4, TCP and its time stamps"]) == segment.header_bytes
    assert int(rows["HTTP/2 DATA frame's header"]) == data_bytes
    assert int(rows["gRPC's prefix"]) == round_time.GRPC_PREFIX_BYTES
    assert int(rows["two WINDOW_UPDATE frames, for the message received before"]) == updates_bytes
    assert int(rows["together, beside the message"]) == wire[True] == wire[False]
    widest_block = {
        size: round_time.draft_block_bytes(
            round_number=16_383, base_length=16_383, draft_length=64, payload_bytes=size, code=127
        )
        - size
        for size in (100, 1000, 16_384)
    }
    widest_verdict = round_time.verdict_bytes(
        round_number=16_383, accepted=64, next_token_id=2**21 - 1, committed_length=16_383
    )
    assert set(widest_block.values()) == {24, 26, 28}
    assert int(rows["a block's fields beside its payload, at most"]) == max(widest_block.values())
    assert int(rows["a verdict, at most"]) == widest_verdict


# --- the reader itself, without a link ----------------------------------------------------------------


def frame(payload: bytes = b"", *, sequence: int = 1, flags: int = 0x10, port: int = 5000) -> bytes:
    """A frame to the cloud's port 7000, no TCP options."""
    tcp = (
        port.to_bytes(2, "big")
        + (7000).to_bytes(2, "big")
        + sequence.to_bytes(4, "big")
        + bytes(4)
        + bytes([5 << 4, flags])
        + bytes(6)
    )
    ip = b"\x45\x00" + (40 + len(payload)).to_bytes(2, "big") + bytes(5) + b"\x06" + bytes(10)
    return bytes(12) + b"\x08\x00" + ip + tcp + payload


def test_pure_acks_and_repeats_are_left_out() -> None:
    """And what follows them is not; sequence numbers wrap."""
    start = 2**32 - 3
    frames = [
        frame(sequence=start - 1, flags=0x02),
        frame(sequence=start),
        frame(b"abcde", sequence=start),
        frame(b"abcde", sequence=start),
        frame(b"cde", sequence=start + 2),
        frame(b"fg", sequence=2),
    ]

    assert [segment.payload for segment in new_segments(frames, 7000)] == [b"abcde", b"fg"]


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        (frame(b"x", sequence=9), "begins 5 bytes"),
        (frame(b"abcd", sequence=3), "begins -1 bytes"),
        (frame(b"x", sequence=4, port=5001), "expected one"),
    ],
)
def test_what_cannot_be_counted_is_an_error(second: bytes, fault: str) -> None:
    """A gap, half a repeat, a second connection: never a wrong number."""
    with pytest.raises(CaptureError, match=fault):
        new_segments([frame(sequence=0, flags=0x02), frame(b"abc", sequence=1), second], 7000)


def test_other_traffic_is_not_counted() -> None:
    """ARP, and other ports."""
    arp = bytes(12) + b"\x08\x06" + bytes(28)

    assert new_segments([arp, frame(b"abc", port=7001)], 7002) == []


@pytest.mark.parametrize("message_bytes", [-1, round_time.MAX_FRAME_BYTES])
def test_a_message_of_no_single_frame_is_refused(message_bytes: int) -> None:
    """Nothing measured speaks of it."""
    with pytest.raises(ValueError, match="expected 0 to 16379"):
        round_time.message_wire_bytes(message_bytes)


# --- the arrangement -----------------------------------------------------------------------------------


def _unshape(end: End) -> None:
    """Take the token bucket away; what is left is the bare veth."""
    end.run(["tc", "qdisc", "delete", "dev", DEVICE, "root"], check=True, timeout=PROCESS_TIMEOUT_S)
    shown = end.run(
        ["tc", "qdisc", "show", "dev", DEVICE],
        check=True,
        capture_output=True,
        text=True,
        timeout=PROCESS_TIMEOUT_S,
    )
    assert "tbf" not in shown.stdout


def _rounds(
    segments: list[Segment], frames: list[Http2Frame], log: list[dict[str, Any]]
) -> dict[str, list[Round]]:
    """
    Cut the traffic into rounds: from the first segment behind a verdict to the next verdict.

    What a window update in a packet of its own would cost thus counts too.
    """
    names, lines = iter(REQUESTS), iter(log)
    rounds: dict[str, list[Round]] = {}
    name, block, code, after_frame, after_segment = "", None, 0, 0, 0
    for index, one in enumerate(frames):
        if one.kind != DATA or len(one.payload) <= round_time.GRPC_PREFIX_BYTES:
            continue
        message = one.payload[round_time.GRPC_PREFIX_BYTES :]
        if one.up:
            request = verifier_pb2.VerifyRequest.FromString(message)
            if request.HasField("open"):
                name = next(names)
                rounds[name], code = [], 0
            block = request.draft_block if request.HasField("draft_block") else None
            continue
        response = verifier_pb2.VerifyResponse.FromString(message)
        end_frame = _end_of_segment(frames, index)
        if response.HasField("verdict"):
            assert block is not None
            rounds[name].append(
                Round(
                    segments=tuple(segments[after_segment : one.segment + 1]),
                    frames=tuple(frames[after_frame:end_frame]),
                    block=block,
                    code_before=code,
                    verdict=response.verdict,
                    log=next(lines),
                )
            )
            code = block.coding if block.HasField("coding") else code
        after_frame, after_segment = end_frame, one.segment + 1
    return {name: cut[1:] for name, cut in rounds.items()}


def _end_of_segment(frames: list[Http2Frame], index: int) -> int:
    """Index of the first frame that ended in a later segment than this one."""
    later = (
        number for number in range(index, len(frames)) if frames[number].segment != frames[index].segment
    )
    return next(later, len(frames))
