"""Muon for the matrices of the layers, AdamW for the embedding and the norms.

Muon replaces a matrix's momentum by its nearest semi-orthogonal matrix, so every direction of
the update has the same size. At this scale it needs about two thirds of AdamW's tokens for the
same loss, and costs about a tenth of a step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Coefficients of the quintic Newton-Schulz steps (Polar Express, arXiv 2505.16932): each pair of
# rows is the best odd quintic for the range of singular values that the step before leaves.
STEPS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
)
MOMENTUM = 0.95


def orthogonalised(momentum: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrices, approximately; float32 [batch, rows, columns]."""
    x = momentum
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.01 + 1e-7)
    for a, b, c in STEPS:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon over 2-D parameters; those of one shape are orthogonalised together."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One update; `closure` is not used."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                gradients, momenta = [], []
                for parameter in parameters:
                    assert parameter.grad is not None
                    state = self.state[parameter]
                    if not state:
                        state["momentum"] = torch.zeros_like(parameter)
                    gradients.append(parameter.grad)
                    momenta.append(state["momentum"])
                torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
                # Nesterov: look one step ahead along the momentum.
                updates = torch._foreach_lerp(gradients, momenta, MOMENTUM)
                # Root mean square of the update like AdamW's (0.2), whatever the shape.
                scale = 0.2 * max(shape) ** 0.5
                new = orthogonalised(torch.stack(updates))
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, list(new.unbind()), alpha=-group["lr"] * scale)


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
    # The short second-moment memory (0.95) suits runs of a few thousand steps.
    adam = torch.optim.AdamW(
        [{"params": embeddings, "weight_decay": 0.01}, {"params": norms, "weight_decay": 0.0}],
        lr=embedding_lr,
        betas=(0.9, 0.95),
        eps=1e-10,
        fused=True,
    )
    result: list[torch.optim.Optimizer] = [Muon(matrices, matrix_lr, 0.1), adam]
    for optimizer in result:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return result
