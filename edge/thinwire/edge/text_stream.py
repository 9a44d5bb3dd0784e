"""
A generation's text while it arrives: nothing is shown that a later token could change or a stop string cut.

A special token has no text, but a stop string may name one (`<|im_end|>`): where the text is searched for
stop strings, a special token that one of them names stands as a mark, which is taken out of what is shown.
So `<|im_end|>` stops at the token and at the same characters spelled out, and a part of a special token's
name (`im_end`) never stops at the token.

Token ids → text, one at a time, with a bounded look back.

A token's text depends on its neighbours: a character may be spread over several tokens, and many decoders
treat the first token of a text in a way of its own (a stripped space, no space before a word).
So every token is decoded together with a few before it, from a place where a character begins, and only what
it adds is shown.

What is shown joins to decode(prompt + output) less decode(prompt), with two exceptions, in which nothing
can be equal to that and never be taken back:

- Where the prompt ends within a character and the output completes it, the whole character is output.
- A byte-fallback decoder (Llama 2, Gemma) reads a run of byte tokens as one: a single byte that is no UTF-8
  turns every character of the run into U+FFFD, however long ago it was whole. Characters that were whole when
  they came stay; from the broken byte on the run is U+FFFD, one a byte, as the decoder has it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from thinwire.common.session.stop_strings import with_marks

_REPLACEMENT = "\ufffd"
_LONGEST_INCOMPLETE = 3
"""U+FFFD at the end that may still become a character: a byte-fallback decoder shows one a byte."""
_KEPT = 8
"""Tokens that are decoded along at least where a text never comes to the end of a character."""


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
        self._stop, self._marks = with_marks(stop, special_tokens)
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


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of `stop` that `text` ends with."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0


class Detokenizer:
    """
    Incremental detokenisation.

    Args:
        decode: pure function from ids to text; asked for some 32 ids at most once the prompt is taken.
        prompt_token_ids: left context of the first output token.
        without_text: ids that `decode` leaves out, special tokens.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        prompt_token_ids: Sequence[int] = (),
        without_text: Collection[int] = (),
    ) -> None:
        self._decode = decode
        self._without_text = without_text
        self._context: list[int] = []
        """Tokens shown last, from where a character began."""
        self._context_text = ""
        self._pending: list[int] = []
        """Tokens after them, not all of whose text has been shown."""
        self._given = ""
        """Part of the pending tokens' text that has been shown."""
        self._stripped = 0
        """Pending tokens before any text: a space that the decoder strips from the beginning."""
        self._prompts = ""
        """Text of the pending tokens that was the prompt's."""
        prompt = [token_id for token_id in prompt_token_ids if token_id not in without_text]
        for token_id in prompt[_begin(decode, prompt) :]:
            self.push(token_id)
        self._prompts = self._fresh()[len(self._given) :]

    def push(self, token_id: int) -> str:
        """Take the next token; returns the text that is final now."""
        if token_id in self._without_text:
            return ""
        self._pending.append(token_id)
        fresh = self._fresh()
        if not fresh:
            self._stripped += 1
        replaced = len(fresh) - len(fresh.rstrip(_REPLACEMENT))
        incomplete = min(replaced, self._stripped + _LONGEST_INCOMPLETE)
        text = self._give(fresh[: len(fresh) - incomplete])
        if fresh and not incomplete:
            self._look_back_to(len(self._pending))
        elif len(self._pending) > 2 * _KEPT:
            self._shorten(fresh, incomplete)
        return text

    def flush(self) -> str:
        """Text of a character that is incomplete, once no more tokens come."""
        text = self._give(self._fresh())
        self._look_back_to(len(self._pending))
        return text

    def _fresh(self) -> str:
        if not self._pending:
            return ""
        text = self._decode(self._context + self._pending)
        if text.startswith(self._context_text):
            return text[len(self._context_text) :]
        return self._decode(self._pending)  # within a run of bytes that is incomplete or broken

    def _give(self, text: str) -> str:
        """What of `text`, of the pending tokens, was not shown before and is not the prompt's."""
        added, self._given = text[len(self._given) :], text
        if added.startswith(self._prompts):
            added, self._prompts = added[len(self._prompts) :], ""
        elif self._prompts.startswith(added):
            added, self._prompts = "", self._prompts[len(added) :]
        else:  # its incomplete character became a whole one
            self._prompts = ""
        return added

    def _look_back_to(self, count: int) -> None:
        """Make the first `count` pending tokens the context; tokens without text cannot be one."""
        done, self._pending, self._given = self._pending[:count], self._pending[count:], ""
        self._stripped = 0
        if text := self._decode(done):
            self._context, self._context_text = done, text

    def _shorten(self, fresh: str, incomplete: int) -> None:
        """Forget old pending tokens of text that never comes to the end of a character."""
        context = self._context, self._context_text
        self._look_back_to(len(self._pending) - _KEPT)
        if context[1] and not context[1].strip(_REPLACEMENT):  # a broken run must stay one
            self._context, self._context_text = context
        fresh = self._fresh()
        self._given = fresh[: len(fresh) - incomplete]


def _begin(decode: Callable[[Sequence[int]], str], token_ids: Sequence[int]) -> int:
    """Where to begin in a prompt, so that some text is decoded and a character begins there."""
    count = 2 * _KEPT
    while count < len(token_ids) and not decode(token_ids[-count:]):
        count *= 2  # special tokens alone
    for more in range(_LONGEST_INCOMPLETE + 1):
        begin = len(token_ids) - count - more
        if begin <= 0:
            return 0
        if not decode(token_ids[begin:]).startswith(_REPLACEMENT):
            return begin
    return max(0, len(token_ids) - count)
