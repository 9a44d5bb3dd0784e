"""
The KV memory of all sequences: one pool of pages, allocated once.

Per layer two tensors of (heads, tokens, head size); a page is `PAGE_TOKENS` tokens in a row of every layer.
A pass writes the new tokens' states into their pages and nothing else: what is copied between passes grows
with the block and not with the context (`KvPool.written_bytes`).
A sequence whose pages follow each other is read where it lies; another one is gathered, inside one layer's
attention and for no longer (`KvPool.gathered_bytes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from thinwire.common.errors import ConfigError, ResourceExhaustedError
from thinwire.common.language_model.pages import PageAllocator

PAGE_TOKENS = 64
"""Tokens a page: a session wastes half of this on average, and takes a new page every dozen rounds."""


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one layer keeps of one token."""

    heads: int
    """Key-value heads."""
    key_size: int
    value_size: int


class KvPool:
    """
    Args:
        layers: what each layer keeps, in the order of `layer_idx`.
        budget_bytes: the pool's size; what does not make a whole page is left out.
        dtype: of the states.
        device: where they are kept.

    Raises:
        ConfigError: the budget holds no page.
        ResourceExhaustedError: the device has not so much memory.
    """

    def __init__(
        self, layers: tuple[LayerShape, ...], *, budget_bytes: int, dtype: torch.dtype, device: str
    ) -> None:
        self.token_bytes = token_bytes(layers, dtype)
        """Bytes that one token takes in all layers."""
        pages = budget_bytes // (PAGE_TOKENS * self.token_bytes)
        if pages < 1:
            raise ConfigError(
                f"kv_bytes is {budget_bytes}; expected at least {PAGE_TOKENS * self.token_bytes}, one page "
                f"of {PAGE_TOKENS} tokens.",
                setting="kv_bytes",
            )
        self.allocator = PageAllocator(pages)
        tokens = self.tokens
        try:
            self.keys = [
                torch.empty(layer.heads, tokens, layer.key_size, dtype=dtype, device=device)
                for layer in layers
            ]
            self.values = [
                torch.empty(layer.heads, tokens, layer.value_size, dtype=dtype, device=device)
                for layer in layers
            ]
        except RuntimeError as error:
            raise ResourceExhaustedError(
                f"the KV pool of {tokens * self.token_bytes} bytes cannot be allocated; expected that much "
                f"memory on {device}, or a smaller --kv-bytes."
            ) from error
        self.written_bytes = 0
        """States written since the start: all that is ever copied for the cache between passes."""
        self.gathered_bytes = 0
        """States copied inside a layer's attention since the start, for sequences in scattered pages."""

    @property
    def tokens(self) -> int:
        """That all sequences together can hold."""
        return self.allocator.pages * PAGE_TOKENS

    @property
    def bytes(self) -> int:
        """Size of the whole pool."""
        return self.allocator.pages * self.page_bytes

    @property
    def page_bytes(self) -> int:
        """Size of one page, all layers together."""
        return PAGE_TOKENS * self.token_bytes

    @property
    def free_bytes(self) -> int:
        """Size of the pages that no sequence holds."""
        return self.allocator.free * self.page_bytes

    def write(
        self, layer: int, slots: slice | torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> None:
        """
        Keep new states.

        Args:
            layer: its index.
            slots: where in the pool each token's states belong: a slice, or (n,) int64.
            keys, values: (heads, n, head size).
        """
        if isinstance(slots, slice):
            self.keys[layer][:, slots] = keys
            self.values[layer][:, slots] = values
        else:
            self.keys[layer].index_copy_(1, slots, keys)
            self.values[layer].index_copy_(1, slots, values)
        self.written_bytes += (keys.numel() + values.numel()) * keys.element_size()

    def read(self, layer: int, where: slice | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        States of one sequence.

        Args:
            layer: its index.
            where: of its tokens, in order: a slice of the pool, or (tokens,) int64 slots.

        Returns:
            keys and values, (heads, tokens, head size); views for a slice.
        """
        keys, values = self.keys[layer][:, where], self.values[layer][:, where]
        if not isinstance(where, slice):
            self.gathered_bytes += (keys.numel() + values.numel()) * keys.element_size()
        return keys, values


class PageTable:
    """
    The pages of one sequence, in order.

    Args:
        pool: where they are taken from.
        reserve_tokens: room to take at once.

    Raises:
        ResourceExhaustedError: the pool has not so many free pages.
    """

    def __init__(self, pool: KvPool, *, reserve_tokens: int = 0) -> None:
        self._allocator = pool.allocator
        self._pages: list[int] = []
        self._follow = True
        """Whether every page but the first follows the one before it."""
        self.make_room(reserve_tokens)

    @property
    def pages(self) -> int:
        """How many there are."""
        return len(self._pages)

    def make_room(self, tokens: int) -> None:
        """
        Have pages for a sequence of `tokens` tokens, or take none.

        Raises:
            ResourceExhaustedError: the pool has not so many free pages.
        """
        missing = _pages_for(tokens) - len(self._pages)
        if missing > 0:
            last = self._pages[-1] if self._pages else None
            self._pages += self._allocator.take(missing, behind=last)
            self._follow = self._in_order()

    def keep(self, tokens: int) -> None:
        """Give back the pages that a sequence of `tokens` tokens does not need."""
        kept = _pages_for(tokens)
        if kept < len(self._pages):
            self._allocator.give_back(self._pages[kept:])
            del self._pages[kept:]
            self._follow = self._in_order()

    def slots(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Where in the pool the tokens start to stop - 1 belong, (stop - start,) int64."""
        positions = np.arange(start, stop)
        pages = np.asarray(self._pages, dtype=np.int64)
        return np.asarray(pages[positions // PAGE_TOKENS] * PAGE_TOKENS + positions % PAGE_TOKENS)

    def whereabouts(self, length: int) -> slice | npt.NDArray[np.int64]:
        """Places of the first `length` >= 1 tokens: a slice where they lie side by side, else slots."""
        if self._follow:
            first = self._pages[0] * PAGE_TOKENS
            return slice(first, first + length)
        return self.slots(0, length)

    def _in_order(self) -> bool:
        return not self._pages or self._pages == list(
            range(self._pages[0], self._pages[0] + len(self._pages))
        )


def token_bytes(layers: tuple[LayerShape, ...], dtype: torch.dtype) -> int:
    """Bytes that one token takes in all layers together."""
    numbers = sum(layer.heads * (layer.key_size + layer.value_size) for layer in layers)
    return numbers * torch.empty(0, dtype=dtype).element_size()


def layer_shapes(cache: Any) -> tuple[LayerShape, ...]:
    """
    What each layer of a transformers cache that has been filled keeps of a token.

    Args:
        cache: its layers' `keys` and `values` are (batch, heads, tokens, head size).
    """
    return tuple(
        LayerShape(layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3]) for layer in cache.layers
    )


def _pages_for(tokens: int) -> int:
    return -(-tokens // PAGE_TOKENS)
