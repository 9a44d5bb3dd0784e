"""One step of training: forward and backward of either model or both, and the update."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from training.losses import target_and_draft
from training.model import Llama

LABEL_SHARE = 0.3
"""Weight of the label's cross-entropy in the draft's early loss."""
VARIATION_SHARE = 0.9
"""Weight of total variation in the draft's late loss."""


def target_step(target: Llama, batch: Tensor) -> dict[str, Tensor]:
    """One step of the target alone; gradients are left in the parameters, as by the other steps."""
    return _step(target, None, batch)


def draft_step(
    target: Llama, draft: Llama, batch: Tensor, *, late: bool, temperature: float | None
) -> dict[str, Tensor]:
    """One step of the draft; `temperature`: that of the batch where the target wrote it, else None."""
    return _step(
        target,
        draft,
        batch,
        train_target=False,
        label_share=0.0 if late or temperature is not None else LABEL_SHARE,
        variation_share=VARIATION_SHARE if late else 0.0,
        temperature=temperature or 1.0,
    )


def joint_step(target: Llama, draft: Llama, batch: Tensor, agreement: float) -> dict[str, Tensor]:
    """One step of both models, each towards the other; the target learns the text too."""
    return _step(target, draft, batch, variation_share=VARIATION_SHARE, agreement=agreement)


def _step(
    target: Llama, draft: Llama | None, batch: Tensor, *, train_target: bool = True, **weights: float
) -> dict[str, Tensor]:
    """Forward of the models that are given, backward of those that learn; `weights`: of the losses."""
    labels = batch[:, 1:].reshape(-1)
    with half_precision(batch):
        with torch.set_grad_enabled(train_target):
            hidden = target(batch[:, :-1])
        draft_hidden = None if draft is None else draft(batch[:, :-1])
    out = target_and_draft(
        hidden.detach().flatten(0, 1),
        target.head.detach(),
        labels,
        None if draft_hidden is None else draft_hidden.detach().flatten(0, 1),
        None if draft is None else draft.head.detach(),
        train_target=train_target,
        **weights,
    )
    if train_target:
        _backward(target, hidden, out["hidden_grad"], out["head_grad"])
    if draft is not None:
        _backward(draft, draft_hidden, out["draft_hidden_grad"], out["draft_head_grad"])
    return out


def _backward(model: Llama, hidden: Any, hidden_grad: Tensor, head_grad: Tensor) -> None:
    """From the final hidden states on; the output head's gradient is added to the embedding's."""
    hidden.backward(hidden_grad.view_as(hidden))
    embedding: Any = model.head
    embedding.grad = head_grad if embedding.grad is None else embedding.grad.add_(head_grad)


def half_precision(batch: Tensor) -> AbstractContextManager[Any]:
    """On an accelerator the layers' products are in bfloat16."""
    kind = batch.device.type
    return nullcontext() if kind == "cpu" else torch.autocast(kind, torch.bfloat16)


def apply(model: Llama, model_optimizers: list[torch.optim.Optimizer], share: float = 1.0) -> None:
    """Clip, update at this share of every group's peak rate, clear."""
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in model_optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
