"""HTTP/2 by hand, as far as a gRPC call needs it: a client that reads nothing, or sends no message."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4
_INITIAL_WINDOW_SIZE = 4


class RawCaller:
    """One connection; streams are numbered 1, 3, 5, ... as clients do."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._stream = -1

    def greet(self, *, window_bytes: int) -> None:
        """The preface, and how much of each answer is taken; 0 bytes is no message at all."""
        self._writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self._frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, window_bytes))

    def call(self, path: str, message: bytes | None) -> None:
        """A call with one message and the end of its requests; None ends them without one."""
        self._stream += 2
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        # HPACK's plainest: a zero byte for a field that is not indexed, then name and value as they are.
        block = b"".join(b"\0" + _string(name) + _string(value) for name, value in fields.items())
        self._frame(_HEADERS, _END_HEADERS | (_END_STREAM if message is None else 0), self._stream, block)
        if message is not None:
            self._frame(_DATA, _END_STREAM, self._stream, b"\0" + len(message).to_bytes(4, "big") + message)

    async def ended(self) -> None:
        """Wait until the far end has closed the connection."""
        try:
            while await self._reader.read(65536):
                pass
        except ConnectionError:
            pass

    async def heard(self, part: bytes) -> None:
        """Wait until these bytes have come; EOFError if the connection ends first."""
        await self._reader.readuntil(part)

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        length = len(payload).to_bytes(3, "big")
        self._writer.write(length + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload)


@asynccontextmanager
async def raw_caller(address: str, *, window_bytes: int = 65535) -> AsyncIterator[RawCaller]:
    """A connection that has greeted; closed at the end."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    caller = RawCaller(reader, writer)
    caller.greet(window_bytes=window_bytes)
    try:
        yield caller
    finally:
        writer.transport.abort()


def _string(text: str) -> bytes:
    return bytes([len(text)]) + text.encode("ascii")
