"""
Hints that came for tokens the target has not written yet; no clock, no I/O.

A hint is a guess of the edge's: ids that may follow `base_length` committed tokens.
It was drafted on what the edge had received by then (`held_length` tokens) and on its own earlier guesses, so
one that does not know of a wrong guess before it is of no use and is dropped.
A late hint is held against what the target wrote meanwhile; what is left of it counts.
A *branch* is another guess for a place that has a hint, and what follows it: if the target writes that, the
branch is what waits from then on.
Where no hint waits, the text itself may be copied: what followed the last time it stood as it does now.
Nothing here is an error: garbage costs rows of a pass while the hit rate falls, and then nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from thinwire.cloud.row_price import RowPrice
from thinwire.common.session.copying import CopiedText
from thinwire.common.session.hit_rate import Calibration, HitRate

MAX_HINTS = 128
"""Tokens kept ahead of the committed ones."""
_LATEST = 256
"""Committed tokens that a late hint is held against."""
MAX_BRANCHES = 8
_FIRST_COPY_RATE = 0.4
"""Hit rate of copies that is believed before any was seen."""


class Rows(NamedTuple):
    """What a pass is fed behind the committed tokens."""

    token_ids: tuple[int, ...]
    are_copied: bool
    """Whether they are of the text itself and not of the edge."""
    parents: tuple[int, ...] = ()
    """
    The row that each follows: 0 is the last committed token, k the token k - 1; empty for one chain.
    """


class Hint(NamedTuple):
    """One guess."""

    token_id: int
    claim: float
    """
    Chance that it is right where those before it are, as the edge has it; of the first of a branch, where the
    hint for its place is wrong.
    """


class Branch(NamedTuple):
    """Another guess for a place, and what follows it."""

    place: int
    """Hints of the trunk before it."""
    hints: tuple[Hint, ...]


class HintStore:
    """
    One session's hints.

    Args:
        prompt_token_ids: the tokens committed so far.
        copies: whether the text is copied where no hint waits.
        takes_trees: whether branches may have rows beside the trunk's.
        row_price: the cloud's; one of its own where it is not given.
    """

    def __init__(
        self,
        prompt_token_ids: Sequence[int],
        *,
        copies: bool = True,
        takes_trees: bool = False,
        row_price: RowPrice | None = None,
    ) -> None:
        self._length = len(prompt_token_ids)
        self._text = CopiedText(prompt_token_ids) if copies else None
        self._latest: list[int] = []
        """The last committed ids."""
        self._waiting: tuple[tuple[Hint, ...], tuple[Branch, ...]] = (), ()
        """What may follow the committed tokens; replaced whole, so that another thread may read it."""
        self._judged = 0
        """Positions below it have counted for the hit rate: nobody gains by saying what was written."""
        self._missed = -1
        """Position of the last wrong guess."""
        self._calibration = Calibration()
        """Of the hints for a position, whether or not they had a row."""
        self._branches_judged = Calibration()
        """Of the branches where the hint was wrong, against their claims beside the hint's."""
        self.copy_rate = HitRate(_FIRST_COPY_RATE)
        self._row_price = row_price or RowPrice()
        self._takes_trees = takes_trees
        self._copied: tuple[int, ...] = ()
        """The copy that may follow the committed tokens; replaced whole too."""
        self._copy_on()

    @property
    def hit_rate(self) -> HitRate:
        """Of the hints for a position."""
        return self._calibration.hit_rate

    def add(self, hints: Sequence[Hint], *, base_length: int, held_length: int) -> None:
        """
        Take hints; what is stale, or does not join what is here, is dropped.

        Args:
            hints: guesses for positions `base_length` and on.
            base_length: tokens before them, of which the edge had received `held_length`.
            held_length: at most `base_length`.
        """
        if held_length <= self._missed:
            return
        late = self._length - base_length
        if late > len(self._latest):
            return
        trunk, branches = self._waiting
        for offset, hint in enumerate(hints[: max(0, late)]):
            right = hint.token_id == self._latest[len(self._latest) - late + offset]
            self._note(base_length + offset, right, hint.claim)
            if not right:
                self._missed = base_length + offset
                self._waiting = (), ()
                return
        ahead = max(0, -late)
        if ahead <= len(trunk) and late < len(hints):
            joined = (*trunk[:ahead], *hints[max(0, late) :])[:MAX_HINTS]
            self._waiting = joined, tuple(branch for branch in branches if branch.place < ahead)

    def add_branch(self, hints: Sequence[Hint], *, base_length: int, held_length: int) -> None:
        """
        Take another guess for the position `base_length`, and what follows it; arguments as `add`'s.

        A late one is what waits now, if it is right where the hint for the position was not.
        """
        late = self._length - base_length
        trunk, branches = self._waiting
        if late <= 0:
            place = -late
            is_known = held_length > self._missed and place < len(trunk)
            if is_known and len(branches) < MAX_BRANCHES and all(b.place != place for b in branches):
                self._waiting = trunk, (*branches, Branch(place, tuple(hints[:MAX_HINTS])))
        elif self._missed == base_length and late <= len(self._latest) and not trunk:
            written = self._latest[len(self._latest) - late :]
            agreed = sum(
                1
                for _ in takewhile(
                    lambda pair: pair[0].token_id == pair[1], zip(hints, written, strict=False)
                )
            )
            if agreed == late:
                self._waiting = tuple(hints[late:][:MAX_HINTS]), ()
            elif agreed < len(hints):
                self._missed = base_length + agreed

    @property
    def waiting(self) -> int:
        """Hints that wait for the target to come by."""
        return len(self._waiting[0])

    def rows(self, most: int) -> Rows:
        """
        The hints, or the copy, that are worth a row of the next pass; may be called from the model's thread.

        Args:
            most: rows that there may be.
        """
        (trunk, branches), copied = self._waiting, self._copied
        price = self._row_price.value
        if trunk and not self.hit_rate.is_faded:
            return self._worth(trunk, branches if self._takes_trees else (), most, price)
        depth = 0 if self.copy_rate.is_faded else self.copy_rate.depth(price)
        return Rows(copied[: min(most, depth)], True)

    def _worth(self, trunk: Sequence[Hint], branches: Sequence[Branch], most: int, price: float) -> Rows:
        """The likeliest of trunk and branches, each behind those that it follows."""
        reached = self._reached(trunk, 1.0)
        places: list[tuple[float, int, int]] = [(-chance, 0, n) for n, chance in enumerate(reached)]
        for number, branch in enumerate(branches, 1):
            before = reached[branch.place - 1] if branch.place else 1.0
            first = branch.hints[0]
            turns = self._branches_judged.chance(first.claim) * (before - reached[branch.place])
            chances = (turns, *self._reached(branch.hints[1:], turns))
            places += [(-chance, number, n) for n, chance in enumerate(chances)]
        taken = sorted(place for place in places if -place[0] >= price)[:most]
        counts = [0] * (1 + len(branches))
        for _, number, _ in taken:
            counts[number] += 1
        token_ids = [hint.token_id for hint in trunk[: counts[0]]]
        parents = list(range(counts[0]))
        for branch, count in zip(branches, counts[1:], strict=True):
            if count and branch.place < counts[0]:  # beside the hint for its place, never in its stead
                parents += [branch.place, *range(len(token_ids) + 1, len(token_ids) + count)]
                token_ids += [hint.token_id for hint in branch.hints[:count]]
        return Rows(tuple(token_ids), False, () if len(token_ids) == counts[0] else tuple(parents))

    def _reached(self, hints: Sequence[Hint], chance: float) -> list[float]:
        """Chance that each and all before it are right."""
        reached = []
        for hint in hints:
            chance *= self._calibration.chance(hint.claim)
            reached.append(chance)
        return reached

    def committed(self, token_ids: Sequence[int]) -> None:
        """Go along what the target wrote, and learn how good the hints for it were."""
        for token_id in token_ids:
            if self._copied:
                self.copy_rate.note(self._copied[0] == token_id)
            if self._text is not None:
                self._text.extend([token_id])
                self._copy_on()
            if self._waiting[0]:
                self._go_along(token_id)
            self._length += 1
        self._latest = [*self._latest, *token_ids][-_LATEST:]

    def _go_along(self, token_id: int) -> None:
        trunk, branches = self._waiting
        right = trunk[0].token_id == token_id
        self._note(self._length, right, trunk[0].claim)
        if right:
            self._waiting = trunk[1:], tuple(b._replace(place=b.place - 1) for b in branches if b.place)
            return
        self._missed = self._length
        turned: tuple[Hint, ...] = ()
        for branch in branches:
            first = branch.hints[0]
            if branch.place == 0 and self._branches_judged.note(first.token_id == token_id, first.claim):
                turned = branch.hints[1:]
        self._waiting = turned, ()

    def _note(self, position: int, right: bool, claim: float) -> None:
        if position >= self._judged:
            self._judged = position + 1
            self._calibration.note(right, claim)

    def _copy_on(self) -> None:
        self._copied = self._text.guess(MAX_HINTS) if self._text is not None else ()
