"""How many tokens a text may have for its law to be a function of the text alone."""

from __future__ import annotations

from typing import Any

DEFAULT_CONTEXT_LENGTH = 2048
"""For a configuration that names no limit: what models without learned positions are usually trained on."""
_CONTEXT_FIELDS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")


def context_length(config: Any, name: str) -> tuple[int, tuple[str, ...]]:
    """
    The model's own limit; with longrope, the length up to which its rotary factors are the short ones.

    One token more, and a plain pass turns every key with the long factors: all that a cache holds would
    have to be computed anew, and again after a roll-back (docs/decisions/0013-a-trial-before-serving.md).
    Dynamic factors change only beyond the configuration's limit, so that no text gets there.

    Args:
        config: a transformers configuration.
        name: how to call the model.

    Returns:
        tokens, and a sentence if they are fewer than the model's own limit.
    """
    config = config.get_text_config(decoder=True)
    limits = [getattr(config, field, None) for field in _CONTEXT_FIELDS]
    limit = next((int(n) for n in limits if n), DEFAULT_CONTEXT_LENGTH)
    held = min([limit, *_short_factor_lengths(config)])
    if held == limit:
        return limit, ()
    return held, (
        f"{name} changes the rotary factors of a whole text when it grows beyond {held} tokens (longrope); "
        f"its context is held to {held} of its {limit} tokens.",
    )


def _short_factor_lengths(config: Any) -> list[int]:
    """Original length of every longrope in the configuration, which may have one for each kind of layer."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]
    return [
        int(kind["original_max_position_embeddings"]) for kind in kinds if kind.get("rope_type") == "longrope"
    ]
