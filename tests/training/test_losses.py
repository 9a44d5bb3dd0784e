"""The gradients that the pair is trained with are those torch finds for the losses as written down."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.losses import target_and_draft

POSITIONS, HIDDEN, DRAFT_HIDDEN, VOCABULARY = 9, 5, 4, 7


def leaf(*shape: int) -> Tensor:
    """A random parameter."""
    return torch.randn(*shape).requires_grad_()


@pytest.mark.parametrize(
    ("label_share", "variation_share", "temperature", "agreement"),
    [(0.3, 0.0, 1.0, 0.0), (0.0, 0.9, 1.0, 2.0), (0.0, 0.5, 0.6, 0.0), (0.2, 1.0, 1.0, 0.5)],
)
def test_gradients_are_those_of_the_losses(
    label_share: float, variation_share: float, temperature: float, agreement: float
) -> None:
    """Gradients of hidden states and output matrices; a distance is moved by its own side only."""
    torch.manual_seed(3)
    hidden, head = leaf(POSITIONS, HIDDEN), leaf(VOCABULARY, HIDDEN)
    draft_hidden, draft_head = leaf(POSITIONS, DRAFT_HIDDEN), leaf(VOCABULARY, DRAFT_HIDDEN)
    labels = torch.randint(VOCABULARY, (POSITIONS,))
    out = target_and_draft(
        hidden.detach(),
        head.detach(),
        labels,
        draft_hidden.detach(),
        draft_head.detach(),
        label_share,
        variation_share,
        temperature,
        agreement=agreement,
    )

    log_p = torch.log_softmax(hidden @ head.T / temperature, -1)
    log_q = torch.log_softmax(draft_hidden @ draft_head.T / temperature, -1)
    p, q = log_p.exp(), log_q.exp()
    cross_entropy = -log_p.gather(1, labels[:, None]).sum()
    draft_cross_entropy = -log_q.gather(1, labels[:, None]).sum()

    def distance(own: Tensor, other: Tensor) -> Tensor:
        return (1 - torch.minimum(own, other.detach()).sum(-1)).sum()

    divergence = -(p.detach() * log_q).sum()
    (temperature / POSITIONS * (cross_entropy + agreement * distance(p, q))).backward()
    of_draft = label_share * draft_cross_entropy + (1 - label_share) * divergence
    of_draft = (1 - variation_share) * of_draft + variation_share * distance(q, p)
    (temperature / POSITIONS * of_draft).backward()

    assert float(out["target_loss"]) == pytest.approx(float(cross_entropy.detach()), rel=1e-5)
    assert float(out["draft_loss"]) == pytest.approx(float(draft_cross_entropy.detach()), rel=1e-5)
    assert float(out["accept"]) == pytest.approx(POSITIONS - float(distance(q, p).detach()), rel=1e-5)
    for name, parameter in {
        "hidden_grad": hidden,
        "head_grad": head,
        "draft_hidden_grad": draft_hidden,
        "draft_head_grad": draft_head,
    }.items():
        torch.testing.assert_close(out[name], parameter.grad, rtol=1e-4, atol=1e-6)
