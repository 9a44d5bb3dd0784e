"""
Stop strings in what the target writes, found at the cloud so that no pass is made behind one; no I/O.

The edge is the judge of the text (`edge.text_stream`), and what is found here ends nothing: the target pauses
until the edge has said that it goes on, or has closed. So another decoder than the edge's, or a stop string
that begins in a prompt, costs a round trip or some passes and never a token.

A pass is decoded in one go, with as many ids before it as the longest stop string has characters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from thinwire.common.session.stop_strings import check_stop_strings, with_marks

_BESIDE = 8
"""Ids kept beside, for those that are a part of a character, or have no text."""


class StopFinder:
    """
    One session's.

    Args:
        decode: pure function from ids to text, special tokens left out.
        stop: stop strings; may be empty, and then nothing is decoded.
        special_tokens: the ids that `decode` leaves out, by their names.
        prompt_token_ids: what stands before; no stop string is looked for in it.

    Raises:
        ConfigError: more stop strings, or longer ones, than a request may have.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        stop: tuple[str, ...],
        *,
        special_tokens: Mapping[str, int],
        prompt_token_ids: Sequence[int] = (),
    ) -> None:
        check_stop_strings(stop)
        self._decode = decode
        self._stop, self._marks = with_marks(stop, special_tokens)
        self._kept = _BESIDE + max(map(len, stop), default=0)
        self._before: list[int] = list(prompt_token_ids[-_BESIDE:]) if stop else []
        """Ids that are decoded along, so that the first of the others has its own text, and not searched."""
        self._ids: list[int] = []
        """Ids that are searched: the last ones written."""

    def written(self, token_ids: Sequence[int]) -> bool:
        """Whether a stop string ends in these ids; what was found is not found again."""
        if not self._stop:
            return False
        self._ids += token_ids
        text, before = self._text([*self._before, *self._ids]), self._text(self._before)
        searched = text[len(before) :] if text.startswith(before) else text
        is_found = any(stop in searched for stop in self._stop)
        cut = len(self._ids) if is_found else max(0, len(self._ids) - self._kept)
        if cut:
            self._before = [*self._before, *self._ids[:cut]][-_BESIDE:]
            del self._ids[:cut]
        return is_found

    def _text(self, token_ids: Sequence[int]) -> str:
        if not self._marks:
            return self._decode(token_ids)
        pieces, begin = [], 0
        for place, token_id in enumerate(token_ids):
            if token_id in self._marks:
                pieces += [self._decode(token_ids[begin:place]), self._marks[token_id]]
                begin = place + 1
        return "".join([*pieces, self._decode(token_ids[begin:])])
