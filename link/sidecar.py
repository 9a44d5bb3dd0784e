"""
One end of the wire as a process of its own: `python -m link.sidecar --end edge --peer HOST:PORT ...`.

Two of them, one in each service's network namespace, make a link between containers: each owns a TUN device,
shapes what leaves at its own end, and hands it to the other in a UDP datagram.
Both take the same description; `--end` says which direction is whose.
It needs the standard library, CAP_NET_ADMIN and /dev/net/tun.
One JSON line says that the other side answers, one at the end (SIGTERM) what was carried.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path as FilePath
from types import FrameType
from typing import Any

from link import devices, linux
from link.arguments import add_description_arguments, description_from
from link.carrier import CLOUD_ADDRESS, EDGE_ADDRESS
from link.description import ETHERNET_HEADER_BYTES, SIDECAR_MTU_BYTES
from link.errors import LinkError, LinkUnavailableError
from link.forwarding import Path, forward
from link.wire import LARGEST_PACKET_BYTES, REAL_TIME_PRIORITY, path_counters, shaped_path, shapers

DEFAULT_PORT = 7171
DEVICE = "thinwire0"
"""The TUN device; the container keeps its own eth0."""
HELLO = b"\x00hello"
HEARD = b"\x00heard"
"""Control datagrams start with 0, IPv4 packets with 4: neither can be taken for the other."""
HELLO_INTERVAL_S = 0.2


@dataclass(frozen=True, slots=True)
class Endpoint:
    """HOST:PORT of UDP."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """From "cloud:7171" or "cloud"."""
        host, colon, port = text.partition(":")
        if not host or (colon and not port.isdigit()):
            raise argparse.ArgumentTypeError(f"{text!r} is no address; expected HOST or HOST:PORT.")
        return cls(host, int(port) if colon else DEFAULT_PORT)


class PeerSocket:
    """
    The UDP socket to the other side-car, and the greeting that tells when that one is there.

    Args:
        listen: where datagrams arrive.
        peer: where they go; nobody else is listened to.
    """

    def __init__(self, listen: Endpoint, peer: Endpoint) -> None:
        self._peer = peer
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind((listen.host, listen.port))
        except OSError as error:
            raise LinkUnavailableError(
                f"{listen.host}:{listen.port} cannot be listened on ({error.strerror})."
            ) from error

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def send(self, packet: bytes) -> None:
        """Hand one packet over; OSError if the peer is gone."""
        self._socket.send(packet)

    def receive(self) -> bytes:
        """One IP packet, or b"" after a greeting (which it answers)."""
        datagram = self._socket.recv(LARGEST_PACKET_BYTES)
        if not datagram.startswith(b"\x00"):
            return datagram
        if datagram == HELLO:
            self._socket.send(HEARD)
        return b""

    def greet(self, timeout_s: float) -> None:
        """
        Wait until the peer has answered a greeting of ours.

        Raises:
            LinkUnavailableError: it has not, in time.
        """
        give_up_at_s = time.monotonic() + timeout_s
        while time.monotonic() < give_up_at_s:
            try:
                # Resolved each time: a container's name appears, and may change its address, as it starts.
                self._socket.connect((self._peer.host, self._peer.port))
                self._socket.send(HELLO)
            except OSError:
                time.sleep(HELLO_INTERVAL_S)
                continue
            if self._hears_answer(time.monotonic() + HELLO_INTERVAL_S):
                return
        raise LinkUnavailableError(
            f"no answer from {self._peer.host}:{self._peer.port} in {timeout_s:.0f} s; "
            f"expected the other side-car."
        )

    def _hears_answer(self, until_s: float) -> bool:
        while (left_s := until_s - time.monotonic()) > 0:
            if not select.select([self._socket], (), (), left_s)[0]:
                return False
            try:
                datagram = self._socket.recv(LARGEST_PACKET_BYTES)
                if datagram == HEARD:
                    return True
                if datagram == HELLO:
                    self._socket.send(HEARD)
            except OSError:
                time.sleep(HELLO_INTERVAL_S)  # port unreachable: the peer is not up yet
        return False


def run(arguments: argparse.Namespace) -> None:
    """
    Carry packets until a signal.

    Raises:
        LinkError: the description is impossible, the device cannot be had, or the peer does not answer.
    """
    description = description_from(arguments)
    is_edge = arguments.end == "edge"
    own_default, peer_default = (EDGE_ADDRESS, CLOUD_ADDRESS) if is_edge else (CLOUD_ADDRESS, EDGE_ADDRESS)
    up, down = shapers(description, arguments.seed)
    peer = PeerSocket(arguments.listen, arguments.peer)
    tun = devices.open_tun(
        DEVICE,
        address=arguments.address or own_default,
        peer_address=arguments.peer_address or peer_default,
        mtu_bytes=description.mtu_bytes,
    )
    egress = shaped_path(tun, peer.send, up if is_edge else down)
    ingress = Path(peer.fileno(), peer.receive, send=partial(os.write, tun), shaper=None)
    try:
        peer.greet(arguments.peer_timeout_s)
        ready = {
            "event": "ready",
            "end": arguments.end,
            "description": asdict(description),
            "queue_bytes": (description.up if is_edge else description.down).queue_bytes,
            "frame_overhead_bytes": ETHERNET_HEADER_BYTES,
            "real_time": linux.become_real_time(REAL_TIME_PRIORITY),
            "congestion_control": devices.congestion_control(),
            "tcp_timestamps": devices.tcp_timestamps(),
            "offloads": devices.offloads(DEVICE),
        }
        print(json.dumps(ready), flush=True)
        if arguments.ready_file is not None:
            FilePath(arguments.ready_file).touch()
        forward([egress, ingress], {})
    finally:
        ended = {"event": "ended", **asdict(path_counters(egress)), "failed_deliveries": ingress.failed_sends}
        print(json.dumps(ended), flush=True)


def main() -> int:
    """Read the command line and run; the exit code."""
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="python -m link.sidecar", description=__doc__)
    add_description_arguments(parser, mtu_bytes=SIDECAR_MTU_BYTES)
    add = parser.add_argument
    endpoint: dict[str, Any] = {"type": Endpoint.parse, "metavar": "HOST[:PORT]"}
    add("--end", choices=("edge", "cloud"), required=True, help="whose egress this one shapes")
    add("--peer", required=True, help="the other one", **endpoint)
    add("--listen", default=Endpoint("0.0.0.0", DEFAULT_PORT), **endpoint)
    add("--address", help=f"of the TUN device (default: {EDGE_ADDRESS} or {CLOUD_ADDRESS})")
    add("--peer-address", help="of the other TUN device")
    add("--peer-timeout-s", type=float, default=60.0, help="wait for the other one (%(default)s)")
    add("--ready-file", help="touched once the other side answers, for a health check")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        run(arguments)
    except LinkError as error:
        print(f"sidecar: {error}", file=sys.stderr)
        return 1
    return 0


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
