"""
Cloud-AR: no draft at all, a round per token; the baseline that speculative decoding has to beat.

Every block is empty (γ = 0) and its payload has no bytes; the cloud answers with its bonus draw, a token
drawn from p. So the text is the target's own, and for the same seed it is the one that any other scheme
gives at draft length 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy.typing as npt

from thinwire.common.errors import LocalProtocolError, PayloadInvalidError
from thinwire.common.law.draft_token import DraftToken, QuantizedDistribution
from thinwire.common.law.steps import Steps
from thinwire.common.schemes.base import DraftDistribution, Scheme, SchemeState


class CloudAr(Scheme):
    """Drafts nothing, whatever draft length was asked for; uses no parameter."""

    name = "cloud-ar"
    max_draft_length = 0

    # --- the edge's half ----------------------------------------------------------------------------------

    def initial_state(self) -> SchemeState:
        """Nothing to remember."""
        return SchemeState(math.nan)

    def quantize(self, draft_probs: npt.NDArray[Any], state: SchemeState) -> NoReturn:
        """Never: raises LocalProtocolError."""
        raise LocalProtocolError("cloud-ar was offered a draft distribution; expected none.")

    def next_state(self, state: SchemeState, drafted: DraftDistribution) -> NoReturn:
        """Never: raises LocalProtocolError."""
        raise LocalProtocolError("cloud-ar was told of a drafted token; expected none.")

    def state_after_verdict(self, states: Sequence[SchemeState], accepted: int) -> SchemeState:
        """The only one there is."""
        return states[0]

    # --- the payload --------------------------------------------------------------------------------------

    def support_size_code(self, state: SchemeState) -> int:
        """0: there are no support sizes."""
        return 0

    def block_bits(self, distributions: Sequence[QuantizedDistribution], *, support_size_code: int) -> float:
        """0."""
        return 0.0

    def encode(self, tokens: Sequence[DraftToken], *, support_size_code: int) -> bytes:
        """No bytes; LocalProtocolError for a block with tokens."""
        if tokens:
            raise LocalProtocolError(f"a cloud-ar block holds {len(tokens)} tokens; expected none.")
        return b""

    def decoding(
        self, payload: bytes, *, draft_length: int, support_size_code: int
    ) -> Steps[tuple[DraftToken, ...]]:
        """No tokens; see the base class."""
        yield from ()
        if payload or draft_length or support_size_code:
            raise PayloadInvalidError(
                f"a cloud-ar block has {len(payload)} bytes for {draft_length} tokens, support-size code "
                f"{support_size_code}; expected 0, 0 and 0."
            )
        return ()

    def decoding_tokens(self, draft_length: int, payload_bytes: int) -> int:
        """0."""
        return 0

    def max_payload_bytes(self, draft_length: int) -> int:
        """0."""
        return 0
