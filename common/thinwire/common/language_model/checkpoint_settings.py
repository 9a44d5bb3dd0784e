"""What of a checkpoint's own settings is used: its context and its end-of-text ids; all else is warned of."""

from __future__ import annotations

from typing import Any

from transformers import GenerationConfig

DEFAULT_CONTEXT_LENGTH = 2048
"""For a configuration that names no limit: what models without learned positions are usually trained on."""
_CONTEXT_FIELDS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
_WITHOUT_EFFECT_ON_THE_LAW = {
    "bos_token_id", "cache_implementation", "decoder_start_token_id", "do_sample", "eos_token_id",
    "max_length", "max_new_tokens", "pad_token_id", "return_dict_in_generate", "transformers_version",
    "use_cache",
}  # fmt: skip
"""Generation settings used here, or silent about which text is how likely."""


def context_length(config: Any, name: str) -> tuple[int, tuple[str, ...]]:
    """
    The model's own limit; with longrope, the length up to which its rotary factors are the short ones.

    One token more, and a plain pass turns every key with the long factors: all that a cache holds would
    have to be computed anew, and again after a roll-back (docs/decisions/0013-a-trial-before-serving.md).
    Dynamic factors change only beyond the configuration's limit, so that no text gets there.

    Args:
        config: a transformers configuration of a model called `name`.

    Returns:
        tokens, and a sentence if they are fewer than the model's own limit.
    """
    config = config.get_text_config(decoder=True)
    limits = [getattr(config, field, None) for field in _CONTEXT_FIELDS]
    limit = next((int(n) for n in limits if n), DEFAULT_CONTEXT_LENGTH)
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]  # one for each kind of layer
    long_ropes = [kind for kind in kinds if kind.get("rope_type") == "longrope"]
    held = min([limit, *(int(kind["original_max_position_embeddings"]) for kind in long_ropes)])
    if held == limit:
        return limit, ()
    return held, (
        f"{name} changes the rotary factors of a whole text when it grows beyond {held} tokens (longrope); "
        f"its context is held to {held} of its {limit} tokens.",
    )


def end_of_text_ids(model: Any) -> tuple[int, ...]:
    """The end-of-text ids of the model's generation_config, else of its configuration; may be empty."""
    ids = model.generation_config.eos_token_id
    if ids is None:
        ids = getattr(model.config.get_text_config(decoder=True), "eos_token_id", None)
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, int) else tuple(ids)


def unused_settings(model: Any, name: str) -> tuple[str, ...]:
    """A sentence for every setting that transformers' `generate` would apply and Thinwire does not."""
    settings: Any = model.generation_config
    ordinary: dict[str, Any] = GenerationConfig().to_dict()  # type: ignore[no-untyped-call]
    return tuple(
        f"{name} names {key} = {value!r} in its generation_config; it is ignored."
        for key, value in sorted(settings.to_diff_dict().items())
        if key not in _WITHOUT_EFFECT_ON_THE_LAW
        and not key.startswith("_")
        and value not in (None, False)
        and value != ordinary.get(key)
    )
