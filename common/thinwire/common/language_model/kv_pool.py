"""
The KV memory of all sequences: one pool of pages, allocated once.

Per layer two tensors of (heads, tokens, head size); a page is `PAGE_TOKENS` tokens in a row of every layer.
A pass writes the new tokens' states into their pages and nothing else: what is copied between passes grows
with the block and not with the context (`KvPool.written_bytes`).
A sequence whose pages follow each other is read where it lies; another one is gathered, inside one layer's
attention and for no longer (`KvPool.gathered_bytes`).
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from thinwire.common.errors import ConfigError, ResourceExhaustedError

PAGE_TOKENS = 64
"""Tokens a page: a session wastes half of this on average, and takes a new page every dozen rounds."""


class PageAllocator:
    """
    The free pages of one pool, 1 or more, and which sequence takes which; safe to use from any thread.

    A new sequence starts in the middle of the longest free run, where it and its neighbour have the most room
    to grow.
    """

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.free = pages
        """Pages that no sequence holds."""
        self._lock = threading.Lock()
        self._is_free = np.ones(pages, dtype=bool)

    def take(self, count: int, *, behind: int | None = None) -> list[int]:
        """
        Take pages, all or none.

        Args:
            count: how many, at least 1.
            behind: the sequence's last page, which the new ones should follow; None for a new sequence.

        Raises:
            ResourceExhaustedError: fewer are free.
        """
        with self._lock:
            if count > self.free:
                raise ResourceExhaustedError(
                    f"{count} more pages of KV memory are asked for; expected at most the {self.free} free "
                    f"ones of {self.pages}."
                )
            taken: list[int] = []
            while len(taken) < count:
                first, end = self._place(count - len(taken), taken[-1] if taken else behind)
                taken += range(first, min(end, first + count - len(taken)))
                self._is_free[first : taken[-1] + 1] = False
            self.free -= count
            return taken

    def give_back(self, pages: list[int]) -> None:
        """Free pages that were taken."""
        with self._lock:
            assert not self._is_free[pages].any(), f"one of the pages {pages} is given back twice"
            self._is_free[pages] = True
            self.free += len(pages)

    def _place(self, count: int, behind: int | None) -> tuple[int, int]:
        """Where to take up to `count` pages from, and the end of the free run there."""
        edges = np.flatnonzero(np.diff(self._is_free, prepend=False, append=False))
        starts, ends = edges[::2], edges[1::2]
        if behind is not None and behind + 1 < self.pages and self._is_free[behind + 1]:
            return behind + 1, int(ends[np.searchsorted(ends, behind + 1, side="right")])
        longest = int(np.argmax(ends - starts))
        start, end = int(starts[longest]), int(ends[longest])
        if start == 0:
            return start, end  # nobody is in front who might want to grow
        return max(start, min((start + end) // 2, end - count)), end


class KvPool:
    """
    Args:
        filled: a transformers cache of the model that has been filled: its layers' `keys` and `values` are
            (batch, heads, tokens, head size), of the dtype and on the device of the pool's.
        budget_bytes: the pool's size; what does not make a whole page is left out. None for `default_tokens`.
        default_tokens: see there.

    Raises:
        ConfigError: the budget holds no page.
        ResourceExhaustedError: the device has not so much memory.
    """

    def __init__(self, filled: Any, *, budget_bytes: int | None, default_tokens: int) -> None:
        layers = filled.layers
        some: torch.Tensor = layers[0].keys
        self.dtype, self.device = some.dtype, str(some.device)
        numbers = sum(one.shape[1] * one.shape[3] for layer in layers for one in (layer.keys, layer.values))
        self.token_bytes: int = numbers * some.element_size()
        """Bytes that one token takes in all layers."""
        if budget_bytes is None:
            budget_bytes = default_tokens * self.token_bytes
        pages = budget_bytes // (PAGE_TOKENS * self.token_bytes)
        if pages < 1:
            raise ConfigError(
                f"kv_bytes is {budget_bytes}; expected at least {PAGE_TOKENS * self.token_bytes}, one page "
                f"of {PAGE_TOKENS} tokens.",
                setting="kv_bytes",
            )
        self.allocator = PageAllocator(pages)
        tokens = self.tokens

        def room(states: torch.Tensor) -> torch.Tensor:
            return some.new_empty(states.shape[1], tokens, states.shape[3])

        try:
            self.keys = [room(layer.keys) for layer in layers]
            self.values = [room(layer.values) for layer in layers]
        except RuntimeError as error:
            raise ResourceExhaustedError(
                f"the KV pool of {tokens * self.token_bytes} bytes cannot be allocated; expected that much "
                f"memory on {self.device}, or a smaller --kv-bytes."
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
        Keep a layer's new `keys` and `values`, (heads, n, head size).

        `slots` are their places in the pool: a slice, or (n,) int64.
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
        A layer's keys and values of one sequence, (heads, tokens, head size); views for a slice.

        `where` are the places of its tokens, in order: a slice of the pool, or (tokens,) int64.
        """
        keys, values = self.keys[layer][:, where], self.values[layer][:, where]
        if not isinstance(where, slice):
            self.gathered_bytes += (keys.numel() + values.numel()) * keys.element_size()
        return keys, values

    def move(self, places: npt.NDArray[np.int64], to: npt.NDArray[np.int64]) -> None:
        """Copy the states of tokens in all layers; places, (tokens,) int64 each, may overlap."""
        source, target = (torch.from_numpy(slots).to(self.device) for slots in (places, to))
        for states in (*self.keys, *self.values):
            states[:, target] = states[:, source]


class PageTable:
    """
    The pages of one sequence of a pool, in order; room for `reserve_tokens` is taken at once.

    Raises:
        ResourceExhaustedError: the pool has not so many free pages.
    """

    def __init__(self, pool: KvPool, *, reserve_tokens: int = 0) -> None:
        self._allocator = pool.allocator
        self._pages: list[int] = []
        self.make_room(reserve_tokens)

    def make_room(self, tokens: int) -> None:
        """Have pages for a sequence of `tokens` tokens, or take none and raise ResourceExhaustedError."""
        missing = _pages_for(tokens) - len(self._pages)
        if missing > 0:
            last = self._pages[-1] if self._pages else None
            self._pages += self._allocator.take(missing, behind=last)

    def keep(self, tokens: int) -> None:
        """Give back the pages beyond the first `tokens` tokens."""
        kept = _pages_for(tokens)
        if kept < len(self._pages):
            self._allocator.give_back(self._pages[kept:])
            del self._pages[kept:]

    def slots(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Where in the pool the tokens start to stop - 1 belong, (stop - start,) int64."""
        positions = np.arange(start, stop)
        pages = np.asarray(self._pages, dtype=np.int64)
        return np.asarray(pages[positions // PAGE_TOKENS] * PAGE_TOKENS + positions % PAGE_TOKENS)

    def whereabouts(self, length: int) -> slice | npt.NDArray[np.int64]:
        """Places of the first `length` >= 1 tokens: a slice where they lie side by side, else slots."""
        first = self._pages[0]
        if self._pages == list(range(first, first + len(self._pages))):
            return slice(first * PAGE_TOKENS, first * PAGE_TOKENS + length)
        return self.slots(0, length)


def _pages_for(tokens: int) -> int:
    return -(-tokens // PAGE_TOKENS)
