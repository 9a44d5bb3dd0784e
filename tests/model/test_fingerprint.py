"""The eight bytes of a target model: what changes them, and what must not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import torch_device
from model.checkpoints import save_checkpoint
from thinwire.common.language_model.fingerprint import (
    FINGERPRINT_BYTES,
    SAMPLED_ELEMENTS,
    _sample,
    model_fingerprint,
)


def fingerprint_of(folder: str, *, dtype: str = "float32") -> bytes:
    """As the daemon has it."""
    model = torch_device.load_on_device(folder, dtype=dtype)
    return model_fingerprint(model.module, model.eos_token_ids)


def test_the_same_weights_are_the_same_model_wherever_they_lie(tmp_path: Path) -> None:
    """Loaded twice, from another folder, and laid out otherwise in memory."""
    folder = save_checkpoint(tmp_path / "one", "Llama")
    shutil.copytree(folder, tmp_path / "two")
    model = torch_device.load_on_device(folder, dtype="float32")
    first = model_fingerprint(model.module, model.eos_token_ids)
    for parameter in model.module.parameters():
        parameter.data = parameter.data.contiguous()

    assert len(first) == FINGERPRINT_BYTES
    assert fingerprint_of(str(tmp_path / "two")) == first
    assert model_fingerprint(model.module, model.eos_token_ids) == first


def test_whatever_fixes_the_law_changes_it(tmp_path: Path) -> None:
    """Weights, dtype, settings that no weight shows, and the ids that end a text."""
    folder = save_checkpoint(tmp_path / "one", "Llama")
    model = torch_device.load_on_device(folder, dtype="float32")
    found = {
        model_fingerprint(model.module, model.eos_token_ids),
        model_fingerprint(model.module, (*model.eos_token_ids, 3)),
        fingerprint_of(save_checkpoint(tmp_path / "seed", "Llama", seed=1)),
        fingerprint_of(folder, dtype="float64"),
        fingerprint_of(save_checkpoint(tmp_path / "epsilon", "Llama", rms_norm_eps=1e-3)),
    }

    assert len(found) == 5


@pytest.mark.parametrize("name", ["model.layers.1.mlp.down_proj.weight", "model.norm.weight"])
def test_one_number_of_a_small_tensor_changes_it(tmp_path: Path, name: str) -> None:
    """Small ones are read whole."""
    model = torch_device.load_on_device(save_checkpoint(tmp_path / "one", "Llama"), dtype="float32")
    before = model_fingerprint(model.module, ())
    parameter = model.module.get_parameter(name)
    with torch.no_grad():
        parameter[(-1,) * parameter.dim()] += 1e-3

    assert model_fingerprint(model.module, ()) != before


@pytest.mark.parametrize(
    "shape", [(), (7,), (0, 3), (70_001,), (3, 70_001), (70_001, 3), (300, 40, 50), (5, 6, 70_001)], ids=str
)
def test_a_sample_is_bounded_and_spread(shape: tuple[int, ...]) -> None:
    """At most so many numbers, at least a quarter of that where there are more, the first among them."""
    tensor = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)
    sampled = len(_sample(tensor)) // 8

    assert sampled <= SAMPLED_ELEMENTS
    assert sampled >= min(tensor.numel(), SAMPLED_ELEMENTS // 4)
