"""Writes models in Hugging Face format, bfloat16, and reads them back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.model import NORM_EPS, ROPE_THETA, Llama, Shape
from training.tokenizer import END_OF_TEXT_ID

HISTORY = "training.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def config(shape: Shape) -> dict[str, object]:
    """config.json of a model: what `LlamaConfig` reads."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.positions,
        "rms_norm_eps": NORM_EPS,
        "rope_theta": ROPE_THETA,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA},
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": END_OF_TEXT_ID,
        "dtype": "bfloat16",
    }


def write(weights: dict[str, Tensor], shape: Shape, tokenizer: Path, folder: Path) -> None:
    """Writes one model folder; `weights` are float32 under the transformers names."""
    folder.mkdir(parents=True, exist_ok=True)
    rounded = {name: w.detach().to("cpu", torch.bfloat16).contiguous() for name, w in weights.items()}
    partial = folder / "model.safetensors.partial"
    save_file(rounded, str(partial), metadata={"format": "pt"})
    partial.chmod(0o644)  # safetensors writes 0600, which an installed wheel would keep
    partial.rename(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config(shape), indent=2) + "\n")
    generation = {"eos_token_id": END_OF_TEXT_ID}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer / name, folder / name)


def write_history(runs: list[dict[str, Any]], pair: Path) -> None:
    """Writes training.json of a pair: its training runs, the first one first."""
    (pair / HISTORY).write_text(json.dumps(runs, indent=1) + "\n")


def read_history(pair: Path | None) -> list[dict[str, Any]]:
    """The training runs that led to `pair`; none for no pair."""
    if pair is None:
        return []
    runs: list[dict[str, Any]] = json.loads((pair / HISTORY).read_text())
    return runs


def read(folder: Path, shape: Shape) -> Llama:
    """A written model as float32, for training or measuring."""
    model = Llama(shape)
    weights = load_file(str(folder / "model.safetensors"))
    model.load_state_dict({name: w.float() for name, w in weights.items()})
    return model
