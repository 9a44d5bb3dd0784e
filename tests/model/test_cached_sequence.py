"""A cached sequence that is extended and rolled back scores as a fresh pass does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import torch_device
from model.checkpoints import FULL_ATTENTION, VOCABULARY_SIZE, fresh_logits, save_checkpoint
from thinwire.common.errors import NonFiniteLogitsError

TOKENS = [int(n) for n in np.random.default_rng(7).integers(0, VOCABULARY_SIZE, 400)]


@pytest.mark.parametrize("kind", FULL_ATTENTION)
def test_extend_and_truncate_equal_a_fresh_pass(kind: str, tmp_path: Path) -> None:
    """Rounds of drafting and rejection, across a growth of the cache, leave no trace in the logits."""
    folder = save_checkpoint(tmp_path / kind, kind)
    expected = fresh_logits(folder, TOKENS)[:, :VOCABULARY_SIZE]
    sequence = torch_device.load_on_device(folder).open_sequence()
    sequence.extend(TOKENS[:20], logit_rows=1)
    kept = 20
    while kept < 300:  # beyond the first capacity of the growing layer
        rejected = [(token + 1) % VOCABULARY_SIZE for token in TOKENS[kept + 3 : kept + 9]]
        sequence.extend(TOKENS[kept : kept + 3] + rejected, logit_rows=7)
        sequence.truncate(kept + 3)
        rows = sequence.extend(TOKENS[kept + 3 : kept + 40], logit_rows=5)
        kept += 40
        assert sequence.length == kept
        np.testing.assert_allclose(rows, expected[kept - 5 : kept], atol=1e-5)


def test_a_sequence_rolled_back_to_nothing_starts_anew(tmp_path: Path) -> None:
    """Truncating to length 0 forgets everything."""
    folder = save_checkpoint(tmp_path / "m", "Llama")
    sequence = torch_device.load_on_device(folder).open_sequence()
    sequence.extend(TOKENS[50:90], logit_rows=1)
    sequence.truncate(0)
    rows = sequence.extend(TOKENS[:10], logit_rows=10)
    np.testing.assert_allclose(rows, fresh_logits(folder, TOKENS[:10]), atol=1e-5)


def test_sequences_of_one_model_do_not_see_each_other(tmp_path: Path) -> None:
    """Two interleaved sequences score as each alone."""
    folder = save_checkpoint(tmp_path / "m", "Llama")
    model = torch_device.load_on_device(folder)
    first, second = model.open_sequence(), model.open_sequence()
    first.extend(TOKENS[:10], logit_rows=1)
    second.extend(TOKENS[100:130], logit_rows=1)
    row = first.extend(TOKENS[10:12], logit_rows=1)
    second.close()
    np.testing.assert_allclose(row[0], fresh_logits(folder, TOKENS[:12])[-1], atol=1e-5)


def test_rows_beyond_the_vocabulary_are_cut_off(tmp_path: Path) -> None:
    """A model with padded rows returns V logits and reports its rows."""
    model = torch_device.load_on_device(save_checkpoint(tmp_path / "m", "Qwen2"))
    rows = model.open_sequence().extend(TOKENS[:4], logit_rows=2)
    assert rows.shape == (2, model.vocabulary_size) == (2, VOCABULARY_SIZE)
    assert model.model_rows == VOCABULARY_SIZE + 7


@pytest.mark.parametrize(
    ("dtype", "returned"),
    [
        ("float32", np.float32),
        ("float64", np.float64),
        ("bfloat16", np.float32),
        ("float16", np.float32),
    ],
)
def test_logits_come_as_float32_or_float64(dtype: str, returned: type, tmp_path: Path) -> None:
    """Half precision is widened to float32, float64 stays."""
    model = torch_device.load_on_device(save_checkpoint(tmp_path / "m", "Llama"), dtype=dtype)
    assert model.open_sequence().extend(TOKENS[:4], logit_rows=2).dtype == returned


def test_a_float64_model_agrees_with_a_fresh_pass_to_1e_10(tmp_path: Path) -> None:
    """The cache keeps the model's precision."""
    folder = save_checkpoint(tmp_path / "m", "Llama")
    sequence = torch_device.load_on_device(folder, dtype="float64").open_sequence()
    sequence.extend(TOKENS[:30], logit_rows=1)
    sequence.truncate(12)
    rows = sequence.extend(TOKENS[12:20], logit_rows=8)
    np.testing.assert_allclose(rows, fresh_logits(folder, TOKENS[:20], dtype=torch.float64)[12:], atol=1e-10)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({5: float("nan")}, "the logit of id 5 is nan"),
        ({5: float("inf"), 6: float("-inf")}, "the logit of id [56] is inf"),
    ],
)
def test_nan_and_infinite_logits_are_refused(weights: dict[int, float], message: str, tmp_path: Path) -> None:
    """At loading, and in a session if weights fail later; the error names model, row and id."""
    folder = save_checkpoint(tmp_path / "sick", "Llama", tie_word_embeddings=False)
    model = torch_device.load_on_device(folder)
    tensors = load_file(f"{folder}/model.safetensors")
    for token_id, weight in weights.items():
        tensors["lm_head.weight"][token_id, 0] = weight
        with torch.no_grad():
            model.module.get_output_embeddings().weight[token_id, 0] = weight
    save_file(tensors, f"{folder}/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NonFiniteLogitsError, match=rf"sick: in row 0 of 12 \(after position 0\) {message}"):
        torch_device.load_on_device(folder)
    sequence = model.open_sequence()
    with pytest.raises(NonFiniteLogitsError, match=rf"sick: in row 0 of 2 \(after position 1\) {message}"):
        sequence.extend([1, 2, 3], logit_rows=2)
