"""The text a target writes for its draft to learn from is that of its passes without a cache."""

from __future__ import annotations

import torch

from training.model import Llama, Shape
from training.own_text import TEMPERATURES, OwnText, write

SHAPE = Shape(hidden=16, layers=2, intermediate=24, heads=2, head_dim=8, vocabulary=11)
ROWS, LENGTH = 4000, 5


def target() -> Llama:
    """Random, with laws that are not flat."""
    torch.manual_seed(1)
    model = Llama(SHAPE)
    with torch.no_grad():
        model.head.mul_(15)
    return model


def test_the_text_written_has_the_models_law() -> None:
    """
    Every token's count against its probability in a pass of the whole row, at another temperature than 1.

    A count is a sum of independent draws: six standard deviations are exceeded by chance once in 1e8 tests.
    """
    model, temperature = target(), 0.6
    prompts = torch.tensor([[3, 1, 4]]).expand(ROWS, -1)
    ids = write(model, prompts, LENGTH, temperature)
    with torch.no_grad():
        laws = torch.softmax(model(ids[:, :-1]) @ model.head.T / temperature, -1)

    assert torch.equal(ids[:, :3], prompts)
    for position in (3, 4):
        law = laws[:, position - 1]
        counts = torch.bincount(ids[:, position], minlength=SHAPE.vocabulary)
        variance = (law * (1 - law)).sum(0)
        assert (variance.sqrt() > 5).sum() >= 3
        assert bool(((counts - law.sum(0)).abs() <= 6 * variance.sqrt() + 1).all())


def test_every_batch_comes_in_its_turn_with_its_temperature() -> None:
    """What is written is cut into batches; a turn gives each once."""
    own = OwnText(rows=2)
    model = target()
    for _ in range(3):
        own.add(model, torch.zeros(4, 2, dtype=torch.long), 4)
    given = [own.batch() for _ in range(12)]
    turns = [{(tuple(ids.flatten().tolist()), t) for ids, t in turn} for turn in (given[:6], given[6:])]

    assert own.tokens == 3 * 4 * 4
    assert turns[0] == turns[1]
    assert sorted(t for _, t in given[:6]) == sorted([*TEMPERATURES[:3]] * 2)
