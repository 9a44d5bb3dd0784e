"""
Bytes that are no message.

gRPC runs a parser where nobody can catch what it raises: a server then answers INTERNAL with a traceback in
its log, and a client of grpc.aio reads None in the message's place and goes on, to the status OK.
So the parsers here raise nothing: what does not parse becomes `Unparsable`, which is refused where messages
are read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partialmethod
from typing import Any

import grpc

from thinwire.common.errors import RemoteProtocolError


@dataclass(frozen=True, slots=True)
class Unparsable:
    """Stands where a message was expected."""

    size_bytes: int

    def ByteSize(self) -> int:  # noqa: N802 - as protobuf's
        """Bytes received."""
        return self.size_bytes


def parsing(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """A deserializer that raises nothing; None, for bytes as they are, stays None."""
    if deserialize is None:
        return None

    def parse(received: bytes) -> Any:
        try:
            return deserialize(received)
        except Exception:  # protobuf's DecodeError, and whatever a field's own checks raise
            return Unparsable(len(received))

    return parse


def check_parsed(message: Any) -> None:
    """Refuse what did not parse with a RemoteProtocolError."""
    if isinstance(message, Unparsable):
        raise RemoteProtocolError(
            f"received {message.size_bytes} bytes that do not parse; expected this method's protobuf message."
        )


async def parsed(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """A stream's messages; RemoteProtocolError at one that does not parse, after those before it."""
    async for message in messages:
        check_parsed(message)
        yield message


class ParsingChannel:
    """An open channel as a stub wants it, whose responses are messages or `Unparsable`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def _multicallable(self, kind: str, path: str, *, response_deserializer: Any, **options: Any) -> Any:
        """As gRPC's method of this name."""
        open_ = getattr(self._channel, kind)
        return open_(path, response_deserializer=parsing(response_deserializer), **options)

    unary_unary = partialmethod(_multicallable, "unary_unary")
    unary_stream = partialmethod(_multicallable, "unary_stream")
    stream_stream = partialmethod(_multicallable, "stream_stream")
