"""
A sequence's own KV cache: which kinds can be rolled back after a rejection, and one that grows in place.

Decided by the kind of each layer of the cache that the model's configuration asks for.
A full-attention layer keeps every position and can be cut at any of them.
A sliding-window layer drops what lies behind its window: it calls itself croppable, and is so while the text
is shorter than the window or while it is told to record its past; past the window a crop raises.
A recurrent layer has folded the past into its state.
Neither is trusted, even where a first crop of a short text would succeed.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DummyLayer, DynamicCache, DynamicIndexedLayer, DynamicLayer

from thinwire.common.errors import UncroppableCacheError

_CROPPABLE = (DynamicLayer, DynamicIndexedLayer, DummyLayer)
"""Exact classes, as subclasses add windows or states. DummyLayer stores nothing (shared or no attention)."""
_EXPECTED = "expected full attention in every layer (no sliding window, no recurrent state)"
_FIRST_CAPACITY = 256
"""Tokens; the capacity doubles from here, so that growth copies each entry about once."""


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """
    Keys and values in buffers with room to spare; `keys` and `values` are views of the part in use.

    transformers' `DynamicLayer` copies the whole cache at every forward pass (`torch.cat`), which costs time
    in proportion to the context for every single token; this one writes after what it holds.
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
        """Append states; returns keys and values of all tokens, (1, heads, tokens, head size)."""
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


def new_cache(config: PreTrainedConfig) -> Cache:
    """An empty cache of the layer kinds that `config` asks for, full-attention layers growing in place."""
    cache = DynamicCache(config=config)
    cache.layers = [
        GrowingLayer() if type(layer) is DynamicLayer else layer  # type: ignore[no-untyped-call]
        for layer in cache.layers
    ]
    return cache


def check_croppable(config: PreTrainedConfig, name: str) -> None:
    """
    Refuse a configuration whose cache cannot be rolled back, of a model called `name`.

    Raises:
        UncroppableCacheError: naming the first such layer and its kind.
    """
    try:
        layers = DynamicCache(config=config).layers
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UncroppableCacheError(
            f"{name} asks for a cache of an unknown kind ({error}); {_EXPECTED}."
        ) from error
    for index, layer in enumerate(layers):
        if type(layer) not in _CROPPABLE:
            raise UncroppableCacheError(
                f"layer {index} of {name} keeps a {type(layer).__name__}, which cannot be rolled back after "
                f"a rejection; {_EXPECTED}."
            )


def check_stateless(model: Any, name: str) -> None:
    """
    Refuse a model that keeps its past elsewhere than in such a cache, or not at all: older ones, whose
    configurations do not tell.

    Raises:
        UncroppableCacheError: the model's class is stateful, or its forward takes no KV cache.
    """
    if getattr(model, "_is_stateful", False):
        raise UncroppableCacheError(
            f"{name} ({type(model).__name__}) keeps a recurrent state, which cannot be rolled back after a "
            f"rejection; {_EXPECTED}."
        )
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise UncroppableCacheError(
            f"{name} ({type(model).__name__}) takes no KV cache, so that nothing of a text could be kept "
            f"from one round to the next; expected a forward pass with past_key_values."
        )
