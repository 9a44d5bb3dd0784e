"""
A generation's text while it arrives: nothing is shown that a later token could change or a stop string cut.

A special token has no text, but a stop string may name one (`<|im_end|>`): where the text is searched for
stop strings, a special token that one of them names stands as a mark, which is taken out of what is shown.
So `<|im_end|>` stops at the token and at the same characters spelled out, and a part of a special token's
name (`im_end`) never stops at the token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from thinwire.edge.detokenizer import Detokenizer

_FIRST_MARK = 0xD800
"""Marks are lone surrogates, which no decoded text holds; there are 2048, more than stop strings can name."""


class TextStream:
    """
    Incremental detokenisation with stop strings.

    Args:
        decode: pure function from ids to text, special tokens left out.
        stop: stop strings; the text ends before the earliest match.
        prompt_token_ids: left context of the first output token.
        special_tokens: the ids that `decode` leaves out, by their names.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        *,
        stop: tuple[str, ...] = (),
        prompt_token_ids: Sequence[int] = (),
        special_tokens: Mapping[str, int] | None = None,
    ) -> None:
        special_tokens = special_tokens or {}
        self._detokenizer = Detokenizer(decode, prompt_token_ids, frozenset(special_tokens.values()))
        self._stop, self._marks = _with_marks(stop, special_tokens)
        self._shows_all = str.maketrans("", "", "".join(self._marks.values()))
        self._held = ""
        self._ended = False
        self.stop_token_ids = frozenset(i for i, mark in self._marks.items() if mark in self._stop)
        """Special tokens that are a stop string by themselves."""

    def push(self, token_id: int, *, silent: bool = False) -> tuple[str, bool]:
        """
        Take one committed token; returns the text that is final now, and whether a stop string ended it.

        A silent token has no text, whatever it decodes to; a special one can still end a match.
        """
        fresh = self._marks.get(token_id, "")
        return self._release(fresh if silent or fresh else self._detokenizer.push(token_id))

    def flush(self) -> str:
        """The text still held back, once no more tokens come; empty after a stop string."""
        if self._ended:
            return ""
        text, stopped = self._release(self._detokenizer.flush())
        held, self._held = self._held.translate(self._shows_all), ""
        return text if stopped else text + held

    def _release(self, fresh: str) -> tuple[str, bool]:
        """Append to what is held, cut at a stop string, keep back what might become one."""
        self._held += fresh
        matches = (self._held.find(stop) for stop in self._stop)
        match = min((at for at in matches if at >= 0), default=None)
        if match is not None:
            text, self._held, self._ended = self._held[:match], "", True
            return text.translate(self._shows_all), True
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text.translate(self._shows_all), False


def _with_marks(
    stop: tuple[str, ...], special_tokens: Mapping[str, int]
) -> tuple[tuple[str, ...], dict[int, str]]:
    """The stop strings, once more with marks where they name special tokens, and the mark of each id."""
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


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of `stop` that `text` ends with."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
