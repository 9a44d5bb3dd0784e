"""
Lays out a model's weights for products with a few rows, which drafting and verifying mostly are.

Such a product reads every weight once and is as fast as they come from memory, so they are kept in 16 bits
where that loses nothing (docs/decisions/0011-weights-in-16-bits.md).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_Product = Callable[[torch.Tensor], torch.Tensor]
SMALL_WEIGHT = 2**20
"""Numbers of a weight up to which a product's work is less than sharing it out among threads."""


class HalfWeightLinear(nn.Module):
    """
    y = x Wᵀ + b of a float32 x, added up in float32, with W kept as float16 numbers times a power of two.

    Args:
        weight: (out, in) float32 on the CPU; each number is a float16 times 2 to the power of -`exponent`.
        bias: (out,) float32, or None.
        exponent: see there.

    Raises:
        RuntimeError: this CPU has no such product.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, exponent: int) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        scaled = weight.contiguous() * 2.0**exponent
        self._product = _small_product(scaled) if weight.numel() <= SMALL_WEIGHT else _shared_product(scaled)
        # A tensor: a number would be made into one in every call.
        self._scale = torch.tensor(2.0**-exponent)
        self._scaled = exponent != 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) float32 → (..., out) float32."""
        product = self._product(x)
        if self.bias is not None:
            return torch.addcmul(self.bias, product, self._scale)
        return product.mul_(self._scale) if self._scaled else product

    @property
    def weight(self) -> torch.Tensor:
        """W, (out, in) float32; made anew, slowly, for a model whose own code asks for it."""
        # In each of these sums one summand is not zero, so nothing is rounded.
        return self._product(torch.eye(self.in_features)).mul_(self._scale).t()


def lay_out_for_few_rows(model: Any) -> None:
    """
    Make the products of a model's linear layers fast for a few rows of input, in place.

    A weight whose numbers all are float16 numbers, but for a power of two, is kept as such
    (`HalfWeightLinear`): every weight of a checkpoint in 16 bits, as a rule.
    Another one is stored by columns: x Wᵀ is then a product of two plain matrices, for which the CPU's BLAS
    has the better kernels; a tied embedding is read with a stride from then on.
    Either way the product is of the same numbers, added up in float32.

    Args:
        model: a torch module; only its float32 weights on the CPU are touched, the others gain nothing.
    """
    packs = _packs_halves()
    # Of the layers none is held here, so that each lets go of its float32 numbers before the next one's turn.
    places = [
        (parent, name)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, nn.Linear)
    ]
    for parent, name in places:
        layer = getattr(parent, name)
        weight = layer.weight.data
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            continue
        exponent = half_exponent(weight) if packs and type(layer) is nn.Linear else None
        if exponent is None:
            layer.weight.data = weight.t().contiguous().t()
        else:
            bias = None if layer.bias is None else layer.bias.data
            setattr(parent, name, HalfWeightLinear(weight, bias, exponent))


def half_exponent(weight: torch.Tensor) -> int | None:
    """
    The power of two by which a float32 tensor is all float16 numbers; None if there is none.

    0 if it will do, else the largest one: the bfloat16 numbers of a weight reach beyond float16's range but
    mostly fit in one of the same width.
    """
    largest = float(weight.abs().max()) if weight.numel() else 0.0
    if not math.isfinite(largest):
        return None
    for exponent in (0, 15 - math.frexp(largest)[1]):
        if abs(exponent) > 100:  # float32 holds no such power of two, or its inverse
            break
        scaled = weight * 2.0**exponent
        if torch.equal(scaled.half().float(), scaled) and torch.equal(scaled * 2.0**-exponent, weight):
            return exponent
    return None


def _small_product(weight: torch.Tensor) -> _Product:
    """x Wᵀ for a (out, in) of float16 numbers, on one thread and with the least to do around it."""
    packed = torch.fbgemm_pack_gemm_matrix_fp16(weight)
    product = torch.fbgemm_linear_fp16_weight_fp32_activation
    return lambda x: product(x, packed, None)


def _shared_product(weight: torch.Tensor) -> _Product:
    """The same, shared out among torch's threads; some 30 µs a call go into that."""
    packed = torch.ops.quantized.linear_prepack_fp16(weight, None)
    product = torch.ops.quantized.linear_dynamic_fp16.default
    return lambda x: product(x, packed)


def _packs_halves() -> bool:
    """Whether this CPU and this torch have both products."""
    one = torch.ones(1, 1)
    with warnings.catch_warnings():
        # Said once a process: that the small product's functions may go. Then weights lie by columns again.
        warnings.simplefilter("ignore")
        try:
            return all(product(one)(one).item() == 1.0 for product in (_small_product, _shared_product))
        except (AttributeError, RuntimeError):
            return False
