"""Loads a causal model and scores tokens with a KV cache that is kept across rounds and rolled back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from common.errors import ConfigError, ModelLoadError, NonFiniteLogitsError, VocabularyMismatchError
from common.language_model.cache_kinds import check_croppable, new_cache
from common.language_model.vocabulary import Vocabulary

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
DEFAULT_CONTEXT_LENGTH = 2048
"""For a configuration that names no limit: what models without learned positions are usually trained on."""
_CONTEXT_FIELDS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
_USED_GENERATION_FIELDS = {"eos_token_id", "bos_token_id", "pad_token_id", "transformers_version"}
OnProgress = Callable[[str], None]


def set_threads(count: int) -> None:
    """Threads torch may use in this process, at least 1."""
    torch.set_num_threads(count)


class LanguageModel:
    """
    A loaded model with its vocabulary; implements `common.causal_model.CausalModel`.

    Made by `load_language_model`.
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
        """Sentences on what of the model's own generation settings is not used."""
        self.model_rows = int(model.get_output_embeddings().weight.shape[0])
        """Rows of the output layer; rows at and beyond V are cut off."""
        config = model.config.get_text_config(decoder=True)
        limits = [getattr(config, field, None) for field in _CONTEXT_FIELDS]
        self._context_length = next((int(n) for n in limits if n), DEFAULT_CONTEXT_LENGTH)

    @property
    def vocabulary_size(self) -> int:
        """V: ids the tokenizer defines."""
        return self.vocabulary.identity.size

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
            (logit_rows, V) float32, or float64 for a float64 model.
        """
        with torch.inference_mode():
            ids = torch.tensor([token_ids], dtype=torch.long, device=self.device)
            extra = {"logits_to_keep": logit_rows} if self._keeps_logits else {}
            logits = self._model(input_ids=ids, past_key_values=cache, use_cache=True, **extra).logits
            logits = logits[0, -logit_rows:, : self.vocabulary_size]
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
                f"{self._model.name}: after position {position} {what}; expected finite numbers."
            )
        return logits

    def truncate(self, length: int) -> None:
        """Roll the cache back to its first `length` tokens."""
        assert 0 <= length <= self._length, f"truncate to {length} of {self._length}"
        if length == 0:
            self._cache = self._model.new_cache()
        elif length < self._length:
            self._cache.crop(length - self._length)
        self._length = length

    def close(self) -> None:
        """Free the cache."""
        self._cache = None


def load_language_model(
    path_or_id: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    on_progress: OnProgress | None = None,
) -> LanguageModel:
    """
    Load a causal model and its tokenizer.

    Args:
        path_or_id: a local folder in Hugging Face format, or a hub id.
        revision: branch, tag or commit of a hub id.
        dtype: a key of `DTYPES`; float32 and float64 are the ones for which equal seeds give equal texts.
        device: a torch device, "cpu" or "cuda".
        on_progress: called with one short phrase a stage.

    Raises:
        ConfigError: unknown dtype or device.
        ModelLoadError: nothing loadable under that path or id.
        UncroppableCacheError: sliding-window or recurrent layers.
        VocabularyMismatchError: the model has fewer rows than its tokenizer has ids.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}.")
    _check_device(device)
    report = on_progress or (lambda stage: None)
    name = Path(path_or_id).name if Path(path_or_id).exists() else path_or_id
    # Progress is ours to show: the library's bars would mix with the daemon's log.
    transformers_logging.disable_progress_bar()
    try:
        report("configuration")
        config = AutoConfig.from_pretrained(path_or_id, revision=revision)
        check_croppable(config, name)
        report("tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(path_or_id, revision=revision)
        report("weights")
        model = AutoModelForCausalLM.from_pretrained(
            path_or_id, revision=revision, config=config, dtype=DTYPES[dtype]
        )
    except (OSError, ValueError, KeyError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelLoadError(
            f"no causal model can be loaded from {path_or_id!r}; expected a local folder in Hugging Face format "
            f"or a reachable hub id ({first_line})."
        ) from error
    report("device")
    model = model.to(device).eval()
    vocabulary = Vocabulary(tokenizer)
    rows, size = int(model.get_output_embeddings().weight.shape[0]), vocabulary.identity.size
    if rows < size:
        raise VocabularyMismatchError(
            f"{name} has {rows} output rows but its tokenizer defines {size} ids; expected at least as many rows."
        )
    eos, warnings = _generation_settings(model, name)
    return LanguageModel(
        model,
        vocabulary,
        name=name,
        dtype=dtype,
        device=device,
        eos_token_ids=tuple(i for i in eos if i < size),
        warnings=warnings,
    )


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device is {device!r}; expected one torch can use here, such as 'cpu'.") from error


def _generation_settings(model: Any, name: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """(end-of-text ids, a warning for every other setting the model's own generation_config would have applied)."""
    settings = model.generation_config
    eos = settings.eos_token_id if settings.eos_token_id is not None else model.config.eos_token_id
    ids = () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)
    ordinary = GenerationConfig().to_dict()
    named = [
        key
        for key, value in settings.to_diff_dict().items()
        if key not in _USED_GENERATION_FIELDS
        and not key.startswith("_")
        and value not in (None, False)
        and value != ordinary.get(key)
    ]
    warnings = tuple(
        f"{name} asks for {key} = {getattr(settings, key)!r} in its generation_config; it is not used."
        for key in sorted(named)
    )
    return ids, warnings
