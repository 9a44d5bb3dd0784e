"""Sequences in one KV pool, extended together, score as each does alone, and the pool keeps its bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import torch_device
from model.checkpoints import FULL_ATTENTION, VOCABULARY_SIZE, fresh_logits, save_checkpoint
from thinwire.common.causal_model import CachedSequence, Extended, ExtendRequest
from thinwire.common.errors import ConfigError, NonFiniteLogitsError, ResourceExhaustedError
from thinwire.common.language_model import LanguageModel
from thinwire.common.language_model.kv_pool import PAGE_TOKENS, KvPool

TEXTS = [[int(n) for n in np.random.default_rng(seed).integers(0, VOCABULARY_SIZE, 400)] for seed in range(4)]
PACKING = ("GPT2", "Llama", "Qwen2")
"""Kinds whose attention goes through transformers' registry."""


def pooled(
    folder: str, *, sessions: int = 4, pages: int | None = None, dtype: str = "float32"
) -> LanguageModel:
    """A model with a pool, of `pages` pages where that is said."""
    model = torch_device.load_on_device(folder, dtype=dtype)
    model.pool_sequences(sessions=sessions)
    if pages is not None:
        model.pool_sequences(sessions=sessions, kv_bytes=pages * pool_of(model).page_bytes)
    return model


def pool_of(model: LanguageModel) -> KvPool:
    """The pool, which is there."""
    assert model.kv_pool is not None
    return model.kv_pool


def rows_of(answer: Extended) -> np.ndarray:
    """The rows, which are no error."""
    assert not isinstance(answer, Exception), answer
    return answer


@pytest.mark.parametrize("kind", FULL_ATTENTION)
def test_sequences_of_different_lengths_score_together_as_alone(kind: str, tmp_path: Path) -> None:
    """Prompts, rounds with rejections and single tokens share passes; every row is a fresh pass's."""
    folder = save_checkpoint(tmp_path / kind, kind)
    expected = [fresh_logits(folder, text)[:, :VOCABULARY_SIZE] for text in TEXTS]
    model = pooled(folder)
    sequences = [model.open_sequence() for _ in TEXTS]
    kept = [0, 0, 0, 0]
    for step in range(12):
        requests, ends = [], []
        for n, (sequence, text) in enumerate(zip(sequences, TEXTS, strict=True)):
            if (step + n) % 4 == 3:
                continue  # not in this pass
            sequence.truncate(kept[n])
            good = (37, 1, 5, 90)[(step * 3 + n) % 4] if kept[n] < 300 else 1
            rejected = [(text[kept[n] + good] + 1) % VOCABULARY_SIZE] * (n if step % 2 else 0)
            requests.append(
                ExtendRequest(sequence, text[kept[n] : kept[n] + good] + rejected, 1 + len(rejected))
            )
            kept[n] += good
            ends.append((n, kept[n]))
        for (n, end), answer in zip(ends, model.extend_batch(requests), strict=True):
            np.testing.assert_allclose(rows_of(answer)[0], expected[n][end - 1], atol=2e-5)

    assert model.packs == (kind in PACKING)
    assert min(kept) > 100


def test_scattered_pages_score_as_pages_in_a_row(tmp_path: Path) -> None:
    """Two sequences that grow into each other are gathered inside the attention, and nothing else changes."""
    folder = save_checkpoint(tmp_path / "m", "Llama")
    model = pooled(folder, pages=8)
    sequences = [model.open_sequence() for _ in range(3)]
    for start in range(0, 2 * PAGE_TOKENS, 32):
        answers = model.extend_batch(
            [ExtendRequest(s, t[start : start + 32], 1) for s, t in zip(sequences, TEXTS, strict=False)]
        )
    sequences[1].close()
    rows = sequences[0].extend(TEXTS[0][2 * PAGE_TOKENS : 6 * PAGE_TOKENS - 5], logit_rows=3)

    assert pool_of(model).gathered_bytes > 0
    assert pool_of(model).free_bytes == 0
    np.testing.assert_allclose(rows, fresh_logits(folder, TEXTS[0][: 6 * PAGE_TOKENS - 5])[-3:], atol=2e-5)
    np.testing.assert_allclose(
        rows_of(answers[2])[0], fresh_logits(folder, TEXTS[2][: 2 * PAGE_TOKENS])[-1], atol=2e-5
    )


@pytest.mark.parametrize("kind", ["Llama", "GPTNeo"])
def test_what_is_copied_for_the_cache_grows_with_the_block_and_not_with_the_context(
    kind: str, tmp_path: Path
) -> None:
    """A block of five tokens behind 20 and behind 380 tokens: the same bytes, five tokens' worth."""
    model = pooled(save_checkpoint(tmp_path / "m", kind))
    pool = pool_of(model)
    copied = []
    for length in (20, 380):
        sequence, other = model.open_sequence(), model.open_sequence()
        sequence.extend(TEXTS[0][:length], logit_rows=1)
        other.extend(TEXTS[1][:length], logit_rows=1)
        before = pool.written_bytes
        model.extend_batch([ExtendRequest(sequence, TEXTS[2][:5], 5), ExtendRequest(other, TEXTS[3][:5], 5)])
        copied.append(pool.written_bytes - before)
        sequence.close()
        other.close()

    assert copied == [10 * pool.token_bytes] * 2
    assert pool.gathered_bytes == 0


def test_nan_in_one_sequence_is_that_sequences_error_alone(tmp_path: Path) -> None:
    """A token whose embedding is NaN poisons the sequence it is in; the others score as ever."""
    folder = save_checkpoint(tmp_path / "sick", "Llama", tie_word_embeddings=False)
    model = pooled(folder)
    with torch.no_grad():
        model.module.get_input_embeddings().weight[7] = float("nan")
    texts = [[1, 2, 3], [4, 7, 5], [5, 6, 8, 9]]
    sequences = [model.open_sequence() for _ in texts]
    answers = model.extend_batch(
        [ExtendRequest(s, text, 2) for s, text in zip(sequences, texts, strict=True)]
    )

    assert model.packs
    assert isinstance(answers[1], NonFiniteLogitsError)
    assert "in row 0 of 2 (after position 1) the logit of id 0 is nan" in answers[1].message
    for n in (0, 2):
        np.testing.assert_allclose(
            rows_of(answers[n]), fresh_logits(folder, texts[n])[-2:, :VOCABULARY_SIZE], atol=2e-5
        )


def test_a_pool_that_is_full_refuses_one_sequence_and_serves_the_others(tmp_path: Path) -> None:
    """The refused sequence is as it was, and goes on once another one is closed."""
    folder = save_checkpoint(tmp_path / "m", "Llama")
    model = pooled(folder, pages=3)
    big, small = model.open_sequence(reserve_tokens=PAGE_TOKENS + 1), model.open_sequence()
    text = TEXTS[0][:PAGE_TOKENS]
    small.extend(text, logit_rows=1)
    answers = model.extend_batch([ExtendRequest(small, [1], 1), ExtendRequest(big, TEXTS[1][:9], 1)])
    refused = answers[0]

    assert isinstance(refused, ResourceExhaustedError)
    assert refused.message == (
        "1 more pages of KV memory are asked for; expected at most the 0 free ones of 3."
    )
    assert small.length == PAGE_TOKENS
    np.testing.assert_allclose(rows_of(answers[1])[0], fresh_logits(folder, TEXTS[1][:9])[-1], atol=2e-5)
    with pytest.raises(ResourceExhaustedError):
        model.open_sequence(reserve_tokens=1)

    big.close()
    row = small.extend([1], logit_rows=1)
    np.testing.assert_allclose(row[0], fresh_logits(folder, [*text, 1])[-1], atol=2e-5)


def test_truncating_and_closing_give_the_pages_back(tmp_path: Path) -> None:
    """What a rejection or an end frees is free at once."""
    model = pooled(save_checkpoint(tmp_path / "m", "Llama"), pages=6)
    pool = pool_of(model)
    sequence: CachedSequence = model.open_sequence()
    sequence.extend(TEXTS[0][: 4 * PAGE_TOKENS], logit_rows=1)
    free = [pool.free_bytes]
    sequence.truncate(PAGE_TOKENS + 1)
    free.append(pool.free_bytes)
    sequence.close()
    free.append(pool.free_bytes)

    assert free == [2 * pool.page_bytes, 4 * pool.page_bytes, pool.bytes]


def test_the_pool_has_the_size_that_was_asked_for(tmp_path: Path) -> None:
    """Whole pages within the budget; without one, the context (here shorter than 2048) of every session."""
    folder = save_checkpoint(tmp_path / "m", "Llama")
    model = pooled(folder, sessions=3)
    pool = pool_of(model)
    token_bytes = 2 * 2 * (2 * 8) * 4  # layers, keys and values, heads of 8, float32
    assert pool.token_bytes == token_bytes
    assert pool.bytes == 3 * 512 * token_bytes
    assert sum(t.numel() * t.element_size() for t in (*pool.keys, *pool.values)) == pool.bytes

    model.pool_sequences(sessions=3, kv_bytes=3 * pool.page_bytes - 1)
    assert pool_of(model).bytes == 2 * pool.page_bytes
    with pytest.raises(ConfigError, match=f"kv_bytes is 5; expected at least {pool.page_bytes}, one page"):
        model.pool_sequences(sessions=3, kv_bytes=5)


def test_a_pool_smaller_than_the_context_bounds_a_sequence(tmp_path: Path) -> None:
    """What would never fit, however many sequences ended, is told beforehand; what is told fits."""
    folder = save_checkpoint(tmp_path / "m", "Llama")
    assert pooled(folder, pages=8).context_length == 512
    model = pooled(folder, pages=2)
    assert model.context_length == 2 * PAGE_TOKENS

    model.open_sequence().extend(TEXTS[0][: model.context_length], logit_rows=1)
    assert pool_of(model).free_bytes == 0


def test_transformers_own_generation_goes_on_beside_the_pool(tmp_path: Path) -> None:
    """The attention function is plain attention where no packed pass is under way."""
    folder = save_checkpoint(tmp_path / "m", "Llama")
    ids = torch.tensor([TEXTS[0][:10], TEXTS[1][:10]], device=torch_device.name)
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    plain = torch_device.load_on_device(folder).module.generate(
        ids, attention_mask=torch.ones_like(ids), **options
    )
    beside = pooled(folder).module.generate(ids, attention_mask=torch.ones_like(ids), **options)

    assert plain.tolist() == beside.tolist()
