"""
Drafting: the draft model's cached sequence driven by Draft effects.

Everything here runs in the model's one executor thread and never awaits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thinwire.common.causal_model import CachedSequence, CausalModel, RolledBackSequence
from thinwire.common.config import SamplingParameters
from thinwire.common.law.distributions import warp_with_margin
from thinwire.common.law.random_streams import Draws
from thinwire.common.schemes.base import Scheme
from thinwire.edge.draft_block import DraftBlockBuilder
from thinwire.edge.events import Draft, DraftedBlock

PREFILL_CHUNK_TOKENS = 256
"""A prompt is fed in pieces of this size, so that a cancelled generation soon frees the thread."""


class DraftingCancelledError(Exception):
    """The generation was cancelled while its block was being drafted; nobody waits for the block."""


class Drafter:
    """
    One generation's draft sequence, opened by the first `draft`; the sampling's warping is the target's too.

    `cancel` and `cut` may be called from any thread, everything else from the model's thread only (`truncate`
    excepted: it only notes the length, and the next `draft` rolls back).
    """

    def __init__(
        self, model: CausalModel, scheme: Scheme, sampling: SamplingParameters, draws: Draws
    ) -> None:
        self._sequence = RolledBackSequence(model)
        self._scheme = scheme
        self._sampling = sampling
        self._draws = draws
        self._cancelled = threading.Event()
        self._cut: int | None = None
        """The last attempt that nobody needs more of."""

    def cancel(self) -> None:
        self._cancelled.set()

    def cut(self, attempt: int) -> None:
        """End this draft with the token in hand; one that is done is left as it is."""
        self._cut = attempt

    def truncate(self, length: int) -> None:
        self._sequence.truncate(length)

    def draft(self, effect: Draft) -> DraftedBlock:
        """
        Perform a Draft effect.

        Raises:
            ModelError: the draft model failed.
            LocalProtocolError: the cache is not what the session believes.
            DraftingCancelledError: `cancel` was called.
        """
        started_s = time.perf_counter()
        feed: Sequence[int] = effect.feed_token_ids
        sequence = self._sequence.holding(effect.first_position - len(feed) if feed else None)
        builder = DraftBlockBuilder(effect, self._scheme, self._draws)
        while not builder.complete:
            logits = self._next_logits(sequence, feed)
            draft_probs, margin = warp_with_margin(logits, self._sampling, dtype=np.float32)
            token_id = builder.offer(draft_probs, margin=margin)
            if token_id is None or self._cut == effect.attempt:
                break
            feed = (token_id,)  # fed only if one more token is drafted
        drafted_s = time.perf_counter()
        block = builder.build(cache_length=sequence.length, draft_s=drafted_s - started_s)
        return replace(block, encode_s=time.perf_counter() - drafted_s)

    def close(self) -> None:
        self._sequence.close()

    def _next_logits(self, sequence: CachedSequence, token_ids: Sequence[int]) -> npt.NDArray[Any]:
        """(V,) logits after `token_ids`, fed in pieces."""
        for start in range(0, len(token_ids), PREFILL_CHUNK_TOKENS):
            if self._cancelled.is_set():
                raise DraftingCancelledError
            rows = sequence.extend(token_ids[start : start + PREFILL_CHUNK_TOKENS], logit_rows=1)
        row: npt.NDArray[Any] = rows[0]
        return row
