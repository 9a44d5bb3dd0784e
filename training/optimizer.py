"""Muon for the matrices of the layers, AdamW for the embedding and the norms.

Muon replaces a matrix's momentum by its nearest semi-orthogonal matrix, so every direction of
the update has the same size. At this scale it needs about two thirds of AdamW's tokens for the
same loss, and costs about a tenth of a step.
"""

from __future__ import annotations

import torch
from torch import nn


def optimizers(model: nn.Module, matrix_lr: float, embedding_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices and AdamW for everything else, with the peak rates."""
    matrices, embeddings, norms = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            norms.append(parameter)
        elif "embed_tokens" in name:
            embeddings.append(parameter)
        else:
            matrices.append(parameter)
    # Root mean square of the update like AdamW's (0.2), whatever the shape: arXiv 2502.16982.
    muon = torch.optim.Muon(matrices, lr=matrix_lr, adjust_lr_fn="match_rms_adamw")
    # The short second-moment memory (0.95) suits runs of a few thousand steps.
    adam = torch.optim.AdamW(
        [{"params": embeddings, "weight_decay": 0.01}, {"params": norms, "weight_decay": 0.0}],
        lr=embedding_lr,
        betas=(0.9, 0.95),
        eps=1e-10,
        fused=True,
    )
    result: list[torch.optim.Optimizer] = [muon, adam]
    for optimizer in result:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return result
