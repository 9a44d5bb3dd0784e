"""Loads a causal model and its tokenizer, and refuses what Thinwire cannot use."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub.constants
import huggingface_hub.utils.logging as hub_logging
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from common.errors import ConfigError, ModelLoadError, ThinwireError, VocabularyMismatchError
from common.language_model.cache_kinds import check_croppable, check_stateless
from common.language_model.generation_settings import end_of_text_ids, unused_settings
from common.language_model.logits import output_rows
from common.language_model.model import LanguageModel
from common.language_model.vocabulary import Vocabulary
from common.language_model.weight_layout import lay_out_for_few_rows
from common.model_fingerprint import model_fingerprint

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
OnProgress = Callable[[str], None]
_REPORT_EVERY_S = 2.0


def load_language_model(
    path_or_id: str,
    *,
    revision: str | None = None,
    tokenizer_path: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
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
        on_progress: called with one short phrase a stage ("weights, 40 %"), fit for a one-line display.

    Raises:
        ConfigError: unknown dtype or device.
        ModelLoadError: nothing loadable under that path or id, or a checkpoint without some of its weights.
        UncroppableCacheError: sliding-window or recurrent layers.
        VocabularyMismatchError: the model has rows for less than half of its tokenizer's ids.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}.", setting="dtype")
    _check_device(device)
    report = on_progress or (lambda stage: None)
    where, offline = _whence(path_or_id, revision)
    name = Path(path_or_id).resolve().name if Path(path_or_id).is_dir() else path_or_id
    try:
        with _quiet_libraries(report):
            report("configuration")
            config = AutoConfig.from_pretrained(path_or_id, **where)
            check_croppable(config, name)
            report("tokenizer")
            tokenizer = (
                AutoTokenizer.from_pretrained(path_or_id, **where)
                if tokenizer_path is None
                else _other_tokenizer(tokenizer_path)
            )
            report("weights")
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                path_or_id, config=config, dtype=DTYPES[dtype], output_loading_info=True, **where
            )
    except ThinwireError:
        raise
    except Exception as error:  # every kind occurs, a bare Exception for a bad tokenizer file too
        raise _not_loadable(path_or_id, _why(error, offline=offline)) from error
    model, loading = loaded
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise _not_loadable(path_or_id, f"{len(missing)} weights are missing, the first is {missing[0]}")
    check_stateless(model, name)
    vocabulary = Vocabulary(tokenizer)
    rows, size = output_rows(model), vocabulary.identity.size
    if 2 * rows < size:  # a few ids without a row are added tokens; so many are another model's tokenizer
        raise VocabularyMismatchError(
            f"{name} has {rows} output rows but its tokenizer defines {size} ids; "
            f"expected rows for at least half of them."
        )
    report(f"moving to {device}")
    model = model.to(device).eval()
    eos_token_ids = tuple(token_id for token_id in end_of_text_ids(model) if token_id < size)
    fingerprint = model_fingerprint(model, eos_token_ids)
    lay_out_for_few_rows(model)
    return LanguageModel(
        model,
        vocabulary,
        name=name,
        dtype=dtype,
        device=device,
        eos_token_ids=eos_token_ids,
        fingerprint=fingerprint,
        warnings=unused_settings(model, name),
    )


def _whence(path_or_id: str, revision: str | None, what: str = "causal model") -> tuple[dict[str, Any], bool]:
    """
    The libraries' options for this folder or hub id, and whether it is sought in the hub's cache only.

    Raises:
        ModelLoadError: it can only be meant as a folder, and there is none.
    """
    local = Path(path_or_id).is_dir()
    if not local and _looks_like_a_path(path_or_id):
        raise _not_loadable(path_or_id, "there is no such folder", what)
    # The hub's client would retry for half a minute where there is no network at all.
    offline = not local and not _hub_resolves()
    options = {"revision": revision, "local_files_only": local or offline, "trust_remote_code": False}
    return options, offline


def _other_tokenizer(path_or_id: str) -> Any:
    """The tokenizer of another model; ModelLoadError where there is none."""
    where, offline = _whence(path_or_id, None, "tokenizer")
    try:
        return AutoTokenizer.from_pretrained(path_or_id, **where)
    except Exception as error:  # as for a model
        raise _not_loadable(path_or_id, _why(error, offline=offline), "tokenizer") from error


def _why(error: Exception, *, offline: bool) -> str:
    return "the hub cannot be reached and nothing is cached" if offline else _first_line(error)


def _not_loadable(path_or_id: str, why: str, what: str = "causal model") -> ModelLoadError:
    return ModelLoadError(
        f"no {what} can be loaded from {path_or_id!r} ({why}); expected a local folder in Hugging Face "
        f"format or a reachable hub id."
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _looks_like_a_path(path_or_id: str) -> bool:
    """Whether this can only be meant as a path: a hub id is NAME or OWNER/NAME."""
    return path_or_id.startswith(("/", ".", "~")) or path_or_id.count("/") > 1 or not path_or_id


def _hub_resolves() -> bool:
    """Whether the hub's host name resolves; taken as given behind a proxy, which resolves names itself."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    host = urlsplit(huggingface_hub.constants.ENDPOINT).hostname or ""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        sentence = f"device is {device!r}; expected one torch can use here, such as 'cpu'."
        raise ConfigError(sentence, setting="device") from error


@contextmanager
def _quiet_libraries(report: OnProgress) -> Iterator[None]:
    """Progress and refusals are ours to show: the libraries' bars and warnings would bury our log."""
    verbosity, hub_verbosity = transformers_logging.get_verbosity(), hub_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    hub_logging.set_verbosity(logging.ERROR)
    hook = transformers_logging.set_tqdm_hook(
        lambda factory, args, kwargs: _Progress(report, *args, **kwargs)
    )
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(hook)
        hub_logging.set_verbosity(hub_verbosity)
        transformers_logging.set_verbosity(verbosity)


class _Progress:
    """
    Stands in for a tqdm bar of transformers: reports how far the weights are, every other second.

    Args:
        report: called with a short phrase.
        iterable: what is gone through, with a length; None for a bar that is moved by hand.
    """

    def __init__(self, report: OnProgress, iterable: Any = None, **kwargs: Any) -> None:
        self._report = report
        self._iterable = iterable
        self._total = kwargs.get("total") or (len(iterable) if hasattr(iterable, "__len__") else 0)
        self._done = 0
        self._reported_s = time.monotonic()

    def __iter__(self) -> Iterator[Any]:
        for item in self._iterable:
            yield item
            self.update()

    def update(self, count: int = 1) -> None:
        """`count` more are done."""
        self._done += count
        if self._total and time.monotonic() - self._reported_s >= _REPORT_EVERY_S:
            self._reported_s = time.monotonic()
            self._report(f"weights, {100 * self._done // self._total} %")

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Every other method of a bar (set_description, close, ...) does nothing."""
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: None
