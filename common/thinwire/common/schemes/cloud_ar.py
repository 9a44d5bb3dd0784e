"""
Cloud-AR: no draft at all, a round per token; the baseline that speculative decoding has to beat.

Every block is empty (γ = 0) and its payload has no bytes; the cloud answers with its bonus draw, a token
drawn from p. So the text is the target's own, and for the same seed it is the one that any other scheme
gives at draft length 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy.typing as npt

from thinwire.common.errors import LocalProtocolError, PayloadInvalidError
from thinwire.common.law.draft_token import DraftToken, QuantizedDistribution
from thinwire.common.law.steps import Steps
from thinwire.common.schemes.base import Scheme, SchemeState
from thinwire.common.schemes.parameters import SchemeParameters


class CloudAr(Scheme):
    """Drafts nothing, whatever draft length was asked for."""

    name = "cloud-ar"
    max_draft_length = 0

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Parameters(SchemeParameters):
        """None."""

    def quantize(self, draft_probs: npt.NDArray[Any], state: SchemeState) -> NoReturn:
        raise LocalProtocolError("cloud-ar was offered a draft distribution; expected none.")

    def block_bits(self, distributions: Sequence[QuantizedDistribution], *, coding: int) -> float:
        return 0.0

    def encode(self, tokens: Sequence[DraftToken], *, coding: int) -> bytes:
        if tokens:
            raise LocalProtocolError(f"a cloud-ar block holds {len(tokens)} tokens; expected none.")
        return b""

    def decoding(self, payload: bytes, *, draft_length: int, coding: int) -> Steps[tuple[DraftToken, ...]]:
        yield from ()
        if payload or draft_length or coding:
            raise PayloadInvalidError(
                f"a cloud-ar block has {len(payload)} bytes for {draft_length} tokens, coding {coding}; "
                "expected 0, 0 and 0."
            )
        return ()

    def decoding_tokens(self, draft_length: int, payload_bytes: int) -> int:
        return 0

    def max_payload_bytes(self, draft_length: int) -> int:
        return 0
