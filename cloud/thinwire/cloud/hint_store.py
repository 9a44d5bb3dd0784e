"""
Hints that came for tokens the target has not written yet; no clock, no I/O.

A hint is a guess of the edge's: ids that may follow `base_length` committed tokens.
It was drafted on what the edge had received by then (`held_length` tokens) and on its own earlier guesses, so
one that does not know of a wrong guess before it is of no use and is dropped.
A late hint is held against what the target wrote meanwhile; what is left of it counts.
Where no hint waits, the text itself may be copied: what followed the last time it stood as it does now.
Nothing here is an error: garbage costs rows of a pass while the hit rate falls, and then nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from thinwire.common.session.copying import CopiedText
from thinwire.common.session.hit_rate import FADED, HitRate

MAX_HINTS = 64
"""Tokens kept ahead of the committed ones."""
_LATEST = 256
"""Committed tokens that a late hint is held against."""
_FIRST_COPY_RATE = 0.4
"""Hit rate of copies that is believed before any was seen."""


class Rows(NamedTuple):
    """What a pass is fed behind the committed tokens."""

    token_ids: tuple[int, ...]
    are_copied: bool
    """Whether they are of the text itself and not of the edge."""


class HintStore:
    """
    One session's hints.

    Args:
        prompt_token_ids: the tokens committed so far.
        copies: whether the text is copied where no hint waits.
    """

    def __init__(self, prompt_token_ids: Sequence[int], *, copies: bool = True) -> None:
        self._length = len(prompt_token_ids)
        self._text = CopiedText(prompt_token_ids) if copies else None
        self._latest: list[int] = []
        """The last committed ids."""
        self._waiting: tuple[int, ...] = ()
        """What may follow the committed tokens; replaced whole, so that another thread may read it."""
        self._judged = 0
        """Positions below it have counted for the hit rate: nobody gains by saying what was written."""
        self._missed = -1
        """Position of the last wrong guess."""
        self.hit_rate = HitRate()
        """Of the hints for a position, whether or not they had a row."""
        self.copy_rate = HitRate(_FIRST_COPY_RATE)
        self._copied: tuple[int, ...] = ()
        """The copy that may follow the committed tokens; replaced whole too."""
        self._copy_on()

    def add(self, token_ids: Sequence[int], *, base_length: int, held_length: int) -> None:
        """
        Take a hint; what is stale, or does not join what is here, is dropped.

        Args:
            token_ids: guesses for positions `base_length` and on.
            base_length: tokens before them, of which the edge had received `held_length`.
            held_length: at most `base_length`.
        """
        if held_length <= self._missed:
            return
        late = self._length - base_length
        if late > len(self._latest):
            return
        for offset, token_id in enumerate(token_ids[: max(0, late)]):
            right = token_id == self._latest[len(self._latest) - late + offset]
            self._note(base_length + offset, right)
            if not right:
                self._missed = base_length + offset
                self._waiting = ()
                return
        ahead = max(0, -late)
        if ahead <= len(self._waiting) and late < len(token_ids):
            joined = (*self._waiting[:ahead], *token_ids[max(0, late) :])
            self._waiting = joined[:MAX_HINTS]

    @property
    def waiting(self) -> int:
        """Hints that wait for the target to come by."""
        return len(self._waiting)

    def rows(self, most: int) -> Rows:
        """
        The hints, or the copy, that are worth a row of the next pass; may be called from the model's thread.

        Args:
            most: rows that there may be.
        """
        waiting, copied = self._waiting, self._copied
        hinted = waiting[: min(most, self.hit_rate.depth(FADED))]
        if hinted:
            return Rows(hinted, False)
        return Rows(copied[: min(most, self.copy_rate.depth(FADED))], True)

    def committed(self, token_ids: Sequence[int]) -> None:
        """Go along what the target wrote, and learn how good the hints for it were."""
        for token_id in token_ids:
            if self._copied:
                self.copy_rate.note(self._copied[0] == token_id)
            if self._text is not None:
                self._text.extend([token_id])
                self._copy_on()
            if self._waiting:
                right = self._waiting[0] == token_id
                self._note(self._length, right)
                self._waiting = self._waiting[1:] if right else ()
                if not right:
                    self._missed = self._length
            self._length += 1
        self._latest = [*self._latest, *token_ids][-_LATEST:]

    def _note(self, position: int, right: bool) -> None:
        if position >= self._judged:
            self._judged = position + 1
            self.hit_rate.note(right)

    def _copy_on(self) -> None:
        self._copied = self._text.guess(MAX_HINTS) if self._text is not None else ()
