"""
`python -m tests.link.capture DEVICE FILE`: write down every Ethernet frame of a device until told to end.

It runs inside a link's network namespace and needs CAP_NET_RAW there.
It prints "ready" once it listens; when its standard input closes it reads what is still queued, prints the
number of frames the kernel had no room for, and ends.
A frame in the file is its length as 4 bytes, little-endian, and its bytes.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 16 * 1024 * 1024
_LENGTH = struct.Struct("<I")


def read_frames(path: Path) -> Iterator[bytes]:
    """Inverse of what this module writes."""
    with path.open("rb") as file:
        while head := file.read(_LENGTH.size):
            yield file.read(_LENGTH.unpack(head)[0])


def main() -> int:
    """Capture one device."""
    device, path = sys.argv[1], Path(sys.argv[2])
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    with listener, path.open("wb") as file:
        _enlarge(listener)
        listener.bind((device, 0))
        listener.setblocking(False)
        print("ready", flush=True)
        told_to_end = False
        while not told_to_end:
            readable = select.select([listener, sys.stdin], (), ())[0]
            told_to_end = sys.stdin in readable
            _drain(listener, file)
        statistics = listener.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
    print(struct.unpack("=II", statistics)[1], flush=True)
    return 0


def _drain(listener: socket.socket, file: BinaryIO) -> None:
    while True:
        try:
            frame = listener.recv(65536)
        except BlockingIOError:
            return
        file.write(_LENGTH.pack(len(frame)) + frame)


def _enlarge(listener: socket.socket) -> None:
    """Room for a whole run; only the host's root may ask for so much, others keep what they have."""
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    except PermissionError:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)


if __name__ == "__main__":
    sys.exit(main())
