"""How linear layers keep their weights: other memory, the same numbers."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import torch_device
from model.checkpoints import fresh_logits, save_checkpoint
from thinwire.common.language_model import weight_layout
from thinwire.common.language_model.weight_layout import HalfWeightLinear, half_exponent, lay_out_for_few_rows

on_the_cpu = pytest.mark.skipif("torch_device.name != 'cpu'", reason="other devices keep their weights")
HAS_PRODUCTS = weight_layout._packs_halves()
with_products = pytest.mark.skipif(not HAS_PRODUCTS, reason="weights lie by columns on this processor")
EPSILON = 2.0**-24
"""Of float32's rounding, relative."""


def linear_layers(module: Any) -> dict[str, Any]:
    """By name, of either kind."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | HalfWeightLinear)
    }


def plain(folder: str, dtype: str = "float32") -> Any:
    """As transformers loads it."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64")
    or not torch.backends.cpu.get_cpu_capability().startswith("AVX"),
    reason="the products are there for processors with AVX2",
)
def test_this_machine_has_the_products_of_16_bit_weights() -> None:
    """A torch that lost them would go on by columns, correct and slower."""
    assert HAS_PRODUCTS


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "GPTNeo"])
@pytest.mark.parametrize("weights", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("tied", [True, False])
def test_a_checkpoint_in_16_bits_is_kept_so_and_scores_as_before(
    kind: str, weights: torch.dtype, tied: bool, tmp_path: Path
) -> None:
    """Every layer's weight is the same to the last bit; the logits agree with transformers' to rounding."""
    folder = save_checkpoint(tmp_path / "m", kind, weights=weights, tie_word_embeddings=tied)
    model = torch_device.load_on_device(folder)
    expected = linear_layers(plain(folder))
    layers = linear_layers(model.module)

    assert list(layers) == list(expected)
    assert len(layers) > 7
    for name, layer in layers.items():
        assert isinstance(layer, HalfWeightLinear) == (HAS_PRODUCTS and torch_device.name == "cpu"), name
        assert torch.equal(layer.weight.cpu(), expected[name].weight), name
        assert (layer.bias is None) == (expected[name].bias is None)
        assert layer.bias is None or torch.equal(layer.bias.cpu(), expected[name].bias)

    ids = [3, 1, 4, 1, 5, 9, 2, 6]
    rows = fresh_logits(folder, ids)
    ours = model.open_sequence().extend(ids, logit_rows=8)
    assert abs(ours - rows[:, : ours.shape[1]]).max() < 1e-5 * abs(rows).max()


@on_the_cpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_other_float32_weights_lie_by_columns_and_ties_hold(dtype: str, tmp_path: Path) -> None:
    """The layout changes strides only; float64, which would lose by it, keeps its rows."""
    folder = save_checkpoint(tmp_path / "m", "Llama", tie_word_embeddings=True)
    module = torch_device.load_on_device(folder, dtype=dtype).module
    expected = linear_layers(plain(folder, dtype))
    layers = linear_layers(module)
    assert list(layers) == list(expected)
    assert len(layers) > 7
    for name, layer in layers.items():
        rows, columns = layer.weight.shape
        assert torch.equal(layer.weight, expected[name].weight)
        assert layer.weight.stride() == ((1, rows) if dtype == "float32" else (columns, 1))
    assert module.get_output_embeddings().weight is module.get_input_embeddings().weight


@on_the_cpu
def test_where_the_products_are_missing_every_weight_lies_by_columns(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on a processor that has none."""

    def missing(weight: torch.Tensor) -> Any:
        raise RuntimeError("Unsupported CPU")

    monkeypatch.setattr(weight_layout, "_small_product", missing)
    module = torch_device.load_on_device(
        save_checkpoint(tmp_path / "m", "Llama", weights=torch.bfloat16)
    ).module
    strides = [layer.weight.stride() for layer in linear_layers(module).values()]
    assert len(strides) > 7
    assert all(stride[0] == 1 for stride in strides)


@with_products
@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 64])
def test_a_product_is_added_up_in_float32(
    rows: int, bias: bool, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within float32's bound of the sum in float64, which 16-bit sums or inputs miss by far."""
    if not small:
        monkeypatch.setattr(weight_layout, "SMALL_WEIGHT", 0)
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(130, 96, generator=generator).bfloat16().float()
    b = torch.randn(130, generator=generator) if bias else None
    x = torch.randn(2, rows, 96, generator=generator)
    layer = HalfWeightLinear(weight, b, 12)

    exact = x.double() @ weight.double().t() + (0 if b is None else b.double())
    bound = 98 * EPSILON * (x.double().abs() @ weight.double().abs().t() + (0 if b is None else b.abs()))
    assert layer(x).shape == (2, rows, 130)
    assert layer(x).dtype == torch.float32
    assert ((layer(x) - exact).abs() <= bound).all()
    rounded = x.bfloat16().double() @ weight.double().t() + (0 if b is None else b.double())
    assert not ((rounded - exact).abs() <= bound).all()


@pytest.mark.parametrize(
    ("numbers", "exponent"),
    [
        ([0.0, 0.0], 0),
        ([1.0, 2.0**-24, 65504.0], 0),
        ([255 * 2.0**-7, 255 * 2.0**-30], 14),
        ([255 * 2.0**40, 2.0**20], -33),
        ([1.0, 255 * 2.0**-40], None),
        ([1.0, 1.0 + 2.0**-11], None),
        ([2.0**-110, 255 * 2.0**-90], 97),
        ([2.0**-149, 2.0**-140], None),
        ([1.0, float("inf")], None),
        ([1.0, float("nan")], None),
    ],
)
def test_a_power_of_two_makes_float16_numbers_of_them_or_none_does(
    numbers: list[float], exponent: int | None
) -> None:
    """The float16 range is 2^-24 to 65504, with 11 bits above 2^-14."""
    weight = torch.tensor([numbers])
    assert half_exponent(weight) == exponent
    if exponent is not None and HAS_PRODUCTS:
        assert torch.equal(HalfWeightLinear(weight, None, exponent).weight, weight)


@with_products
def test_only_plain_layers_are_replaced() -> None:
    """A layer of a class of its own may read its weight itself."""

    class Peculiar(nn.Linear):
        pass

    module = nn.Sequential(nn.Linear(4, 4), Peculiar(4, 4), nn.Embedding(4, 4)).bfloat16().float()
    lay_out_for_few_rows(module)
    assert [type(layer) for layer in module] == [HalfWeightLinear, Peculiar, nn.Embedding]
