"""A pass over a tree of tokens scores each as the text that leads to it, and one path of it can be kept."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoints import VOCABULARY_SIZE, fresh_logits, save_checkpoint
from model.test_pooled_sequences import PACKING, TEXTS, pool_of, pooled, rows_of
from thinwire.common.causal_model import ExtendRequest
from thinwire.common.language_model.kv_pool import PAGE_TOKENS
from thinwire.common.language_model.packed_attention import PackedPass

TREE = (0, 1, 0, 3, 3, 2)
"""Parents: a trunk of two, a branch with two ends, and one more behind the trunk's second."""


def paths(parents: Sequence[int]) -> list[list[int]]:
    """The indices of the tokens that lead to each row, the row's own last."""
    found: list[list[int]] = [[]]
    for index, parent in enumerate(parents):
        found.append([*found[parent], index])
    return found


@pytest.mark.parametrize("kind", PACKING)
def test_every_token_of_a_tree_scores_as_behind_its_own_path(kind: str, tmp_path: Path) -> None:
    """In float64, across the edge of a page, beside a chain and another tree; then one path goes on."""
    folder = save_checkpoint(tmp_path / kind, kind)
    model = pooled(folder, dtype="float64")
    assert model.takes_trees
    prompts = [TEXTS[0][: PAGE_TOKENS - 3], TEXTS[1][:9], TEXTS[2][:5]]
    trees = [TREE, tuple(range(4)), (0, 0, 0)]
    nodes = [TEXTS[3][n * 10 : n * 10 + len(tree)] for n, tree in enumerate(trees)]
    sequences = [model.open_sequence() for _ in prompts]
    answers = model.extend_batch(
        [
            ExtendRequest(sequence, [*prompt, *ids], len(ids) + 1, tree)
            for sequence, prompt, ids, tree in zip(sequences, prompts, nodes, trees, strict=True)
        ]
    )
    for sequence, answer, prompt, ids, tree in zip(sequences, answers, prompts, nodes, trees, strict=True):
        for row, path in zip(rows_of(answer), paths(tree), strict=True):
            text = [*prompt, *(ids[index] for index in path)]
            expected = fresh_logits(folder, text, dtype=torch.float64)[-1, :VOCABULARY_SIZE]
            np.testing.assert_allclose(row, expected, atol=1e-10)
        longest = max(paths(tree), key=lambda path: (len(path), path))
        sequence.keep(len(prompt), [len(prompt) + index for index in longest])
        assert sequence.length == len(prompt) + len(longest)
        (row,) = sequence.extend([7], logit_rows=1)
        text = [*prompt, *(ids[index] for index in longest), 7]
        np.testing.assert_allclose(
            row, fresh_logits(folder, text, dtype=torch.float64)[-1, :VOCABULARY_SIZE], atol=1e-10
        )


def test_random_trees_one_after_the_other_leave_the_text_that_was_kept(tmp_path: Path) -> None:
    """Over scattered pages, with a path kept after each; no page is lost."""
    folder = save_checkpoint(tmp_path / "m", "Llama")
    model = pooled(folder, pages=8, dtype="float64")
    chance = random.Random(5)
    sequences = [model.open_sequence() for _ in range(3)]
    for start in range(0, 2 * PAGE_TOKENS, 32):
        model.extend_batch([ExtendRequest(s, TEXTS[0][start : start + 32], 1) for s in sequences])
    sequences.pop(1).close()
    sequence, text = sequences[0], TEXTS[0][: 2 * PAGE_TOKENS]
    while len(text) < 5 * PAGE_TOKENS:
        parents = [chance.randint(0, row) for row in range(chance.randint(1, 15))]
        ids = [chance.randrange(VOCABULARY_SIZE) for _ in range(len(parents) + 1)]
        rows = sequence.extend(ids, logit_rows=len(ids), parents=parents)
        row = chance.randrange(len(rows))
        path = paths(parents)[row]
        length = len(text) + 1
        text = [*text, ids[0], *(ids[1 + index] for index in path)]
        expected = fresh_logits(folder, text, dtype=torch.float64)[-1, :VOCABULARY_SIZE]
        np.testing.assert_allclose(rows[row], expected, atol=1e-10)
        if path:
            sequence.keep(length, [length + index for index in path])
        else:
            sequence.truncate(length)

    assert pool_of(model).gathered_bytes > 0
    for one in sequences:
        one.close()
    assert pool_of(model).free_bytes == pool_of(model).bytes


def test_a_model_that_scores_trees_otherwise_is_fed_chains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Here one whose attention does not see the mask's branches."""
    attend = PackedPass._attend_span

    def blind(self: PackedPass, layer: int, span: object, *rest: object) -> torch.Tensor:
        mask = span.mask  # type: ignore[attr-defined]
        if mask is not None:
            mask.copy_(torch.triu(torch.full_like(mask, float("-inf")), mask.shape[1] - mask.shape[0] + 1))
        return attend(self, layer, span, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(PackedPass, "_attend_span", blind)
    model = pooled(save_checkpoint(tmp_path / "m", "Llama"))

    assert model.packs
    assert not model.takes_trees
    assert "passes take no trees of hints" in caplog.text


def test_a_model_verified_alone_takes_no_trees(tmp_path: Path) -> None:
    """Nothing but chains reaches it."""
    assert not pooled(save_checkpoint(tmp_path / "m", "GPTNeo")).takes_trees
