"""Scores tokens with a KV cache that is kept across rounds and rolled back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import torch

from thinwire.common.causal_model import (
    CachedSequence,
    Extended,
    ExtendRequest,
    ServedModel,
    extend_one_by_one,
)
from thinwire.common.language_model.kv_cache import new_cache
from thinwire.common.language_model.kv_pool import PAGE_TOKENS, KvPool
from thinwire.common.language_model.logits import ScoredModule, fed_ids, non_finite
from thinwire.common.language_model.pooled_sequences import PooledSequences, pools
from thinwire.common.language_model.trial import Trial
from thinwire.common.language_model.vocabulary import Vocabulary

DEFAULT_SESSION_TOKENS = 2048
"""KV memory that is set aside for each session where no size is given, in tokens; at most the context."""


def set_threads(count: int) -> None:
    """Threads torch may use in this process, at least 1."""
    torch.set_num_threads(count)


@dataclass(eq=False, kw_only=True)
class LanguageModel:
    """
    A loaded model with its vocabulary; implements `common.causal_model.CausalModel`.

    Made by `load_language_model`, which has checked what is assumed here.
    """

    scored: ScoredModule
    """The model, with rows for at least half of the V ids."""
    vocabulary: Vocabulary
    dtype: str
    """A key of `DTYPES`."""
    device: str
    eos_token_ids: tuple[int, ...]
    """Ids below V that end a text."""
    fingerprint: bytes
    longest_context: int
    """Tokens one sequence may hold."""
    trial: Trial
    """What every sequence is held against."""
    warnings: tuple[str, ...]
    """Sentences on what of the checkpoint is not used."""
    _pooled: PooledSequences | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        """For people."""
        return self.scored.name

    @property
    def served(self) -> ServedModel:
        """What a daemon serves of it."""
        return ServedModel(
            model=self,
            vocabulary=self.vocabulary,
            name=self.name,
            dtype=self.dtype,
            device=self.device,
            rows=self.model_rows,
            eos_token_ids=self.eos_token_ids,
            fingerprint=self.fingerprint,
        )

    @property
    def module(self) -> Any:
        """The transformers model inside."""
        return self.scored.module

    @property
    def model_rows(self) -> int:
        """Ids the model has rows for."""
        return self.scored.rows

    @property
    def vocabulary_size(self) -> int:
        """V: ids the tokenizer defines."""
        return self.scored.vocabulary_size

    @property
    def context_length(self) -> int:
        """Tokens one sequence may hold: the model's context, or the whole KV pool where that is less."""
        pool = self.kv_pool
        return self.longest_context if pool is None else min(self.longest_context, pool.tokens)

    @property
    def kv_pool(self) -> KvPool | None:
        """The memory of all sequences; None while every sequence has its own."""
        return None if self._pooled is None else self._pooled.pool

    @property
    def packs(self) -> bool:
        """Whether several sequences are extended in one pass."""
        return self._pooled is not None and self._pooled.packs

    @property
    def takes_trees(self) -> bool:
        """Whether a pass may be over a tree of tokens; see `CausalModel`."""
        return self._pooled is not None and self._pooled.takes_trees

    def pool_sequences(self, *, sessions: int, kv_bytes: int | None = None) -> None:
        """
        Keep the sequences opened from now on in one KV pool, so that they can be extended together.

        A model with layers that the pool does not hold goes on with a cache a sequence.

        Args:
            sessions: how many sequences there may be, for the pool's default size: `DEFAULT_SESSION_TOKENS`
                for each, and in all at least one whole context.
            kv_bytes: the pool's size.

        Errors are those of `PooledSequences`.
        """
        if not pools(self.scored.module.config):
            self.trial.check(self)
        else:
            # A sequence holds whole pages.
            context = -(-self.longest_context // PAGE_TOKENS) * PAGE_TOKENS
            each = min(DEFAULT_SESSION_TOKENS, context)
            self._pooled = PooledSequences(
                self.scored,
                budget_bytes=kv_bytes,
                default_tokens=max(sessions * each, context),
                trial=self.trial,
            )

    def open_sequence(self, *, reserve_tokens: int = 0) -> CachedSequence:
        if self._pooled is not None:
            return self._pooled.open_sequence(reserve_tokens=reserve_tokens)
        return ModelSequence(self)

    def extend_batch(self, requests: Sequence[ExtendRequest]) -> list[Extended]:
        if self._pooled is not None:
            return self._pooled.extend_batch(requests)
        return extend_one_by_one(requests)

    def new_cache(self) -> Any:
        """An empty KV cache."""
        return new_cache(self.scored.module.config)


class ModelSequence:
    """One sequence with its KV cache; implements `common.causal_model.CachedSequence`."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._cache = model.new_cache()
        self._length = 0

    @property
    def length(self) -> int:
        return self._length

    def extend(
        self, token_ids: Sequence[int], *, logit_rows: int, parents: Sequence[int] = ()
    ) -> npt.NDArray[Any]:
        assert not parents, "a tree for a cache of its own"
        assert 1 <= logit_rows <= len(token_ids), "more logit rows than tokens"
        scored = self._model.scored
        with torch.inference_mode():
            fed = fed_ids(token_ids, scored.rows)
            ids = torch.tensor([fed], dtype=torch.long, device=self._model.device)
            logits = scored.logits(ids, logit_rows, past_key_values=self._cache, use_cache=True)
        self._length += len(token_ids)
        error = non_finite(logits, self._model.name, self._length)
        if error is not None:
            raise error
        return logits

    def truncate(self, length: int) -> None:
        assert 0 <= length <= self._length, f"truncate to {length} of {self._length}"
        if length == 0:
            self._cache = self._model.new_cache()
        elif length < self._length:
            self._cache.crop(length - self._length)  # a negative number: how many tokens to remove
        self._length = length

    def keep(self, length: int, path: Sequence[int]) -> None:
        raise NotImplementedError("a cache of its own takes no trees")

    def close(self) -> None:
        self._cache = None
