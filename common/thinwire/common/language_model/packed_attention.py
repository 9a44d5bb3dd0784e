"""
Attention of several sequences in one pass, without padding.

The tokens of all sequences stand in one row, one sequence after the other; everything in a layer but the
attention works on them as on one text.
The attention writes the new states into the KV pool and then goes sequence by sequence, each against its own
past, where that lies.
So a sequence's attention is computed from the same numbers in the same shapes whatever stands beside it, and
a pass with one sequence costs no more than a plain one.

transformers asks its registry for the attention function by name and hands it the keyword arguments of the
model's call, which is how a `PackedPass` gets here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from thinwire.common.language_model.kv_pool import KvPool, PageTable

NAME = "thinwire_packed"
"""Name of the attention function in transformers' registry."""

_UNKNOWN = ("softcap", "s_aux", "position_bias", "sliding_window")
"""What some models ask of their attention and this one does not do."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The new tokens of one sequence."""

    table: PageTable
    """With room for them."""
    past: int
    """Tokens the sequence holds already."""
    token_ids: Sequence[int]
    parents: Sequence[int] = ()
    """
    Where the last of them are a tree: the row that each follows, 0 the token before them all, k the k-th of
    them.
    """

    @property
    def length(self) -> int:
        """Tokens the sequence holds after the pass."""
        return self.past + len(self.token_ids)


@dataclass(frozen=True, slots=True)
class _Span:
    """One sequence's part in a pass."""

    start: int
    """Place of its first new token in the row."""
    stop: int
    where: slice | torch.Tensor
    """All its tokens in the pool, the new ones last."""
    mask: torch.Tensor | None
    """(new tokens, all tokens), added to the scores; None for one new token, which sees all."""


class PackedPass:
    """One pass over the new tokens of several sequences, at least one, whose states are in `pool`."""

    def __init__(self, pool: KvPool, stretches: Sequence[Stretch]) -> None:
        self._pool = pool
        device = pool.device
        ids: list[int] = []
        slots, positions = [], []
        self._spans: list[_Span] = []
        for stretch in stretches:
            start = len(ids)
            ids += stretch.token_ids
            positions.append(_positions(stretch))
            slots.append(stretch.table.slots(stretch.past, stretch.length))
            places = stretch.table.whereabouts(stretch.length)
            where = places if isinstance(places, slice) else torch.from_numpy(places).to(device)
            mask = _mask(stretch, dtype=pool.dtype, device=device)
            self._spans.append(_Span(start, len(ids), where, mask))
        self.token_ids = torch.tensor([ids], dtype=torch.long, device=device)
        """(1, tokens)."""
        self.positions = torch.from_numpy(np.concatenate(positions)).to(device)[None]
        """(1, tokens) int64, each in its own sequence."""
        self._slots: slice | torch.Tensor
        first, alone = self._spans[0].where, stretches[0]
        if len(stretches) == 1 and isinstance(first, slice):
            self._slots = slice(first.start + alone.past, first.stop)
        else:
            self._slots = torch.from_numpy(np.concatenate(slots)).to(device)

    def last_rows(self, counts: Sequence[int]) -> torch.Tensor:
        """Indices in the row of the last `counts[i]` tokens of each sequence i, (Σ counts,) int64."""
        rows = [np.arange(span.stop - n, span.stop) for span, n in zip(self._spans, counts, strict=True)]
        return torch.from_numpy(np.concatenate(rows)).to(self.token_ids.device)

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep a layer's new states of one sequence alone; all its states, (1, heads, tokens, head size)."""
        self._pool.write(layer, self._slots, key[0], value[0])
        keys, values = self._pool.read(layer, self._spans[0].where)
        return keys[None], values[None]

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """
        Keep the new states of one layer and attend to all.

        Args:
            query: (1, query heads, tokens, head size).
            key, value: (1, heads, tokens, head size); query heads are a multiple of heads.
            scaling: of the scores; None for 1 / √(head size).

        Returns:
            (1, tokens, query heads, value size).
        """
        self._pool.write(layer, self._slots, key[0], value[0])
        parts = [
            self._attend_span(layer, span, query[:, :, span.start : span.stop], key.shape[1], scaling)
            for span in self._spans
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _attend_span(
        self, layer: int, span: _Span, query: torch.Tensor, heads: int, scaling: float | None
    ) -> torch.Tensor:
        """One sequence's part of `attend`: its queries, (1, query heads, new tokens, head size)."""
        keys, values = self._pool.read(layer, span.where)
        groups, count, mask = query.shape[1] // heads, query.shape[2], span.mask
        if groups > 1:
            # The query heads that share a key head stand one after the other as if they were more tokens.
            query = query.reshape(1, heads, groups * count, -1)
            mask = None if mask is None else mask.repeat(groups, 1)
        attended = scaled_dot_product_attention(
            query, keys[None], values[None], attn_mask=mask, scale=scaling
        )
        if groups > 1:
            attended = attended.reshape(1, heads * groups, count, -1)
        return attended.transpose(1, 2)


def register() -> None:
    """Make the attention function known to transformers; again is harmless."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    packed_pass: PackedPass | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers calls it; a call without a PackedPass is plain attention."""
    if packed_pass is None:
        plain: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return plain
    for name in _UNKNOWN:
        if kwargs.get(name) is not None:
            raise NotImplementedError(f"attention with {name}")
    return packed_pass.attend(module.layer_idx, query, key, value, scaling), None


def _positions(stretch: Stretch) -> npt.NDArray[np.int64]:
    """(new tokens,) int64: a token of a tree stands behind the one that it follows."""
    positions = np.arange(stretch.past, stretch.length)
    first = len(positions) - len(stretch.parents) - 1
    for row, parent in enumerate(stretch.parents, 1):
        positions[first + row] = positions[first + parent] + 1
    return positions


def _mask(stretch: Stretch, *, dtype: torch.dtype, device: str) -> torch.Tensor | None:
    """
    (new tokens, all tokens): 0 where the new token may look, -inf where not; None where it sees all.

    A token of a tree sees the path that leads to it.
    """
    count, past = len(stretch.token_ids), stretch.past
    if count == 1:
        return None
    mask = torch.zeros(count, past + count, dtype=dtype, device=device)
    mask[:, past:] = torch.full((count, count), float("-inf"), dtype=dtype, device=device).triu(1)
    if stretch.parents:
        first = count - len(stretch.parents) - 1
        own = np.full((len(stretch.parents) + 1,) * 2, -np.inf)
        own[0, 0] = 0
        for row, parent in enumerate(stretch.parents, 1):
            own[row] = own[parent]
            own[row, row] = 0
        mask[first:, past + first :] = torch.from_numpy(own).to(mask)
    return mask
