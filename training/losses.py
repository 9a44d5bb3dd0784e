"""Losses through the tied output head, computed with their gradients in one pass.

The vocabulary is 32 times the target model's width, so the logits are by far the largest
tensor of a step. They are made in chunks (on the CPU such that stay in cache), used for the
value and the gradient of both models' losses at once, and overwritten.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 256  # positions; 256 x 8192 float32 are 8 MB
ACCELERATOR_CHUNK = 16384  # 0.5 GB


def target_and_draft(
    hidden: Tensor,
    head: Tensor,
    labels: Tensor,
    draft_hidden: Tensor | None,
    draft_head: Tensor | None,
    label_share: float = 0.0,
    variation_share: float = 0.0,
    temperature: float = 1.0,
    train_target: bool = True,
    agreement: float = 0.0,
) -> dict[str, Tensor]:
    """Cross-entropy of the target model and the distillation loss of the draft model.

    Args:
        hidden: final hidden states of the target, float32 [positions, hidden], no graph needed.
        head: the target's output matrix, float32 [vocabulary, hidden].
        labels: the next tokens, int64 [positions].
        draft_hidden: the draft's final hidden states, or None for no draft loss.
        draft_head: the draft's output matrix.
        label_share: weight of the label's cross-entropy in the draft's loss; the rest is
            KL(target || draft).
        variation_share: how much of the draft's gradient comes from the total variation
            between the two distributions in place of the loss above.
        temperature: of both distributions.
        train_target: whether the target's gradients are wanted.
        agreement: weight, in the target's loss, of its total variation from the draft.

    Returns:
        float32 sums over positions `target_loss`, `draft_loss` (both cross-entropies with the
        labels, nats), `accept` (sum of 1 - total variation), and the gradients of the mean
        losses times the temperature: `hidden_grad`, `head_grad`, `draft_hidden_grad`,
        `draft_head_grad`. All on the device of `hidden`.
    """
    positions = hidden.shape[0]
    scale = 1.0 / positions
    names = ("target_loss", "draft_loss", "accept")
    out: dict[str, Tensor] = {name: torch.zeros((), device=hidden.device) for name in names}
    chunk = CHUNK if hidden.device.type == "cpu" else ACCELERATOR_CHUNK
    if train_target:
        out["hidden_grad"] = torch.empty_like(hidden)
        out["head_grad"] = torch.zeros_like(head)
    if draft_hidden is not None and draft_head is not None:
        out["draft_hidden_grad"] = torch.empty_like(draft_hidden)
        out["draft_head_grad"] = torch.zeros_like(draft_head)
    for start in range(0, positions, chunk):
        at = slice(start, min(start + chunk, positions))
        label = labels[at, None]
        h = hidden[at]
        p = torch.softmax((h / temperature) @ head.T, dim=-1)
        out["target_loss"] -= p.gather(1, label).clamp_min(1e-20).log().sum()
        if draft_hidden is not None and draft_head is not None:
            g = draft_hidden[at]
            q = torch.softmax((g / temperature) @ draft_head.T, dim=-1)
            out["draft_loss"] -= q.gather(1, label).clamp_min(1e-20).log().sum()
            overlap = torch.minimum(p, q)
            out["accept"] += overlap.sum()
            if variation_share:
                variation = variation_grad(q, p)
            if agreement:
                towards_draft = variation_grad(p, q)
            grad = torch.sub(q, p, alpha=1 - label_share)
            grad.scatter_add_(1, label, torch.full_like(grad[:, :1], -label_share))
            if variation_share:
                grad.mul_(1 - variation_share).add_(variation, alpha=variation_share)
            grad.mul_(scale)
            torch.mm(grad, draft_head, out=out["draft_hidden_grad"][at])
            out["draft_head_grad"].addmm_(grad.T, g)
        if train_target:
            p.scatter_add_(1, label, torch.full_like(p[:, :1], -1.0))
            if agreement and draft_hidden is not None:
                p.add_(towards_draft, alpha=agreement)
            p.mul_(scale)
            torch.mm(p, head, out=out["hidden_grad"][at])
            out["head_grad"].addmm_(p.T, h)
    return out


def variation_grad(own: Tensor, other: Tensor) -> Tensor:
    """
    d(1 - sum min(own, other)) / d(logits of own): -own * (below - <below, own>), where `below` marks the
    tokens that `own` gives less than `other` does.

    Both float32 [positions, vocabulary], rows sum to 1.
    """
    below = (own < other).float()
    mean = (below * own).sum(dim=-1, keepdim=True)
    return own * (mean - below)
