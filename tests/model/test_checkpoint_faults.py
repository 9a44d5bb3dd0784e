"""Every fault of a checkpoint has its own sentence, and nothing of one is left out without a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import torch_device
from model.checkpoints import save_checkpoint
from thinwire.common.errors import ModelLoadError
from thinwire.common.language_model.checkpoint_faults import explained

Damage = Callable[[Path], Any]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An honest checkpoint."""
    return Path(save_checkpoint(tmp_path / "m", "Llama"))


def edit(folder: Path, **changes: Any) -> None:
    """Set fields of config.json; None takes one away."""
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def cut_weights(folder: Path, size: int) -> None:
    """Keep the first bytes of the weights."""
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])


def half_of_the_shards(folder: Path) -> None:
    """An index that names two files, and one of them."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    first = "model-00001-of-00002.safetensors"
    names = sorted(weights)
    save_file({name: weights[name] for name in names[:5]}, folder / first, metadata={"format": "pt"})
    places = {name: first if name in names[:5] else first.replace("00001", "00002", 1) for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def add_weight(folder: Path, name: str) -> None:
    """One more tensor in the checkpoint."""
    weights = load_file(folder / "model.safetensors")
    weights[name] = torch.ones(32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def without(folder: Path, pattern: str) -> None:
    """Delete files."""
    for file in folder.glob(pattern):
        file.unlink()


FAULTS: dict[str, tuple[Damage, str]] = {
    "no config": (
        lambda f: without(f, "config.json"),
        r"\(there is no config.json in it\); expected a local folder in Hugging Face format\.",
    ),
    "config is no JSON": (
        lambda f: (f / "config.json").write_text("{ no"),
        r"\(its config.json is not JSON\); expected",
    ),
    "no model type": (
        lambda f: edit(f, model_type=None),
        r"\(its config.json names no model_type\); expected",
    ),
    "unknown architecture": (
        lambda f: edit(f, model_type="abacus"),
        r"\(its model type abacus is unknown to transformers [\d.]+\); expected an architecture that",
    ),
    "another task": (
        lambda f: edit(f, model_type="t5"),
        r"\(a T5 model does not continue texts\); expected a causal language model\.",
    ),
    "its own code": (
        lambda f: edit(f, model_type="abacus", auto_map={"AutoConfig": "abacus.AbacusConfig"}),
        r"\(it comes with code of its own, which is never run\); expected an architecture that",
    ),
    "no weights": (
        lambda f: without(f, "*.safetensors"),
        r"\(it has no weights \(model.safetensors or .*\)\);",
    ),
    "cut weights": (
        lambda f: cut_weights(f, 20_000),
        r"\(model.safetensors is damaged or was cut off: .*\); expected weight files that are whole\.",
    ),
    "empty weights": (lambda f: cut_weights(f, 0), r"\(model.safetensors is damaged or was cut off: "),
    "a pointer": (
        lambda f: (f / "model.safetensors").write_text(POINTER),
        r"\(model.safetensors is a git-lfs pointer, not the weights\); expected the files themselves",
    ),
    "a missing part": (
        half_of_the_shards,
        r"\(model-00002-of-00002.safetensors, a part of its weights, is missing\); expected every file",
    ),
    "other shapes": (
        lambda f: edit(f, hidden_size=48),
        r"\(its weights have other shapes than its config.json says\); expected",
    ),
    "no tokenizer": (
        lambda f: without(f, "tokenizer*"),
        r"\(it has no tokenizer\); expected .*tokenizer\.json",
    ),
    "damaged tokenizer": (
        lambda f: (f / "tokenizer.json").write_text("{ no"),
        r"\(loading its tokenizer failed with JSONDecodeError: .*\); expected a checkpoint that transformers",
    ),
    "a missing package": (
        lambda f: edit(f, quantization_config={"quant_method": "gptq", "bits": 4}),
        r"\(it needs a package that is not there: .*optimum.*\); expected that package, or another",
    ),
    "unknown quantisation": (
        lambda f: edit(f, quantization_config={"quant_method": "exl3", "bits": 4}),
        r"\(its weights are quantised by 'exl3', which transformers does not know and would read as if they "
        r"were not\); expected weights that are not quantised",
    ),
    "an adapter beside": (
        lambda f: (f / "adapter_config.json").write_text('{"peft_type": "LORA"}'),
        r"\(an adapter is beside its weights \(adapter_config.json\) and would be left out\); expected",
    ),
    "an adapter alone": (
        lambda f: (without(f, "config.json"), (f / "adapter_config.json").write_text("{}")),
        r"\(it is an adapter \(adapter_config.json\) without the model that it adapts\); expected",
    ),
    "a bias too many": (
        lambda f: add_weight(f, "model.layers.0.self_attn.q_proj.bias"),
        r"\(weights without a place in the model that its config.json describes: 1, the first is "
        r"model.layers.0.self_attn.q_proj.bias\); expected weights and config.json of one model\.",
    ),
    "a norm too many": (
        lambda f: add_weight(f, "model.layers.1.self_attn.q_norm.weight"),
        r"q_norm.weight\);",
    ),
    "a layer too many": (lambda f: add_weight(f, "model.layers.2.mlp.x.weight"), r"layers.2.mlp.x.weight\);"),
    "an adapter within": (
        lambda f: add_weight(f, "model.layers.0.mlp.up_proj.lora_A.weight"),
        r"up_proj.lora_A.weight\);",
    ),
    "an output bias": (lambda f: add_weight(f, "lm_head.bias"), r"the first is lm_head.bias\);"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_checkpoint_is_refused_for_what_is_wrong_with_it(fault: str, folder: Path) -> None:
    """One line: what is so, and what was expected instead."""
    damage, sentence = FAULTS[fault]
    damage(folder)
    with pytest.raises(ModelLoadError, match=sentence) as caught:
        torch_device.load_on_device(str(folder))
    assert caught.value.message.startswith(f"no causal model can be loaded from '{folder}' (")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("relative", [False, True])
def test_a_file_is_not_said_to_be_missing(
    relative: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it taken for a hub id."""
    monkeypatch.chdir(folder)
    path = "config.json" if relative else str(folder / "model.safetensors")
    with pytest.raises(
        ModelLoadError, match=r"\(it is a file, not a folder\); expected the folder with its config"
    ):
        torch_device.load_on_device(path)


def test_weights_beside_the_model_are_left_out_with_a_word(folder: Path) -> None:
    """A value head says nothing about the next token; buffers of old releases need no word."""
    add_weight(folder, "v_head.summary.weight")
    assert torch_device.load_on_device(str(folder)).warnings == (
        "m has 1 weights beside those of the model, the first is v_head.summary.weight; they are not used.",
    )


def test_what_transformers_warns_of_is_shown(folder: Path) -> None:
    """In one line, and not on standard error."""
    rope = {"rope_type": "default", "rope_theta": 10000.0, "abacus": 3}
    edit(folder, rope_parameters=rope)
    (sentence,) = torch_device.load_on_device(str(folder)).warnings
    assert sentence.startswith("transformers says of m: Unrecognized keys in `rope_parameters`")
    assert "abacus" in sentence


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory_is_said(error: Exception) -> None:
    """Whoever says so."""
    fault = explained(error, "m", stage="weights")
    assert fault.why == "there is not enough memory for it"
    assert fault.expected == "more memory, a smaller model, or another --dtype"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("You are trying to access a gated repo.\nMake sure", "the hub gives it only to those it has let in"),
        (
            "nobody/m is not a local folder and is not a valid model identifier listed on",
            "no such model on the hub",
        ),
        (
            "abc is not a valid git identifier (branch name, tag name or commit id)",
            "the hub has no such revision",
        ),
        ("We couldn't connect to 'https://hub.invalid' to load the files", "the hub cannot be reached"),
    ],
)
def test_what_the_hub_refuses_is_said_kind_by_kind(said: str, why: str) -> None:
    """In the words of transformers' own errors, as OSError carries them."""
    assert why in explained(OSError(said), "nobody/m", stage="configuration").why
