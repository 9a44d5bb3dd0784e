"""What both ends demand of a prompt."""

from __future__ import annotations

from thinwire.common.errors import ConfigError


def check_text(what: str, text: str, max_bytes: int) -> None:
    """Refuse a text, called `what`, that is none, or has over `max_bytes` in UTF-8, with a ConfigError."""
    if not isinstance(text, str):
        raise ConfigError(f"{what} is of type {type(text).__name__}; expected text (str).")
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{what} holds what is no character, at {error.start}; expected text in UTF-8."
        ) from None
    if size_bytes > max_bytes:
        raise ConfigError(f"{what} holds {size_bytes} bytes; expected at most {max_bytes}.")


def check_prompt_length(tokens: int, context_length: int) -> None:
    """Refuse a prompt that fills the context by its length alone, which is known before its ids are read."""
    if tokens >= context_length:
        raise ConfigError(
            f"the prompt holds {tokens} tokens; expected at most {context_length - 1}, "
            "one less than the target model's context length."
        )


def check_prompt(
    prompt_token_ids: tuple[int, ...], vocabulary_size: int, context_length: int | None = None
) -> None:
    """Refuse a prompt no text can follow; the target's context is None where it is not known yet."""
    if not prompt_token_ids:
        raise ConfigError("the prompt holds 0 tokens; expected at least 1.")
    if context_length is not None:
        check_prompt_length(len(prompt_token_ids), context_length)
    highest = max(prompt_token_ids)
    if highest >= vocabulary_size:
        raise ConfigError(f"the prompt holds token id {highest}; expected ids below {vocabulary_size}.")
