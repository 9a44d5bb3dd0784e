"""
What is wrong with a checkpoint: found before its weights are read, or told from what a library raised.

Some faults transformers only warns of, and goes on with other weights than the checkpoint means: an adapter
beside the weights, a quantisation it does not know, weights that have no place in the model.
Those are refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from transformers.quantizers.auto import AutoHfQuantizer
from transformers.utils.peft_utils import find_adapter_config_file

from thinwire.common.errors import ModelLoadError

_FOLDER = "a local folder in Hugging Face format"
_FOLDER_OR_HUB = f"{_FOLDER} or a reachable hub id"
_LOADABLE = f"a checkpoint that transformers {transformers.__version__} can load"
_LFS_POINTER = b"version https://git-lfs"


class CheckpointError(Exception):
    """Raised for what is wrong with a checkpoint; two halves of a sentence."""

    def __init__(self, why: str, expected: str) -> None:
        super().__init__(why, expected)
        self.why = why
        self.expected = expected


_TOO_LARGE = ("there is not enough memory for it", "more memory, a smaller model, or another --dtype")
_SAID = (
    (r"out of memory|can't allocate memory|not enough memory", *_TOO_LARGE),
    (
        r"[Nn]o file named .*safetensors|does not appear to have a file named .*(safetensors|bin)",
        "it has no weights (model.safetensors or pytorch_model.bin)",
        f"{_FOLDER}, weights included",
    ),
    (
        r"trust_remote_code|contains custom code",
        "it comes with code of its own, which is never run",
        "an architecture that is in transformers",
    ),
    (
        r"model type `?(?P<what>[\w.-]+)`? but Transformers does not recognize",
        f"its model type {{what}} is unknown to transformers {transformers.__version__}",
        "an architecture that transformers has",
    ),
    (
        r"Unrecognized configuration class <class '[\w.]*\.(?P<what>\w+)Config'>",
        "a {what} model does not continue texts",
        "a causal language model",
    ),
    (r"`model_type` key", "its config.json names no model_type", _FOLDER),
    (r"config file at '.*' is not a valid JSON", "its config.json is not JSON", _FOLDER),
    (
        r"Couldn't instantiate the backend tokenizer|backend tokenizer is not correctly",
        "it has no tokenizer",
        f"{_FOLDER}, tokenizer.json included",
    ),
    (
        r"ignore_mismatched_sizes|size mismatch",
        "its weights have other shapes than its config.json says",
        "both of one model",
    ),
    (r"gated repo", "the hub gives it only to those it has let in (gated)", "a token with access"),
    (r"is not a valid git identifier", "the hub has no such revision", "a branch, tag or commit"),
    (
        r"is not a valid model identifier|Repository Not Found|401 Client Error|404 Client Error",
        "there is no such folder, and no such model on the hub that can be read without a token",
        _FOLDER_OR_HUB,
    ),
    (
        r"couldn't connect|couldn't find (it|them) in the cached|cached files|offline|local_files_only",
        "the hub cannot be reached and nothing is cached",
        _FOLDER_OR_HUB,
    ),
)
"""What transformers says, why, and what is expected; the first one that is found."""


def check_path(path_or_id: str) -> None:
    """Refuse a path before anything in it is read; a folder, or what may be a hub id, passes."""
    path = Path(path_or_id)
    if path_or_id and path.exists() and not path.is_dir():
        raise CheckpointError(
            "it is a file, not a folder", f"the folder with its config.json, in which {path.name} may lie"
        )
    # A hub id is NAME or OWNER/NAME.
    is_path = path_or_id.startswith(("/", ".", "~")) or path_or_id.count("/") > 1 or not path_or_id
    if is_path and not (path_or_id and path.is_dir()):
        raise CheckpointError("there is no such folder", _FOLDER_OR_HUB)


def check_layout(path_or_id: str, *, revision: str | None, local_files_only: bool) -> None:
    """Refuse a checkpoint by its files' names."""
    whole = not Path(path_or_id).is_dir() or (Path(path_or_id) / "config.json").is_file()
    adapter = find_adapter_config_file(path_or_id, revision=revision, local_files_only=local_files_only)
    if adapter is not None:
        raise CheckpointError(
            "an adapter is beside its weights (adapter_config.json) and would be left out"
            if whole
            else "it is an adapter (adapter_config.json) without the model that it adapts",
            "the weights of a whole model, with the adapter merged into them",
        )
    if not whole:
        raise CheckpointError("there is no config.json in it", _FOLDER)


def check_quantisation(config: Any) -> None:
    """Refuse a quantisation that transformers does not know and would leave out."""
    for part in (config, config.get_text_config(decoder=True)):
        quantisation = getattr(part, "quantization_config", None)
        if quantisation is None:
            continue
        settings = quantisation if isinstance(quantisation, dict) else quantisation.to_dict()
        if not AutoHfQuantizer.supports_quant_method(settings):  # type: ignore[no-untyped-call]
            raise CheckpointError(
                f"its weights are quantised by {settings.get('quant_method')!r}, which transformers does not "
                "know and would read as if they were not",
                "weights that are not quantised, or by a method that transformers knows",
            )


def check_weights(model: Any, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    """
    Refuse a checkpoint by the names of its weights.

    Either weights are missing, which transformers would fill with random numbers, or some have no place in
    the model although they belong to what is served: one more parameter of a module with weights, or anything
    in a list of layers.
    What stands beside the model (a value head, a pooler) is no matter, nor are the buffers of old releases
    (masks, rotary frequencies).
    """
    names = sorted(missing)
    if names:
        raise CheckpointError(
            f"{len(names)} weights are missing, the first is {names[0]}", "all weights of the model"
        )
    modules = dict(model.named_modules())
    names = sorted(name for name in unexpected if _belongs_to_a_layer(name, modules))
    if names:
        raise CheckpointError(
            f"weights without a place in the model that its config.json describes: {len(names)}, the first "
            f"is {names[0]}",
            "weights and config.json of one model",
        )


def left_out(name: str, unexpected: Iterable[str]) -> tuple[str, ...]:
    """A sentence on the weights that `check_weights` lets pass."""
    names = sorted(unexpected)
    if not names:
        return ()
    return (
        f"{name} has {len(names)} weights beside those of the model, the first is {names[0]}; "
        "they are not used.",
    )


def not_loadable(
    path_or_id: str, error: Exception, *, stage: str, what: str = "causal model"
) -> ModelLoadError:
    """The refusal in one sentence; see `explained`."""
    fault = explained(error, path_or_id, stage=stage)
    return ModelLoadError(
        f"no {what} can be loaded from {path_or_id!r} ({fault.why}); expected {fault.expected}."
    )


def explained(error: Exception, path_or_id: str, *, stage: str) -> CheckpointError:
    """What is so when a library, or a check of ours, has raised an error at a stage such as "weights"."""
    if isinstance(error, CheckpointError):
        return error
    said = str(error)
    first_line = next(iter(said.strip().splitlines()), "").rstrip(". ")
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return CheckpointError(*_TOO_LARGE)
    if isinstance(error, SafetensorError):
        return _damaged_weights(Path(path_or_id), first_line)
    if isinstance(error, FileNotFoundError) and said.endswith((".safetensors", ".bin")):
        return CheckpointError(
            f"{Path(said).name}, a part of its weights, is missing", "every file that its index names"
        )
    if isinstance(error, PermissionError):
        return CheckpointError(f"a file of it may not be read: {first_line}", "files that this user may read")
    if isinstance(error, ImportError):
        return CheckpointError(
            f"it needs a package that is not there: {first_line}", "that package, or another checkpoint"
        )
    for pattern, why, expected in _SAID:
        found = re.search(pattern, said)
        if found:
            return CheckpointError(why.format(**found.groupdict()), expected)
    return CheckpointError(f"loading its {stage} failed with {type(error).__name__}: {first_line}", _LOADABLE)


def _belongs_to_a_layer(name: str, modules: dict[str, Any]) -> bool:
    parent, _, parameter = name.rpartition(".")
    if parameter in ("inv_freq", "masked_bias", "position_ids"):
        return False
    if parent in modules:
        return bool(parent) and any(True for _ in modules[parent].parameters(recurse=False))
    while parent and parent not in modules:
        parent = parent.rpartition(".")[0]
    lists = (path for path, module in modules.items() if isinstance(module, torch.nn.ModuleList))
    return any(f"{parent}.".startswith(f"{path}.") for path in lists)


def _damaged_weights(folder: Path, said: str) -> CheckpointError:
    """Which of a local folder's weight files cannot be read."""
    whole = "weight files that are whole"
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as start:
            if start.read(len(_LFS_POINTER)) == _LFS_POINTER:
                return CheckpointError(
                    f"{file.name} is a git-lfs pointer, not the weights",
                    "the files themselves (git lfs pull)",
                )
        try:
            with safe_open(file, framework="pt"):
                pass
        except SafetensorError as error:
            return CheckpointError(f"{file.name} is damaged or was cut off: {error}", whole)
    return CheckpointError(f"its weights are damaged or were cut off: {said}", whole)
