"""A Llama for training: the same arithmetic and weight names as the transformers one, but fast.

Weights are float32, and so is everything on the CPU, where float32 matrices are often multiplied
twice as fast as bfloat16 ones; on an accelerator the matrices of the layers are multiplied in bfloat16.
`torch.compile` fuses the element-wise work of a layer when a compiler is there. Parameter
names are those of `LlamaForCausalLM`, so a state dict goes over as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

ROPE_THETA = 10_000.0
NORM_EPS = 1e-5


@dataclass(frozen=True)
class Shape:
    """The sizes of a model; the vocabulary is the tokenizer's."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    head_dim: int = 64
    vocabulary: int = 8192
    positions: int = 2048


# Deep rather than wide: a pass of one token is bound by the number of layers, not by their
# width, so twelve narrow layers cost more than four passes of the two-layer draft model.
TARGET = Shape(hidden=256, layers=12, intermediate=512, heads=4)
DRAFT = Shape(hidden=128, layers=2, intermediate=384, heads=2)


def rotary(length: int, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of the rotary embedding, float32 [length, head_dim] each."""
    frequency = ROPE_THETA ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angle = (torch.arange(length, dtype=torch.float32)[:, None] * frequency[None, :]).to(device)
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Applies the rotary embedding to [..., length, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class Norm(nn.Module):
    """RMS norm over the last dimension."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + NORM_EPS) * self.weight


class Past:
    """Keys and values of one layer, [rows, heads, capacity, head_dim] each, of which `length` are there."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.length = capacity, 0
        self._both: tuple[Tensor, Tensor] | None = None

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep new ones; returns all so far."""
        if self._both is None:
            rows, heads, _, head_dim = v.shape
            shape = (rows, heads, self.capacity, head_dim)
            self._both = (v.new_empty(shape), v.new_empty(shape))
        end = self.length + v.shape[2]
        for kept, new in zip(self._both, (k, v), strict=True):
            kept[:, :, self.length : end] = new
        self.length = end
        return self._both[0][:, :, :end], self._both[1][:, :, :end]


class Attention(nn.Module):
    """Causal multi-head attention with rotary embeddings."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.heads * shape.head_dim
        self.heads, self.head_dim = shape.heads, shape.head_dim
        self.q_proj = nn.Linear(shape.hidden, width, bias=False)
        self.k_proj = nn.Linear(shape.hidden, width, bias=False)
        self.v_proj = nn.Linear(shape.hidden, width, bias=False)
        self.o_proj = nn.Linear(width, shape.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, past: Past | None = None) -> Tensor:
        rows, length, _ = x.shape
        split = (rows, length, self.heads, self.head_dim)
        q = rotate(self.q_proj(x).view(split).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(split).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(split).transpose(1, 2)
        if past is not None:
            k, v = past.append(k, v)
        # A pass behind a past is one of the whole prompt or of one token, which sees everything.
        causal = length > 1
        out = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=causal)
        projected: Tensor = self.o_proj(out.transpose(1, 2).reshape(rows, length, -1))
        return projected


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.down_proj = nn.Linear(shape.intermediate, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        down: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return down


class Layer(nn.Module):
    """One pre-norm decoder layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = FeedForward(shape)
        self.input_layernorm = Norm(shape.hidden)
        self.post_attention_layernorm = Norm(shape.hidden)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, past: Past | None = None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, past)
        forward: Tensor = self.mlp(self.post_attention_layernorm(x))
        return x + forward


class Body(nn.Module):
    """Everything below the output head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden)


class Llama(nn.Module):
    """Token ids int64 [rows, length] -> final hidden states float32 [rows, length, hidden].

    The output head is the embedding matrix (tied); the losses in `losses.py` apply it.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        self._rotary: tuple[Tensor, Tensor] | None = None
        depth_scale = (2 * shape.layers) ** -0.5
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                std = 0.02 if "embed" in name else parameter.shape[1] ** -0.5 * 0.5
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std *= depth_scale
                nn.init.normal_(parameter, std=std)

    @property
    def head(self) -> Tensor:
        """The tied output matrix, float32 [vocabulary, hidden]."""
        return self.model.embed_tokens.weight

    def forward(self, ids: Tensor, pasts: list[Past] | None = None) -> Tensor:
        """With `pasts`, one a layer, the ids follow those that were fed before."""
        begin = pasts[0].length if pasts else 0
        end = begin + ids.shape[1]
        cos, sin = (table[begin:end] for table in self._tables(end, ids.device))
        x = self.model.embed_tokens(ids)
        each: Sequence[Past | None] = pasts or [None] * self.shape.layers
        for layer, past in zip(self.model.layers, each, strict=True):
            x = layer(x, cos, sin, past)
        normed: Tensor = self.model.norm(x)
        return normed

    def _tables(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """cos and sin of at least `length` positions."""
        if self._rotary is None or len(self._rotary[0]) < length:
            self._rotary = rotary(max(length, 1024), self.shape.head_dim, device)
        return self._rotary


def compile_layers(model: Llama) -> None:
    """Compiles each layer in place (they share one compiled graph per block length)."""
    for layer in model.model.layers:
        layer.compile(dynamic=False)
