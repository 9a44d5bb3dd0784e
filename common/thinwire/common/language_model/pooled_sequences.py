"""
Many sequences of one model in one KV pool, extended together.

Models whose attention goes through transformers' registry take one packed pass for all; whether a model does
is tried when the pool is made, not guessed from its name.
The others take one pass a sequence, over the same pool.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from thinwire.common.causal_model import Extended, ExtendRequest
from thinwire.common.errors import ModelTrialError, ThinwireError
from thinwire.common.language_model import packed_attention
from thinwire.common.language_model.kv_cache import GrowingLayer, new_cache
from thinwire.common.language_model.kv_pool import KvPool, PageTable
from thinwire.common.language_model.logits import ScoredModule, fed_ids, non_finite
from thinwire.common.language_model.packed_attention import PackedPass, Stretch
from thinwire.common.language_model.trial import POOL_PAGES, Trial

_log = logging.getLogger(__name__)


class PooledSequences:
    """
    Args:
        scored: a model whose cache layers all are of full attention.
        budget_bytes: of the KV pool; None for `default_tokens` tokens.
        trial: what every sequence is held against before the first is served.

    Raises:
        ModelTrialError: the model scores otherwise here than in plain passes.
        ConfigError, ResourceExhaustedError: as `KvPool`'s.
    """

    def __init__(
        self,
        scored: ScoredModule,
        *,
        budget_bytes: int | None,
        default_tokens: int,
        trial: Trial,
    ) -> None:
        self.scored = scored
        self.pool = KvPool(trial.cache, budget_bytes=budget_bytes, default_tokens=default_tokens)
        self.packs = self._packs_in(trial)
        """Whether several sequences take one pass."""
        self.takes_trees = self.packs and trial.agrees_on_trees(self)
        """Whether a sequence's part in a pass may be a tree."""

    def open_sequence(self, *, reserve_tokens: int = 0) -> PooledSequence:
        return PooledSequence(self, PageTable(self.pool, reserve_tokens=reserve_tokens))

    def extend_batch(self, requests: Sequence[ExtendRequest]) -> list[Extended]:
        assert self.packs or not any(request.parents for request in requests), "a tree in a pass of its own"
        answers: list[Extended | None] = [None] * len(requests)
        ready: list[tuple[int, PooledSequence, Stretch]] = []
        for index, request in enumerate(requests):
            sequence = request.sequence
            assert isinstance(sequence, PooledSequence), "a sequence of another kind"
            assert 1 <= request.logit_rows <= len(request.token_ids), "more logit rows than tokens"
            try:
                ready.append((index, sequence, sequence.stretch(request.token_ids, request.parents)))
            except ThinwireError as error:
                answers[index] = error
        groups = [ready] if self.packs else [[one] for one in ready]
        for group in groups:
            if group:
                counts = [requests[index].logit_rows for index, _, _ in group]
                rows = self._pass([stretch for _, _, stretch in group], counts)
                ends = np.cumsum(counts)
                for (index, sequence, stretch), end, count in zip(group, ends, counts, strict=True):
                    sequence.length = stretch.length
                    own = rows[end - count : end]
                    answers[index] = non_finite(own, self.scored.name, stretch.length) or own
        return [answer for answer in answers if answer is not None]

    def _pass(self, stretches: Sequence[Stretch], counts: Sequence[int]) -> npt.NDArray[Any]:
        """(Σ counts, V) logits after the last `counts[i]` tokens of each stretch, in order."""
        with torch.inference_mode():
            packed = PackedPass(self.pool, stretches)
            if not self.packs:
                cache = DynamicCache()
                cache.layers = [
                    _PooledLayer(packed, layer, stretches[0]) for layer in range(len(self.pool.keys))
                ]
                return self.scored.logits(packed.token_ids, counts[0], past_key_values=cache, use_cache=True)
            return self.scored.logits(
                packed.token_ids,
                packed.last_rows(counts),
                position_ids=packed.positions,
                packed_pass=packed,
                use_cache=False,
                # One of four dimensions is handed on as it is, and the packed attention has its own.
                attention_mask=torch.zeros(1, 1, 1, 1, dtype=self.pool.dtype, device=self.pool.device),
            )

    def _packs_in(self, trial: Trial) -> bool:
        """Whether shared passes pass the trial; ModelTrialError if passes of one sequence do not either."""
        module = self.scored.module
        former = module.config._attn_implementation
        if former == packed_attention.NAME:
            former = "sdpa"  # of a pool before this one
        pages = self.pool.allocator.pages
        if former == "sdpa" and pages >= POOL_PAGES and module._can_set_attn_implementation():
            packed_attention.register()
            module.set_attn_implementation(packed_attention.NAME)
            self.packs = True
            try:
                trial.check(self, pages=pages)
                return True
            except ModelTrialError as error:
                module.set_attn_implementation(former)
                _log.warning("sessions are verified one pass each, not together: %s", error.message)
        self.packs = False
        trial.check(self, pages=pages)
        return False


class PooledSequence:
    """One sequence with its pages; implements `common.causal_model.CachedSequence`."""

    def __init__(self, sequences: PooledSequences, table: PageTable) -> None:
        self._sequences = sequences
        self._table: PageTable | None = table
        self.length = 0
        """Tokens in the cache."""

    def stretch(self, token_ids: Sequence[int], parents: Sequence[int] = ()) -> Stretch:
        """The sequence with room for new tokens, or ResourceExhaustedError."""
        assert self._table is not None, "used after close"
        self._table.make_room(self.length + len(token_ids))
        ids = fed_ids(token_ids, self._sequences.scored.rows)
        return Stretch(self._table, self.length, ids, parents)

    def extend(
        self, token_ids: Sequence[int], *, logit_rows: int, parents: Sequence[int] = ()
    ) -> npt.NDArray[Any]:
        (answer,) = self._sequences.extend_batch([ExtendRequest(self, token_ids, logit_rows, parents)])
        if isinstance(answer, ThinwireError):
            raise answer
        return answer

    def truncate(self, length: int) -> None:
        assert 0 <= length <= self.length, f"truncate to {length} of {self.length}"
        assert self._table is not None, "used after close"
        self._table.keep(length)
        self.length = length

    def keep(self, length: int, path: Sequence[int]) -> None:
        assert self._table is not None, "used after close"
        places = np.asarray(path, dtype=np.int64)
        assert length <= places.min(), f"{path} of {self.length} behind {length}"
        assert places.max() < self.length, f"{path} of {self.length} behind {length}"
        end = length + len(places)
        slots = self._table.slots(0, self.length)
        self._sequences.pool.move(slots[places], slots[length:end])
        self.truncate(end)

    def close(self) -> None:
        if self._table is not None:
            self._table.keep(0)
            self._table = None


class _PooledLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A layer of the cache of one pass over one sequence in the pool."""

    def __init__(self, packed: PackedPass, index: int, stretch: Stretch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._packed = packed
        self._index = index
        self._length = stretch.past
        self._after = stretch.length

    def get_seq_length(self) -> int:
        return self._length

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep new states; all of the sequence's, (1, heads, tokens, head size)."""
        self._length = self._after
        return self._packed.keep(self._index, key_states, value_states)


def pools(config: Any) -> bool:
    """Whether every layer of the cache that `config` asks for is one the pool can hold."""
    return all(type(layer) is GrowingLayer for layer in new_cache(config).layers)
