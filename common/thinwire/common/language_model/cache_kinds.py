"""
Which KV caches can be rolled back after a rejection.

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

from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DummyLayer, DynamicCache, DynamicIndexedLayer, DynamicLayer

from thinwire.common.errors import UncroppableCacheError
from thinwire.common.language_model.growing_cache import GrowingLayer

_CROPPABLE = (DynamicLayer, DynamicIndexedLayer, DummyLayer)
"""Exact classes, as subclasses add windows or states. DummyLayer stores nothing (shared or no attention)."""
_EXPECTED = "expected full attention in every layer (no sliding window, no recurrent state)"


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
    Refuse a configuration whose cache cannot be rolled back.

    Args:
        config: the model's configuration.
        name: how to call the model in the message.

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
