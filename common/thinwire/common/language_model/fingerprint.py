"""
Eight bytes that tell one target model from another of the same vocabulary.

A text that was begun with one target must not go on with another: it would follow two laws.
The fingerprint is of what fixes the law and of nothing else: the weights in the dtype of the forward pass,
the settings of the architecture, and the ids that end a text.
Names, paths and revisions are left out: the same weights under another name are the same model.

Of a tensor with more than `SAMPLED_ELEMENTS` numbers only so many are read, evenly spread.
Training changes all of them, so another checkpoint has another fingerprint; a hand that changes a few numbers
of a large tensor may go unseen.
This tells accidents, not attacks: an edge believes its cloud.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

FINGERPRINT_BYTES = 8
SAMPLED_ELEMENTS = 65_536
"""A model of 7 billion parameters has some 300 tensors: 20 million numbers, read within a second."""
_NO_PART_OF_THE_LAW = {"_name_or_path", "dtype", "torch_dtype", "transformers_version", "use_cache"}
"""Settings that say where a checkpoint came from, or what each tensor says itself."""


def model_fingerprint(module: Any, eos_token_ids: Iterable[int]) -> bytes:
    """
    Of a transformers model whose tensors are as the forward pass uses them, and the ids that end a text.

    8 bytes, the same for every device, layout of the weights, and number of threads.
    """
    digest = hashlib.sha256()
    settings = {
        name: value for name, value in module.config.to_diff_dict().items() if name not in _NO_PART_OF_THE_LAW
    }
    facts = {"settings": settings, "eos": sorted(eos_token_ids)}
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_sample(tensor))
    return digest.digest()[:FINGERPRINT_BYTES]


def _sample(tensor: Any) -> bytes:
    """Evenly spread rows of a tensor, and columns where a row alone is too long, as float64."""
    if tensor.dim() == 0:
        tensor = tensor.reshape(1)
    for dimension, size in enumerate(tensor.shape):
        others = max(1, tensor.numel() // max(1, size))
        step = -(-size // max(1, SAMPLED_ELEMENTS // others))
        if step > 1:
            tensor = tensor[(slice(None),) * dimension + (slice(None, None, step),)]
    return bytes(tensor.detach().double().cpu().numpy().tobytes())
