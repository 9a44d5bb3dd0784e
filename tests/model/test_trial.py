"""
A model is served only if, on its own weights, it scores as transformers' plain forward pass does.

Each fault is planted in the code that every model of its kind goes through, so that the checkpoint is honest;
the sentence names what differed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.cache_utils import DynamicLayer
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

import torch_device
from model.checkpoints import FULL_ATTENTION, VOCABULARY_SIZE, fresh_logits, save_checkpoint
from thinwire.common.causal_model import ExtendRequest
from thinwire.common.errors import ModelTrialError, UncroppableCacheError
from thinwire.common.language_model import LanguageModel
from thinwire.common.language_model.kv_pool import PageAllocator
from thinwire.common.language_model.trial import TOLERANCES, deviation

LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "factor": 16.0,
    "original_max_position_embeddings": 64,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [1.0, 2.0, 5.0, 16.0],
}
DYNAMIC_ROPE = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
NOT_CAUSAL: dict[str, dict[str, Any]] = {
    "Bert": {"num_attention_heads": 4},
    "Roberta": {"num_attention_heads": 4, "pad_token_id": 1},
    "Electra": {"num_attention_heads": 4, "embedding_size": 32},
}
Plant = Callable[[pytest.MonkeyPatch], None]
TEXTS = [[int(n) for n in np.random.default_rng(seed).integers(0, VOCABULARY_SIZE, 600)] for seed in range(3)]


def rotary_of_the_longest_position(patch: pytest.MonkeyPatch) -> None:
    """Frequencies that shrink where a pass goes beyond 64 positions, as dynamic factors do."""
    plain = LlamaRotaryEmbedding.forward

    def forward(self: Any, x: Any, position_ids: Any) -> Any:
        stretched = 4.0 if int(position_ids.max()) >= 64 else 1.0
        return plain(self, x, position_ids / stretched)

    patch.setattr(LlamaRotaryEmbedding, "forward", forward)


def positions_from_zero_in_every_pass(patch: pytest.MonkeyPatch) -> None:
    """A model that counts its positions itself and forgets what is in the cache."""
    plain = LlamaRotaryEmbedding.forward

    def forward(self: Any, x: Any, position_ids: Any) -> Any:
        return plain(self, x, torch.arange(position_ids.shape[-1], device=x.device)[None])

    patch.setattr(LlamaRotaryEmbedding, "forward", forward)


def a_cache_that_ignores_a_crop(patch: pytest.MonkeyPatch) -> None:
    """Rejected tokens stay, and are attended to."""
    patch.setattr(DynamicLayer, "crop", lambda self, length: None)


def one_cache_for_all(patch: pytest.MonkeyPatch) -> None:
    """Every sequence is given the same cache, as if the model kept its past in itself."""
    plain = LanguageModel.new_cache

    def new_cache(self: Any) -> Any:
        if not hasattr(self, "only_cache"):
            self.only_cache = plain(self)
        return self.only_cache

    patch.setattr(LanguageModel, "new_cache", new_cache)


def one_page_for_all(patch: pytest.MonkeyPatch) -> None:
    """Every sequence is given the pool's first page."""
    patch.setattr(PageAllocator, "take", lambda self, count, *, behind=None: list(range(count)))
    patch.setattr(PageAllocator, "give_back", lambda self, pages: None)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        (
            rotary_of_the_longest_position,
            "the logits after a token change with the longest position of a pass, 511, by",
        ),
        (
            positions_from_zero_in_every_pass,
            "a text in several passes has other logits than in transformers'",
        ),
        (a_cache_that_ignores_a_crop, "a text after a roll-back of its cache has other logits"),
        (one_cache_for_all, "a text in one pass with a cache has other logits"),
    ],
)
def test_a_planted_fault_is_refused_at_loading(
    plant: Plant, sentence: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same checkpoint is taken without the fault."""
    folder = save_checkpoint(tmp_path / "m", "Llama")
    torch_device.load_on_device(folder, dtype=dtype)
    plant(monkeypatch)
    with pytest.raises(
        ModelTrialError, match=rf"^m failed the trial on its own weights: {sentence}.*; expected"
    ):
        torch_device.load_on_device(folder, dtype=dtype)


@pytest.mark.parametrize("kind", ["Llama", "GPTNeo"])
def test_sequences_that_get_each_others_pages_are_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together and one by one; a pool is tried when it is made, before the first session."""
    model = torch_device.load_on_device(save_checkpoint(tmp_path / "m", kind))
    one_page_for_all(monkeypatch)
    with pytest.raises(
        ModelTrialError, match=r"m failed the trial .* a text whose passes alternate with another"
    ):
        model.pool_sequences(sessions=4)


@pytest.mark.parametrize("kind", NOT_CAUSAL)
def test_a_model_that_is_not_causal_is_refused(kind: str, tmp_path: Path) -> None:
    """As it stands in its configuration, its tokens see what is behind them."""
    folder = save_checkpoint(tmp_path / "m", kind, **NOT_CAUSAL[kind])
    with pytest.raises(
        ModelTrialError,
        match=r"it is not causal \(its configuration has is_decoder false\): the logits after a token change "
        r"with the tokens after it, by 0\.\d+ of their spread; expected at most 0\.001 in float32\.$",
    ):
        torch_device.load_on_device(folder)


@pytest.mark.parametrize("kind", ["Bert", "Electra"])
def test_the_same_as_a_decoder_is_served(kind: str, tmp_path: Path) -> None:
    """It is the configuration that decides."""
    folder = save_checkpoint(tmp_path / "m", kind, is_decoder=True, **NOT_CAUSAL[kind])
    model = torch_device.load_on_device(folder)
    model.pool_sequences(sessions=2)
    sequence = model.open_sequence()
    sequence.extend(TEXTS[0][:30], logit_rows=1)
    rows = sequence.extend(TEXTS[0][30:40], logit_rows=10)

    np.testing.assert_allclose(rows, fresh_logits(folder, TEXTS[0][:40])[30:], atol=2e-5)


@pytest.mark.parametrize("for_pool", [False, True], ids=["edge", "cloud"])
def test_positions_that_depend_on_the_ids_are_refused(for_pool: bool, tmp_path: Path) -> None:
    """RoBERTa counts no padding, from 2 on; shared passes give it positions from 0 on."""
    folder = save_checkpoint(tmp_path / "m", "Roberta", is_decoder=True, **NOT_CAUSAL["Roberta"])
    with pytest.raises(ModelTrialError, match=r"it counts positions in its own way, not 0, 1, 2, …"):
        torch_device.load_on_device(folder, for_pool=for_pool).pool_sequences(sessions=2)


def test_longrope_is_held_to_the_context_of_its_short_factors(tmp_path: Path) -> None:
    """Up to there a text's law is that of a plain pass, whatever stands beside it; the log says so."""
    folder = save_checkpoint(tmp_path / "m", "Llama", max_position_embeddings=1024, rope_parameters=LONG_ROPE)
    model = torch_device.load_on_device(folder)

    assert model.context_length == 64
    assert model.warnings == (
        "m changes the rotary factors of a whole text when it grows beyond 64 tokens (longrope); its context "
        "is held to 64 of its 1024 tokens.",
    )
    assert_a_long_neighbour_changes_nothing(model, folder, 64)


def test_dynamic_factors_stay_within_the_context(tmp_path: Path) -> None:
    """They change behind it only; nothing is held, and nothing is said."""
    folder = save_checkpoint(tmp_path / "m", "Llama", rope_parameters=DYNAMIC_ROPE)
    model = torch_device.load_on_device(folder)

    assert (model.context_length, model.warnings) == (512, ())
    assert_a_long_neighbour_changes_nothing(model, folder, 512)


def assert_a_long_neighbour_changes_nothing(model: LanguageModel, folder: str, context: int) -> None:
    """A short text beside one that fills the context: both as in plain passes of their own."""
    model.pool_sequences(sessions=4)
    assert model.packs
    short, long = model.open_sequence(), model.open_sequence()
    model.extend_batch(
        [ExtendRequest(short, TEXTS[0][:9], 1), ExtendRequest(long, TEXTS[1][: context - 5], 1)]
    )
    answers = model.extend_batch(
        [ExtendRequest(short, TEXTS[0][9:14], 5), ExtendRequest(long, TEXTS[1][context - 5 : context], 5)]
    )
    for text, answer in zip((TEXTS[0][:14], TEXTS[1][:context]), answers, strict=True):
        assert not isinstance(answer, Exception)
        np.testing.assert_allclose(answer, fresh_logits(folder, text)[-5:], atol=2e-5)


def test_a_model_without_a_kv_cache_is_refused_for_that(tmp_path: Path) -> None:
    """The first GPT has no recurrent state; it has no cache."""
    folder = save_checkpoint(tmp_path / "m", "OpenAIGPT", n_embd=32, n_layer=2, n_head=4)
    with pytest.raises(
        UncroppableCacheError, match=r"m \(OpenAIGPTLMHeadModel\) takes no KV cache"
    ) as caught:
        torch_device.load_on_device(folder)
    assert "recurrent" not in caught.value.message


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("kind", FULL_ATTENTION)
def test_honest_models_pass_in_every_dtype(kind: str, dtype: str, tmp_path: Path) -> None:
    """With their own caches and in a pool, also one of a single page."""
    model = torch_device.load_on_device(save_checkpoint(tmp_path / "m", kind), dtype=dtype)
    model.pool_sequences(sessions=2)
    pool = model.kv_pool
    assert pool is not None
    assert pool.allocator.free == pool.allocator.pages
    model.pool_sequences(sessions=1, kv_bytes=pool.page_bytes)


def test_a_mixture_of_experts_is_served_in_float64(tmp_path: Path) -> None:
    """Experts one by one: the grouped product that transformers takes by default has no float64."""
    folder = save_checkpoint(
        tmp_path / "m", "Mixtral", num_attention_heads=4, num_key_value_heads=2, num_local_experts=4
    )
    model = torch_device.load_on_device(folder, dtype="float64")
    model.pool_sequences(sessions=2)
    assert model.packs
    rows = model.open_sequence().extend(TEXTS[0][:9], logit_rows=9)
    single = torch_device.load_on_device(folder).open_sequence().extend(TEXTS[0][:9], logit_rows=9)

    assert rows.dtype == np.float64
    assert deviation(rows, single) < 1e-4


def test_a_context_shorter_than_the_trial_is_tried_as_far_as_it_goes(tmp_path: Path) -> None:
    """Ten positions are in the table, and no more are asked for."""
    model = torch_device.load_on_device(save_checkpoint(tmp_path / "m", "GPT2", n_positions=10))
    model.pool_sequences(sessions=4)
    assert model.packs


def test_a_deviation_is_measured_in_spreads_of_the_logits() -> None:
    """Equal laws are 0 apart, unrelated ones about √2; a number against none is infinitely far."""
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 3, 5000))
    masked = one.copy()
    masked[0, 7] = -np.inf

    assert deviation(one, one + 3.0) < 1e-12
    assert deviation(one, other) == pytest.approx(2**0.5, abs=0.1)
    assert deviation(one, one + 1e-3 * other) == pytest.approx(1e-3, rel=0.1)
    assert deviation(one, masked) == np.inf
    assert deviation(masked, masked) == 0.0
    assert deviation(np.zeros((1, 4)), np.zeros((1, 4))) == 0.0
    assert deviation(np.zeros((1, 4)), np.array([[0.0, 0.0, 0.0, 1.0]])) == np.inf
