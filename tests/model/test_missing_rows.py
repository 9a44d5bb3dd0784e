"""A tokenizer may define ids that its model has no rows for: they cannot come, all else is as ever."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import torch_device
from loopback import Generated, generate, loopback, make_request
from model.checkpoints import VOCABULARY_SIZE, fresh_logits, save_checkpoint
from thinwire.common.errors import ConfigError, VocabularyMismatchError
from thinwire.common.language_model import LanguageModel
from thinwire.common.language_model.logits import ScoredModule

PADDING = "<|pad|>"
V = VOCABULARY_SIZE + 1
"""Ids with the padding token, which most models here have no row for."""
IDS = [65, 66, 67, 68]


def folder_with_padding(path: Path, *, rows: int = VOCABULARY_SIZE, seed: int = 0) -> str:
    """A checkpoint whose tokenizer got a padding token, without a resizing of the model."""
    folder = save_checkpoint(path, "Llama", seed=seed, vocab_size=rows)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": PADDING})
    tokenizer.save_pretrained(folder)
    return folder


def greedy(folder: str, prompt_ids: list[int], tokens: int) -> tuple[int, ...]:
    """Transformers' own greedy text."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).to(torch_device.name).eval()
    ids = torch.tensor([prompt_ids], device=torch_device.name)
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens, pad_token_id=0
    )
    return tuple(out[0, len(prompt_ids) :].tolist())


async def text(target: LanguageModel, draft: LanguageModel, prompt: str) -> Generated:
    """Sixteen greedy tokens over both daemons, the cloud told of its rows as its command does."""
    async with loopback(
        target,
        draft,
        draft.vocabulary,  # type: ignore[arg-type]
        target_vocabulary=target.vocabulary,  # type: ignore[arg-type]
        model_rows=target.model_rows,
        eos_token_ids=target.eos_token_ids,
    ) as pair:
        return await generate(pair.client, make_request(prompt, temperature=0.0, max_tokens=16))


@pytest.mark.parametrize("pooled", [False, True])
def test_an_id_without_a_row_has_probability_zero(pooled: bool, tmp_path: Path) -> None:
    """V counts it; all other logits are the model's; as a drafted token it changes nothing before it."""
    folder = folder_with_padding(tmp_path / "m")
    model = torch_device.load_on_device(folder)
    if pooled:
        model.pool_sequences(sessions=2)
    assert (model.vocabulary_size, model.model_rows) == (V, VOCABULARY_SIZE)
    sequence = model.open_sequence()
    rows = sequence.extend([*IDS, V - 1, 65], logit_rows=6)
    assert rows.shape == (6, V)
    assert (rows[:, -1] == -np.inf).all()
    np.testing.assert_allclose(rows[:4, :-1], fresh_logits(folder, IDS), atol=1e-3)
    sequence.truncate(4)
    again = sequence.extend([69], logit_rows=1)
    np.testing.assert_allclose(again[0, :-1], fresh_logits(folder, [*IDS, 69])[-1], atol=1e-3)


def test_rows_of_the_input_count_as_well(tmp_path: Path) -> None:
    """An id that can come out must be fed next."""
    folder = save_checkpoint(tmp_path / "m", "Llama")
    model = torch_device.load_on_device(folder)
    embedding = model.module.get_input_embeddings()
    embedding.weight = torch.nn.Parameter(embedding.weight[:200].detach())
    model.scored = ScoredModule(model.module, "m", model.vocabulary_size)
    assert model.model_rows == 200
    row = model.open_sequence().extend([1, 250], logit_rows=1)[0]
    assert np.isfinite(row[:200]).all()
    assert (row[200:] == -np.inf).all()


async def test_a_pair_whose_tokenizer_has_one_id_too_many_is_served(tmp_path: Path) -> None:
    """The text is the target's own."""
    folders = [folder_with_padding(tmp_path / name, seed=n) for n, name in enumerate(("t", "d"))]
    target, draft = (torch_device.load_on_device(folder) for folder in folders)
    target.pool_sequences(sessions=2)
    generated = await text(target, draft, "ab")
    assert generated.token_ids == greedy(folders[0], target.vocabulary.encode("ab"), 16)


async def test_a_prompt_with_an_id_that_the_target_cannot_be_fed_is_refused(tmp_path: Path) -> None:
    """The id and the rows are named; nothing is held."""
    target = torch_device.load_on_device(folder_with_padding(tmp_path / "t"))
    draft = torch_device.load_on_device(folder_with_padding(tmp_path / "d", rows=V))
    with pytest.raises(ConfigError, match=r"token id 257, .* the target model has no row .* below 257\.$"):
        await text(target, draft, f"ab{PADDING}")


async def test_a_draft_without_a_row_is_fed_another_id_in_its_place(tmp_path: Path) -> None:
    """A prompt of the target's may hold what the draft does not know; the text is the target's own."""
    folder = folder_with_padding(tmp_path / "t", rows=V)
    target = torch_device.load_on_device(folder)
    draft = torch_device.load_on_device(folder_with_padding(tmp_path / "d", seed=1))
    target.pool_sequences(sessions=2)
    prompt = f"ab{PADDING}cd"
    generated = await text(target, draft, prompt)
    assert V - 1 in target.vocabulary.encode(prompt)
    assert generated.token_ids == greedy(folder, target.vocabulary.encode(prompt), 16)
    assert generated.finished.statistics.drafted_tokens > 0


async def test_a_draft_may_propose_what_the_target_has_no_row_for(tmp_path: Path) -> None:
    """Every such token is rejected; in a shared pass nothing else is touched."""
    folder = folder_with_padding(tmp_path / "t")
    target = torch_device.load_on_device(folder)
    proposing = folder_with_padding(tmp_path / "d", rows=V)
    prompts = ("ab", "xyz", "hello")
    ids = [target.vocabulary.encode(prompt) for prompt in prompts]
    weights = load_file(Path(proposing) / "model.safetensors")
    weights["lm_head.weight"][-1] = 100 * last_hidden_state(proposing, ids[0])
    save_file(weights, Path(proposing) / "model.safetensors", metadata={"format": "pt"})
    draft = torch_device.load_on_device(proposing)
    assert np.argmax(draft.open_sequence().extend(ids[0], logit_rows=1)[0]) == V - 1
    target.pool_sequences(sessions=2)
    for prompt, prompt_ids in zip(prompts, ids, strict=True):
        assert (await text(target, draft, prompt)).token_ids == greedy(folder, prompt_ids, 16)


def last_hidden_state(folder: str, token_ids: list[int]) -> torch.Tensor:
    """What the output layer sees after `token_ids`."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        return torch.as_tensor(model.model(torch.tensor([token_ids])).last_hidden_state[0, -1])


async def test_with_the_targets_tokenizer_the_draft_serves(tmp_path: Path) -> None:
    """Weights of one model, tokenizer of another: refused without, the target's own text with it."""
    folder = folder_with_padding(tmp_path / "t", rows=V)
    plain = save_checkpoint(tmp_path / "d", "Llama", seed=1)
    target = torch_device.load_on_device(folder)
    with pytest.raises(VocabularyMismatchError, match="expected 258 ids"):
        await text(target, torch_device.load_on_device(plain), "ab")
    draft = torch_device.load_on_device(plain, tokenizer_path=folder)
    assert draft.vocabulary.identity == target.vocabulary.identity
    generated = await text(target, draft, f"ab{PADDING}")
    assert generated.token_ids == greedy(folder, target.vocabulary.encode(f"ab{PADDING}"), 16)
