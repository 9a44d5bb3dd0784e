"""Scores tokens with a KV cache that is kept across rounds and rolled back."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from common.errors import NonFiniteLogitsError
from common.language_model.cache_kinds import new_cache
from common.language_model.vocabulary import Vocabulary

DEFAULT_CONTEXT_LENGTH = 2048
"""For a configuration that names no limit: what models without learned positions are usually trained on."""
_CONTEXT_FIELDS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")


def set_threads(count: int) -> None:
    """Threads torch may use in this process, at least 1."""
    torch.set_num_threads(count)


class LanguageModel:
    """
    A loaded model with its vocabulary; implements `common.causal_model.CausalModel`.

    Made by `load_language_model`, which has checked what is assumed here.

    Args:
        model: a transformers causal model in eval mode, with at least V output rows.
        vocabulary: its tokenizer's half.
        name: for people; a local folder's base name, or the hub id.
        dtype: a key of `DTYPES`.
        device: torch device.
        eos_token_ids: ids below V that end a text.
        warnings: sentences on what of the model's own generation settings is not used.
    """

    def __init__(
        self,
        model: Any,
        vocabulary: Vocabulary,
        *,
        name: str,
        dtype: str,
        device: str,
        eos_token_ids: tuple[int, ...],
        warnings: tuple[str, ...],
    ) -> None:
        self._model = model
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.vocabulary = vocabulary
        self.name = name
        self.dtype = dtype
        self.device = device
        self.eos_token_ids = eos_token_ids
        self.warnings = warnings
        self.model_rows = output_rows(model)
        """Rows of the output layer; rows at and beyond V are cut off."""
        config = model.config.get_text_config(decoder=True)
        limits = [getattr(config, field, None) for field in _CONTEXT_FIELDS]
        self._context_length = next((int(n) for n in limits if n), DEFAULT_CONTEXT_LENGTH)
        self._vocabulary_size = vocabulary.identity.size

    @property
    def module(self) -> Any:
        """The transformers model inside, for hooks and for transformers' own generation beside ours."""
        return self._model

    @property
    def vocabulary_size(self) -> int:
        """V: ids the tokenizer defines."""
        return self._vocabulary_size

    @property
    def context_length(self) -> int:
        """Tokens one sequence may hold."""
        return self._context_length

    def open_sequence(self) -> ModelSequence:
        """A new, empty sequence."""
        return ModelSequence(self)

    def forward(self, token_ids: Sequence[int], cache: Any, logit_rows: int) -> npt.NDArray[Any]:
        """
        Feed tokens behind `cache`, in place.

        Returns:
            (logit_rows, V) float32, or float64 for a float64 model; on the CPU a view of torch's own memory.
        """
        with torch.inference_mode():
            ids = torch.tensor([token_ids], dtype=torch.long, device=self.device)
            extra = {"logits_to_keep": logit_rows} if self._keeps_logits else {}
            logits = self._model(input_ids=ids, past_key_values=cache, use_cache=True, **extra).logits
            logits = logits[0, -logit_rows:, : self._vocabulary_size]
            if logits.dtype not in (torch.float32, torch.float64):
                logits = logits.float()
            return np.asarray(logits.cpu().numpy())

    def new_cache(self) -> Any:
        """An empty KV cache."""
        return new_cache(self._model.config)


class ModelSequence:
    """One sequence with its KV cache; implements `common.causal_model.CachedSequence`."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._cache = model.new_cache()
        self._length = 0

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return self._length

    def extend(self, token_ids: Sequence[int], *, logit_rows: int) -> npt.NDArray[Any]:
        """Append tokens and score; see `CachedSequence.extend`."""
        assert 1 <= logit_rows <= len(token_ids), "more logit rows than tokens"
        logits = self._model.forward(token_ids, self._cache, logit_rows)
        self._length += len(token_ids)
        highest = logits.max(axis=-1)
        if not np.isfinite(highest).all():  # max propagates NaN; -inf means a row without any finite logit
            row = int(np.flatnonzero(~np.isfinite(highest))[0])
            bad = np.flatnonzero(np.isnan(logits[row]) | (logits[row] == np.inf))
            what = f"the logit of id {bad[0]} is {logits[row][bad[0]]}" if bad.size else "all logits are -inf"
            position = self._length - logit_rows + row
            raise NonFiniteLogitsError(
                f"{self._model.name}: in row {row} of {logit_rows} (after position {position}) {what}; "
                f"expected finite numbers."
            )
        return logits

    def truncate(self, length: int) -> None:
        """Roll the cache back to its first `length` tokens."""
        assert 0 <= length <= self._length, f"truncate to {length} of {self._length}"
        if length == 0:
            self._cache = self._model.new_cache()
        elif length < self._length:
            self._cache.crop(length - self._length)  # a negative number: how many tokens to remove
        self._length = length

    def close(self) -> None:
        """Free the cache."""
        self._cache = None


def output_rows(model: Any) -> int:
    """Rows of a transformers model's output layer, padding included."""
    return int(model.get_output_embeddings().weight.shape[0])
