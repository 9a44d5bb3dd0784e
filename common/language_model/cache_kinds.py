"""
Which KV caches can be rolled back after a rejection.

Decided by the kind of each layer of the cache that the model's configuration asks for.
A full-attention layer keeps every position and can be cut at any of them.
A sliding-window layer has already dropped what lies behind its window, and a recurrent layer has folded the past
into its state: neither can return to an earlier position, even where a first crop of a short text would succeed.
"""

from __future__ import annotations

from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DummyLayer, DynamicCache, DynamicIndexedLayer, DynamicLayer

from common.errors import UncroppableCacheError

_CROPPABLE = (DynamicLayer, DynamicIndexedLayer, DummyLayer)
"""Exact classes; subclasses add windows or states. DummyLayer stores nothing (shared or attention-free layers)."""


def new_cache(config: PreTrainedConfig) -> Cache:
    """An empty cache of the kinds of layers that `config` asks for."""
    return DynamicCache(config=config)


def check_croppable(config: PreTrainedConfig, name: str) -> None:
    """
    Refuse a model whose cache cannot be rolled back.

    Args:
        config: the model's configuration.
        name: how to call the model in the message.

    Raises:
        UncroppableCacheError: naming the first such layer and its kind.
    """
    try:
        cache = new_cache(config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UncroppableCacheError(
            f"{name} asks for a cache of an unknown kind ({error}); expected full attention in every layer."
        ) from error
    for index, layer in enumerate(cache.layers):
        if type(layer) not in _CROPPABLE:
            raise UncroppableCacheError(
                f"layer {index} of {name} keeps a {type(layer).__name__}, which cannot be rolled back after a "
                f"rejection; expected full attention in every layer (no sliding window, no recurrent state)."
            )
