"""
A full-attention cache layer that grows in place.

transformers' `DynamicLayer` copies the whole cache at every forward pass (`torch.cat`), which costs time in
proportion to the context for every single token; this one writes after what it holds.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

_FIRST_CAPACITY = 256
"""Tokens; the capacity doubles from here, so that growth copies each entry about once."""


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """
    Keys and values in buffers with room to spare; `keys` and `values` are views of the part in use.

    Cropping is the base class's: it shortens the views, and the next update overwrites what lies after them.
    """

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Empty buffers with the shapes of the first (1, heads, tokens, head size) states."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys = self._key_buffer = key_states[..., :0, :]
        self.values = self._value_buffer = value_states[..., :0, :]
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Append states.

        Returns:
            keys and values of all tokens, (1, heads, tokens, head size).
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None, "initialised above"
        assert self.values is not None, "initialised above"
        used = self.keys.shape[-2]
        needed = used + key_states.shape[-2]
        if needed > self._key_buffer.shape[-2]:
            capacity = max(_FIRST_CAPACITY, 1 << (needed - 1).bit_length())
            self._key_buffer = _enlarged(self.keys, capacity)
            self._value_buffer = _enlarged(self.values, capacity)
        self._key_buffer[..., used:needed, :] = key_states
        self._value_buffer[..., used:needed, :] = value_states
        self.keys = self._key_buffer[..., :needed, :]
        self.values = self._value_buffer[..., :needed, :]
        return self.keys, self.values


def _enlarged(states: torch.Tensor, capacity: int) -> torch.Tensor:
    """A buffer for `capacity` tokens that starts with `states`."""
    buffer = states.new_empty(*states.shape[:-2], capacity, states.shape[-1])
    buffer[..., : states.shape[-2], :] = states
    return buffer
