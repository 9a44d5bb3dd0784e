"""What of a model's own generation settings is used (the end-of-text ids) and what is not (all else)."""

from __future__ import annotations

from typing import Any

from transformers import GenerationConfig

_WITHOUT_EFFECT_ON_THE_LAW = {
    "bos_token_id", "cache_implementation", "decoder_start_token_id", "do_sample", "eos_token_id",
    "max_length", "max_new_tokens", "pad_token_id", "return_dict_in_generate", "transformers_version",
    "use_cache",
}  # fmt: skip
"""Used here, or silent about which text is how likely."""


def end_of_text_ids(model: Any) -> tuple[int, ...]:
    """The end-of-text ids of the model's generation_config, else of its configuration; may be empty."""
    ids = model.generation_config.eos_token_id
    if ids is None:
        ids = getattr(model.config.get_text_config(decoder=True), "eos_token_id", None)
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, int) else tuple(ids)


def unused_settings(model: Any, name: str) -> tuple[str, ...]:
    """
    A sentence for every setting that transformers' `generate` would apply and Thinwire does not.

    Args:
        model: a transformers model.
        name: how to call it.
    """
    settings: Any = model.generation_config
    ordinary: dict[str, Any] = GenerationConfig().to_dict()  # type: ignore[no-untyped-call]
    named = {
        key: value
        for key, value in settings.to_diff_dict().items()
        if key not in _WITHOUT_EFFECT_ON_THE_LAW
        and not key.startswith("_")
        and value not in (None, False)
        and value != ordinary.get(key)
    }
    return tuple(
        f"{name} names {key} = {named[key]!r} in its generation_config; it is ignored."
        for key in sorted(named)
    )
