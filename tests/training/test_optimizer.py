"""Which parameter is updated by which optimizer, and that a small model learns with them."""

from __future__ import annotations

import torch

from training.model import Llama, Shape
from training.optimizer import optimizers
from training.steps import apply, target_step

SMALL = Shape(hidden=32, layers=2, intermediate=48, heads=2, head_dim=16, vocabulary=64)
STEPS = 60


def test_every_parameter_has_one_optimizer_and_muon_the_matrices_of_the_layers() -> None:
    """The tied embedding and the norms are AdamW's."""
    model = Llama(SMALL)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    muon, adam = (
        [names[id(parameter)] for group in one.param_groups for parameter in group["params"]]
        for one in optimizers(model, 0.01, 0.006)
    )

    assert sorted(muon + adam) == sorted(names.values())
    assert muon == [name for name in names.values() if "_proj" in name]


def test_a_small_model_learns_a_sequence_by_heart() -> None:
    """The loss of a fresh model is that of a uniform guess, ln 64 = 4.16 nats; it falls below a tenth."""
    torch.manual_seed(1)
    model = Llama(SMALL)
    both = optimizers(model, 0.01, 0.006)
    batch = torch.randint(0, SMALL.vocabulary, (4, 33))
    for _ in range(STEPS):
        loss = target_step(model, batch)["target_loss"] / batch[:, 1:].numel()
        apply(model, both)

    assert float(loss) < 0.4
