"""
The edge's guesses of what the target writes next: a trunk behind the committed tokens, and branches off it.

A branch stands where the trunk may be wrong: it begins with the runner-up of the race there, and goes on as
the draft model does behind it. If the target writes the runner-up, the branch is the trunk from then on, and
the guesses behind it are at the cloud already.
The next draft goes where a guess is likeliest to be of use; no clock, no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from thinwire.common.session.hit_rate import Calibration, HitRate

MAX_TRUNK = 48
"""Guesses behind the committed tokens."""
MAX_BRANCHES = 8
_RUNNER_UP_RATE = 0.4
"""Share of the wrong guesses whose runner-up is right, before any was seen."""
BRANCH_PRICE = 2.0
"""A branch has to be so much likelier than the trunk's next guess: the draft model is fed the trunk again."""
LEAST_BRANCH = 0.03
"""Chance below which a branch is not drafted."""


class Guess(NamedTuple):
    """One guessed token."""

    token_id: int
    chance: float
    """
    Estimated: that it is right if those before it are; of the first of a branch, if the trunk's guess for its
    place is wrong.
    """
    runner_up: int | None = None
    """The id that is second in the race; None where it is not known."""


class GuessTree:
    """The guesses of one text; `trunk` is behind the committed tokens, whose number the caller knows."""

    def __init__(self) -> None:
        self.trunk: list[Guess] = []
        self.sent = 0
        """Guesses of the trunk that went up."""
        self.calibration = Calibration()
        """Of the trunk's guesses: what their estimated chances are worth."""
        self.runner_up_rate = HitRate(_RUNNER_UP_RATE)
        """Of the runners-up where the trunk was wrong."""
        self._branches: dict[int, list[Guess]] = {}
        """By the place in the trunk that each is another guess for."""
        self._to_send: list[int] = []
        """Branches that have not gone up."""
        self._path: list[Guess] = []
        """Guesses that the draft in progress builds on, as far as they are not written yet."""
        self.is_stale = False
        """Whether the draft in progress builds on a wrong guess."""

    # --- what was written ---------------------------------------------------------------------------------

    def written(self, token_id: int) -> bool:
        """Go along one committed token; whether it was guessed, and the guess had gone up."""
        if self._path:
            self.is_stale = self.is_stale or self._path.pop(0).token_id != token_id
        if not self.trunk:
            return False
        first = self.trunk[0]
        branch = self._branches.pop(0, None)
        if self.calibration.note(first.token_id == token_id, first.chance):
            self.trunk.pop(0)
            had_gone_up, self.sent = self.sent > 0, max(0, self.sent - 1)
            self._branches = {place - 1: guesses for place, guesses in self._branches.items()}
            self._to_send = [place - 1 for place in self._to_send if place]
            return had_gone_up
        if first.runner_up is not None:
            self.runner_up_rate.note(first.runner_up == token_id)
        is_right = branch is not None and branch[0].token_id == token_id
        self.trunk = branch[1:] if branch is not None and is_right else []
        had_gone_up = is_right and 0 not in self._to_send
        self.sent = len(self.trunk) if had_gone_up else 0
        self._branches, self._to_send = {}, []
        return had_gone_up

    def forget_sent(self) -> None:
        """Nothing of the guesses is at the cloud."""
        self.sent = 0
        self._to_send = sorted(self._branches)

    # --- drafts -------------------------------------------------------------------------------------------

    def begin(self, path: Sequence[Guess]) -> None:
        """A draft begins behind these guesses."""
        self._path, self.is_stale = list(path), False

    def join(self, drafted: Sequence[Guess], overtaken: Sequence[int]) -> None:
        """
        The draft is done.

        Args:
            drafted: its guesses.
            overtaken: committed ids at their places, where the target was there first.
        """
        guesses = list(drafted)
        for token_id in () if self.is_stale else overtaken:
            if not guesses:
                return
            guess = guesses.pop(0)
            if not self.calibration.note(guess.token_id == token_id, guess.chance):
                return
        if self.is_stale:
            return
        whole = [*self._path, *guesses]
        self._path = []
        place = 0
        while place < min(len(whole), len(self.trunk)) and self.trunk[place][0] == whole[place][0]:
            place += 1
        if place == len(self.trunk):
            self.trunk += whole[place:]
        elif place < len(whole) and place not in self._branches:
            self._branches[place] = whole[place:]
            self._to_send.append(place)

    def next_branch(self, barred: frozenset[int]) -> tuple[list[Guess], float]:
        """
        The likeliest branch that is not there yet, as the guesses up to its first, and its chance.

        Args:
            barred: ids behind which nothing is drafted.
        """
        best, most, before = -1, 0.0, 1.0
        if len(self._branches) < MAX_BRANCHES:
            for place, guess in enumerate(self.trunk):
                reached = before * self.calibration.chance(guess.chance)
                likely = (before - reached) * self.runner_up_rate.value
                before = reached
                is_new = guess.runner_up not in (None, *barred) and place not in self._branches
                if is_new and likely > most:
                    best, most = place, likely
        if best < 0:
            return [], 0.0
        runner_up = self.trunk[best].runner_up
        assert runner_up is not None
        return [*self.trunk[:best], Guess(runner_up, self.runner_up_rate.value)], most

    def chance(self, skipped: int = 0) -> float:
        """That the whole trunk is right, the first `skipped` guesses taken for so."""
        return math.prod(self.calibration.chance(guess.chance) for guess in self.trunk[skipped:])

    @property
    def sent_chance(self) -> float:
        """That all of the trunk that went up is right."""
        return math.prod(self.calibration.chance(guess.chance) for guess in self.trunk[: self.sent])

    # --- what goes up -------------------------------------------------------------------------------------

    @property
    def has_unsent(self) -> bool:
        """Whether there is something that the cloud lacks."""
        return self.sent < len(self.trunk) or any(place < len(self.trunk) for place in self._to_send)

    def take_unsent(self, most: int) -> tuple[list[Guess], dict[int, list[Guess]]]:
        """
        What the cloud lacks, at most so many guesses, and has from now on: of the trunk, and branches.

        A branch goes whole, and when the cloud has the guess for its place.
        """
        unsent = self.trunk[self.sent :][:most]
        self.sent += len(unsent)
        room, branches = most - len(unsent), dict[int, list[Guess]]()
        for place in list(self._to_send):
            if place < self.sent and len(self._branches[place]) <= room:
                branches[place] = self._branches[place]
                room -= len(branches[place])
                self._to_send.remove(place)
        return unsent, branches
