"""Lays out a model's weights for products with a few rows, which drafting and verifying mostly are."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def lay_out_for_few_rows(model: Any) -> None:
    """
    Store every linear layer's weight by columns, in place; shapes, values and ties stay as they are.

    With x of few rows, x Wᵀ is then a product of two plain matrices, for which the CPU's BLAS has the better
    kernels (docs/decisions/0006-weights-by-columns.md). A tied embedding is read with a stride from then on.

    Args:
        model: a torch module; only its float32 weights on the CPU are touched, the others gain nothing.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            weight = module.weight.data
            if weight.device.type == "cpu" and weight.dtype == torch.float32:
                module.weight.data = weight.t().contiguous().t()
