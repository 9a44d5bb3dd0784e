"""Tiny random checkpoints in Hugging Face format, with byte-level tokenizers, made where a test wantsone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel

import torch_device

END_OF_TEXT = "<|endoftext|>"
VOCABULARY_SIZE = 257
"""256 bytes and the end-of-text token."""

FULL_ATTENTION: dict[str, dict[str, Any]] = {
    "Llama": {"num_attention_heads": 4, "num_key_value_heads": 2},
    "GPTNeo": {"num_heads": 4, "window_size": 4, "attention_types": [[["global", "local"], 1]]},
    "GPT2": {"n_head": 4},
    "Qwen2": {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCABULARY_SIZE + 7},
}
"""Kinds whose cache keeps every position; GPT-Neo's local attention is a mask only, Qwen2 has padded rows."""

_SIZES: dict[str, dict[str, Any]] = {
    "GPTNeo": {"hidden_size": 32, "num_layers": 2, "max_position_embeddings": 512},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_positions": 512},
    "Mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "Rwkv": {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32},
}
_USUAL_SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "max_position_embeddings": 512,
}  # fmt: skip


def save_tokenizer(folder: Path, *, replaced: dict[str, str] | None = None) -> None:
    """
    A byte-level tokenizer of 257 ids.

    Args:
        folder: gets tokenizer.json and tokenizer_config.json.
        replaced: token strings to exchange, ids kept.
    """
    alphabet = [*sorted(ByteLevel.alphabet()), END_OF_TEXT]
    tokens = [(replaced or {}).get(token, token) for token in alphabet]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT)
    fast.save_pretrained(folder)


def save_checkpoint(
    folder: Path,
    kind: str,
    *,
    seed: int = 0,
    generation: Any = None,
    weights: torch.dtype = torch.float32,
    **changes: Any,
) -> str:
    """
    A random model of two layers with its tokenizer.

    Args:
        folder: created.
        kind: transformers' class prefix, such as "Llama".
        generation: fields of generation_config.
        weights: of the checkpoint.
        changes: fields of the configuration.

    Returns:
        the folder as a string.
    """
    config = make_config(kind, **changes)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # the usual scale of 0.02 makes all laws alike
            if parameter.dim() > 1:
                parameter.mul_(8)
            elif weights != torch.float32:  # so that vectors and biases are no round numbers either
                parameter.add_(torch.randn_like(parameter) / 8)
    model.to(weights)
    for name, value in (generation or {}).items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return str(folder)


def make_config(kind: str, **changes: Any) -> Any:
    """The configuration of a tiny model."""
    sizes = _SIZES.get(kind, _USUAL_SIZES)
    ids = {"bos_token_id": None, "eos_token_id": VOCABULARY_SIZE - 1, "pad_token_id": None}
    fields = {"vocab_size": VOCABULARY_SIZE, **ids, **sizes, **FULL_ATTENTION.get(kind, {}), **changes}
    return getattr(transformers, f"{kind}Config")(**fields)


def fresh_logits(folder: str, token_ids: Sequence[int], *, dtype: torch.dtype = torch.float32) -> Any:
    """(tokens, rows) logits of one pass of transformers itself, without a cache."""
    model = (
        transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(torch_device.name).eval()
    )
    with torch.inference_mode():
        ids = torch.tensor([list(token_ids)], device=torch_device.name)
        return model(ids, use_cache=False).logits[0].cpu().numpy()
