"""Stop strings as both ends search for them: special tokens that one names stand in the text as marks."""

from __future__ import annotations

from collections.abc import Mapping

from thinwire.common.config import MAX_PROMPT_BYTES
from thinwire.common.errors import ConfigError
from thinwire.common.session.prompt import check_text

MAX_STOP_STRINGS = 16
MAX_STOP_CHARACTERS = 256
"""Of one stop string."""
_FIRST_MARK = 0xD800
"""Marks are lone surrogates, which no decoded text holds; there are 2048, more than stop strings can name."""


def with_marks(
    stop: tuple[str, ...], special_tokens: Mapping[str, int]
) -> tuple[tuple[str, ...], dict[int, str]]:
    """
    The stop strings, once more with marks where they name special tokens, and the mark of each id.

    So `<|im_end|>` is found at the token and at the same characters spelled out, and a part of its name
    (`im_end`) never at the token.
    """
    marks: dict[int, str] = {}
    marked = list(stop)
    names = sorted(special_tokens, key=len, reverse=True)  # the longest, where one name begins with another
    for text in stop:
        replaced = text
        for name in names:
            if name and name in replaced:
                mark = marks.setdefault(special_tokens[name], chr(_FIRST_MARK + len(marks)))
                replaced = replaced.replace(name, mark)
        if replaced != text:
            marked.append(replaced)
    return tuple(marked), marks


def check_stop_strings(stop: tuple[str, ...]) -> None:
    """Refuse more stop strings, or longer ones, than a request may have, with a ConfigError."""
    if len(stop) > MAX_STOP_STRINGS:
        raise ConfigError(
            f"stop holds {len(stop)} strings; expected at most {MAX_STOP_STRINGS}.", setting="stop"
        )
    for text in stop:
        check_text("a stop string", text, MAX_PROMPT_BYTES)
        if not 1 <= len(text) <= MAX_STOP_CHARACTERS:
            raise ConfigError(
                f"a stop string has {len(text)} characters; expected 1 to {MAX_STOP_CHARACTERS}."
            )
