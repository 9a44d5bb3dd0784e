"""The contract of the rival's service: a JSON request, a stream of `bench.peers.messages.StreamedToken`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

SERVICE = "thinwire.bench.Batched"
STREAM = f"/{SERVICE}/Stream"


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One text of a batch; temperature 1, end-of-text is ignored."""

    prompt: str
    max_tokens: int
    seed: int
    together: int
    """Texts of the batch."""

    def to_bytes(self) -> bytes:
        """As it crosses the wire: compact JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> BatchRequest:
        """Inverse of `to_bytes`."""
        return cls(**json.loads(data))
