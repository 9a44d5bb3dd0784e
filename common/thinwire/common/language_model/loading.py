"""Loads a causal model and its tokenizer, and refuses what Thinwire cannot use."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub.constants
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from thinwire.common.errors import ConfigError, ThinwireError, VocabularyMismatchError
from thinwire.common.language_model.checkpoint_faults import (
    check_layout,
    check_path,
    check_quantisation,
    check_weights,
    left_out,
    not_loadable,
)
from thinwire.common.language_model.checkpoint_settings import (
    context_length,
    end_of_text_ids,
    unused_settings,
)
from thinwire.common.language_model.fingerprint import model_fingerprint
from thinwire.common.language_model.kv_cache import check_croppable, check_stateless
from thinwire.common.language_model.library_output import OnProgress, taken_from_libraries
from thinwire.common.language_model.logits import ScoredModule
from thinwire.common.language_model.model import LanguageModel
from thinwire.common.language_model.trial import Trial
from thinwire.common.language_model.vocabulary import Vocabulary
from thinwire.common.language_model.weight_layout import lay_out_for_few_rows

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def load_language_model(
    path_or_id: str,
    *,
    revision: str | None = None,
    tokenizer_path: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    for_pool: bool = False,
    on_progress: OnProgress | None = None,
) -> LanguageModel:
    """
    Load a causal model and its tokenizer, in eval mode.

    Args:
        path_or_id: a local folder in Hugging Face format, or a hub id; its own code, if any, is never run.
        revision: branch, tag or commit of a hub id.
        tokenizer_path: folder or hub id whose tokenizer is taken in place of the model's own.
        dtype: a key of `DTYPES`; float32 and float64 are the ones for which equal seeds give equal texts.
        device: a torch device, "cpu" or "cuda".
        for_pool: whether `pool_sequences` comes before the first sequence; the trial waits for it.
        on_progress: called with one short phrase a stage ("weights, 40 %"), fit for a one-line display.

    Raises:
        ConfigError: unknown dtype or device.
        ModelLoadError: nothing loadable under that path or id, or a checkpoint without some of its weights.
        UncroppableCacheError: sliding-window or recurrent layers.
        ModelTrialError: what would be served is not the law of the model's plain forward pass.
        NonFiniteLogitsError: that pass gives NaN.
        VocabularyMismatchError: the model has rows for less than half of its tokenizer's ids.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}.", setting="dtype")
    _check_device(device)
    report = on_progress or (lambda stage: None)
    name = Path(path_or_id).resolve().name if Path(path_or_id).is_dir() else path_or_id
    stages = ["files"]

    def enter(stage: str) -> None:
        stages.append(stage)
        report(stage)

    try:
        check_path(path_or_id)
        with taken_from_libraries(report) as said:
            tokenizer, model, left = _read(
                path_or_id, name, revision, tokenizer_path=tokenizer_path, dtype=dtype, enter=enter
            )
        vocabulary = Vocabulary(tokenizer)
        size = vocabulary.identity.size
        scored = ScoredModule(model.eval(), name, size)
        # A few ids without a row are added tokens; so many are another model's tokenizer.
        if 2 * scored.rows < size:
            raise VocabularyMismatchError(
                f"{name} has {scored.rows} output rows but its tokenizer defines {size} ids; "
                f"expected rows for at least half of them."
            )
        enter(f"moving to {device}")
        model.to(device)
        eos_token_ids = tuple(token_id for token_id in end_of_text_ids(model) if token_id < size)
        context, held = context_length(model.config, name)
        enter("trial")
        # Before anything of the module is changed: what it is held against is transformers' own pass.
        trial = Trial(scored, dtype=dtype, context_length=context)
        enter("layout")
        fingerprint = model_fingerprint(model, eos_token_ids)
        lay_out_for_few_rows(model)
        heard = (f"transformers says of {name}: {line}" for line in said)
        loaded = LanguageModel(
            scored=scored,
            vocabulary=vocabulary,
            dtype=dtype,
            device=device,
            eos_token_ids=eos_token_ids,
            fingerprint=fingerprint,
            longest_context=context,
            trial=trial,
            warnings=(*unused_settings(model, name), *held, *left, *heard),
        )
        if not for_pool:
            trial.check(loaded)
        return loaded
    except ThinwireError:
        raise
    except Exception as error:  # every kind occurs, a bare Exception for a bad tokenizer file too
        raise not_loadable(path_or_id, error, stage=stages[-1]) from error


def load_vocabulary(
    path_or_id: str, *, revision: str | None = None, tokenizer_path: str | None = None
) -> tuple[str, Vocabulary]:
    """
    A model's name and its tokenizer, without its weights; arguments as of `load_language_model`.

    ModelLoadError where there is none.
    """
    where = tokenizer_path or path_or_id
    name = Path(where).resolve().name if Path(where).is_dir() else where
    return name, Vocabulary(_other_tokenizer(where, None if tokenizer_path else revision))


def _read(
    path_or_id: str,
    name: str,
    revision: str | None,
    *,
    tokenizer_path: str | None,
    dtype: str,
    enter: OnProgress,
) -> tuple[Any, Any, tuple[str, ...]]:
    """The tokenizer and the model as transformers makes them, and sentences on what it leaves out."""
    files: dict[str, Any] = {"revision": revision, "local_files_only": _local_files_only(path_or_id)}
    check_layout(path_or_id, **files)
    where = {**files, "trust_remote_code": False}
    enter("configuration")
    config = AutoConfig.from_pretrained(path_or_id, **where)
    check_croppable(config, name)
    check_quantisation(config)
    enter("tokenizer")
    tokenizer = (
        AutoTokenizer.from_pretrained(path_or_id, **where)
        if tokenizer_path is None
        else _other_tokenizer(tokenizer_path)
    )
    enter("weights")
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        path_or_id,
        config=config,
        dtype=DTYPES[dtype],
        # transformers' default for mixtures, one grouped product, has no float64.
        experts_implementation="eager" if dtype == "float64" else None,
        output_loading_info=True,
        **where,
    )
    model, loading = loaded
    check_weights(model, loading["missing_keys"], loading["unexpected_keys"])
    check_stateless(model, name)
    return tokenizer, model, left_out(name, loading["unexpected_keys"])


def _other_tokenizer(path_or_id: str, revision: str | None = None) -> Any:
    """The tokenizer of another model; ModelLoadError where there is none."""
    try:
        check_path(path_or_id)
        return AutoTokenizer.from_pretrained(
            path_or_id,
            revision=revision,
            local_files_only=_local_files_only(path_or_id),
            trust_remote_code=False,
        )
    except Exception as error:  # as for a model
        raise not_loadable(path_or_id, error, stage="tokenizer", what="tokenizer") from error


def _local_files_only(path_or_id: str) -> bool:
    """
    Whether the hub is not asked: its client would retry for half a minute where there is no network.

    That its host name resolves is taken as given behind a proxy, which resolves names itself.
    """
    if Path(path_or_id).is_dir():
        return True
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return False
    try:
        socket.getaddrinfo(urlsplit(huggingface_hub.constants.ENDPOINT).hostname or "", None)
    except OSError:
        return True
    return False


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        sentence = f"device is {device!r}; expected one torch can use here, such as 'cpu'."
        raise ConfigError(sentence, setting="device") from error
