"""
A socket of the cloud's container, handed to the edge's side-car over a Unix socket on their shared volume.

A socket stays in the network namespace it was made in.
With one of either end the edge's side-car measures the link as `link.probe` does between namespaces: in
one process, by one clock, and without the right to enter anybody's namespace.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOCKET_NAME = "cloud.sock"
_RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
_LARGEST_MESSAGE_BYTES = 65_536
_ANSWER_TIMEOUT_S = 5.0
_RETRY_S = 0.1


class HandoverError(Exception):
    """The cloud's side-car handed nothing over."""


def open_end(address: str) -> socket.socket:
    """A UDP socket at one end of the link, as the probe has it."""
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    end.bind((address, 0))
    return end


class Offering:
    """
    The cloud's side: one socket for whoever asks, with what is known of this end.

    Args:
        folder: the shared volume.
        address: of this end of the link.
        facts: of this end, for the report.
    """

    def __init__(self, folder: Path, address: str, facts: dict[str, Any]) -> None:
        self._address = address
        self._facts = facts
        path = folder / SOCKET_NAME
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()

    def fileno(self) -> int:
        """For select."""
        return self._listener.fileno()

    def answer(self) -> None:
        """Serve one request; a peer that goes away meanwhile does not matter."""
        with contextlib.suppress(OSError, ValueError), self._listener.accept()[0] as connection:
            connection.settimeout(_ANSWER_TIMEOUT_S)
            host, port = json.loads(connection.recv(_LARGEST_MESSAGE_BYTES))
            with open_end(self._address) as end:
                end.connect((host, port))
                socket.send_fds(connection, [json.dumps(self._facts).encode()], [end.fileno()])


@contextlib.contextmanager
def both_ends(
    folder: Path, address: str, *, timeout_s: float
) -> Iterator[tuple[socket.socket, socket.socket, dict[str, Any]]]:
    """
    The edge's side: sockets of edge and cloud, connected to each other, and the facts of the cloud's end.

    Raises:
        HandoverError: the cloud's side-car does not answer in time.
    """
    with open_end(address) as edge, contextlib.ExitStack() as stack:
        descriptor, facts = _ask(folder / SOCKET_NAME, edge.getsockname(), time.monotonic() + timeout_s)
        cloud = stack.enter_context(socket.socket(fileno=descriptor))
        cloud.setblocking(False)
        edge.connect(cloud.getsockname())
        yield edge, cloud, facts


def _ask(path: Path, own_address: tuple[str, int], give_up_at_s: float) -> tuple[int, dict[str, Any]]:
    while True:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_ANSWER_TIMEOUT_S)
                connection.connect(str(path))
                connection.sendall(json.dumps(own_address).encode())
                message, descriptors, _, _ = socket.recv_fds(connection, _LARGEST_MESSAGE_BYTES, 1)
            return descriptors[0], json.loads(message)
        except (OSError, IndexError) as error:
            if time.monotonic() > give_up_at_s:
                raise HandoverError(f"the cloud's side-car does not answer at {path}") from error
        time.sleep(_RETRY_S)
