"""
A text that the client expects, and where in it the text stands that is being written; no clock, no I/O.

While the text is as expected, what comes next is the next id. Where it departs there is no guess, until the
last ids of the text are met in the expected one again: the longest run of them that is there, of eight ids
down to two, and of several places the nearest behind the last one that was right.
So an edit (a word replaced, a line put in or left out) costs some tokens without a guess.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thinwire.common.causal_model import Vocabulary

_LONGEST = 8
_SHORTEST = 2
"""Ids of the text that must be met in this order."""
_CONTEXT_CHARACTERS = 64
"""Of the prompt's end: tokens at the beginning of what follows depend on it."""


def expected_ids(vocabulary: Vocabulary, prompt: str, expected: str) -> tuple[int, ...]:
    """The ids of an expected text as they stand behind the prompt; special tokens are none of them."""
    if not expected:
        return ()
    before, special = prompt[-_CONTEXT_CHARACTERS:], set(vocabulary.special_tokens.values())
    whole, begin = (
        tuple(i for i in vocabulary.encode(text) if i not in special) for text in (before + expected, before)
    )
    same = 0
    while same < len(begin) and whole[same : same + 1] == begin[same : same + 1]:
        same += 1
    return whole[same:]


class ExpectedText:
    """
    One expected text; of the text that is written only the last ids are kept.

    Args:
        token_ids: what is expected behind the prompt; may be empty.
    """

    def __init__(self, token_ids: Sequence[int]) -> None:
        self._ids = np.asarray(token_ids, dtype=np.int32)
        self._place = 0
        """Behind the last place at which the text was as expected."""
        self._is_met = True
        """Whether the text stands there."""
        self._latest: list[int] = []

    def extend(self, token_ids: Sequence[int]) -> None:
        """Go along what was written behind the prompt."""
        for token_id in token_ids:
            self._latest = [*self._latest, token_id][-_LONGEST:]
            if self._is_met and self._place < self._ids.size and self._ids[self._place] == token_id:
                self._place += 1
            else:
                self._is_met = self._find()

    def guess(self, most: int) -> tuple[int, ...]:
        """What comes next: at most so many ids, none where the text is not as expected."""
        return tuple(self._ids[self._place : self._place + most].tolist()) if self._is_met else ()

    def _find(self) -> bool:
        """Whether the end of the text is in the expected one; goes behind it there."""
        ends = np.flatnonzero(self._ids == self._latest[-1]) + 1
        run = 1
        for back, token_id in enumerate(reversed(self._latest[:-1]), 2):
            longer = ends[ends >= back]
            longer = longer[self._ids[longer - back] == token_id]
            if not longer.size:
                break
            ends, run = longer, back
        if run < _SHORTEST:
            return False
        ahead = ends[ends >= self._place]
        self._place = int(ahead[0]) if ahead.size else int(ends[-1])
        return True
