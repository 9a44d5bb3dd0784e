"""
The contract of the peers' service, without a .proto of its own.

One method, `/thinwire.bench.Peers/Stream`, unary request, stream of responses.
The request is compact JSON (the fields of `PeerRequest`).
Each response is one output token: its id as 4 bytes and the number of the target pass it came from as 2
bytes, little-endian, then the text that became final with it as UTF-8, often a few bytes and sometimes none.
So a response of the bundled pair has about 10 bytes, which is what a terse real service would send.
Nothing but the end of the stream follows the last token: server-side figures go to a file, not over the link.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated

import msgspec

from thinwire.common.config import Option, check_fields, whole
from thinwire.common.errors import RemoteProtocolError

SERVICE = "thinwire.bench.Peers"
STREAM = f"/{SERVICE}/Stream"
OWN, GENERATE, ASSISTED, BATCHED = WAYS = "own", "generate", "assisted", "batched"
_HEAD = struct.Struct("<IH")


@dataclass(frozen=True, slots=True)
class PeerRequest:
    """One text; top-k and top-p are off and end-of-text is ignored, whichever way."""

    way: Annotated[str, Option("name", choices=WAYS)]
    """`own`: the target alone in our cached loop; `generate`, `assisted` and `batched`: transformers' own."""
    prompt: str
    max_tokens: Annotated[int, whole("tokens", 1, 65_535)]
    temperature: float
    seed: int
    draft_length: Annotated[int, whole("tokens", 0, 64)] = 0
    """For `assisted`: tokens drafted a round; 0 leaves transformers' own schedule."""
    together: Annotated[int, whole("texts", 1, 1000)] = 1
    """For `batched`: a batch begins once so many texts wait."""

    def __post_init__(self) -> None:
        check_fields(self)

    def to_bytes(self) -> bytes:
        """The request as it crosses the wire."""
        return msgspec.json.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> PeerRequest:
        """Inverse of `to_bytes`; RemoteProtocolError: no such JSON, ConfigError: a field out of range."""
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RemoteProtocolError(f"the request is no PeerRequest ({error}).") from None


@dataclass(frozen=True, slots=True)
class StreamedToken:
    """One output token as it arrives."""

    token_id: int
    target_pass: int
    """Number of the target pass it came from, from 1; tokens of one pass share it."""
    text: str

    def to_bytes(self) -> bytes:
        """The token as it crosses the wire."""
        return _HEAD.pack(self.token_id, self.target_pass) + self.text.encode("utf-8", "replace")

    @classmethod
    def from_bytes(cls, data: bytes) -> StreamedToken:
        """Inverse of `to_bytes`."""
        token_id, target_pass = _HEAD.unpack_from(data)
        return cls(token_id, target_pass, data[_HEAD.size :].decode("utf-8"))
