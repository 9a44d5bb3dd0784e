"""
Guesses that need no model, and which of their sources speaks; no clock, no I/O.

A *source* goes along the text (`extend`) and says what may come next (`guess`): a text that the client
expects (`edge.expected_text`), or the text itself, copied (`common.session.copying`).
Every source is judged at every token for which it had a guess, whether or not that went up. So what it is
worth is known at any time and for nothing, and one that was useless comes back by itself. It is judged apart
by how many of its guesses were right just before: one that has found its place again is as good as ever.
The source with the highest hit rate speaks, in place of the draft model where it is better than that; it goes
on until another one is better by a margin, since a change sends guesses again.

What speaks sends far ahead: a target pass of 16 rows can write 17 tokens, and what is written while a message
travels must be there before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from thinwire.common.session.copying import CopiedText
from thinwire.common.session.hit_rate import FADED, HitRate
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge.expected_text import ExpectedText

MOST_IN_FLIGHT = 96
"""Tokens that the target writes in a round trip, as far as guesses reach beyond them."""
MOST_AHEAD = 128
"""Guesses ahead of what was received: as many as the cloud may be ahead of it, and keeps."""
_REACH = 32
"""Guesses beyond what is in flight: what two passes can use."""
_AT_ONCE = 8
"""So many guesses are worth a message in any case."""
_RESERVE = 4
"""Guesses beyond what is in flight, below which the cloud may soon be without."""
_MOST_IN_A_MESSAGE = 64
_MARGIN = 0.05
"""Hit rate by which another source must be better."""
_FIRST_RATES_EXPECTED = (0.5, 0.7, 0.8, 0.9, 0.95)
_FIRST_RATES_COPIED = (0.4, 0.6, 0.7, 0.75, 0.8)
"""Hit rates that are believed before any guess was judged: after 0, 1, 2, 4 and 8 that were right."""
_FIRST_STREAK_EXPECTED = 8


class Source(Protocol):
    """Where guesses come from."""

    def extend(self, token_ids: Sequence[int]) -> None:
        """Go along what was written."""

    def guess(self, most: int) -> tuple[int, ...]:
        """What may follow: at most so many ids, none where the source has no idea."""


@dataclass(eq=False)
class _Judged:
    """A source, and how good it was."""

    source: Source
    rates: tuple[HitRate, ...]
    """By how many guesses before were right one after the other."""
    streak: int = 0
    """So many were of late."""
    is_prediction: bool = False

    @property
    def rate(self) -> HitRate:
        """Of guesses such as the next one."""
        return self.rates[min(len(self.rates) - 1, self.streak.bit_length())]

    def extend(self, token_id: int) -> None:
        """Judge the source by one token, and take it along."""
        for guessed in self.source.guess(1):
            right = self.rate.note(guessed == token_id)
            self.streak = self.streak + 1 if right else 0
        self.source.extend([token_id])

    @property
    def reach(self) -> int:
        """Guesses that are likely enough, beyond what is in flight."""
        return min(_REACH, self.rate.depth(FADED))


@dataclass(eq=False)
class HintSources:
    """
    The sources of one text.

    Args:
        prediction: ids that the client expects behind the prompt; empty for none.
        may_copy: whether the text may be copied.
    """

    prediction: Sequence[int] = ()
    may_copy: bool = False
    _sources: list[_Judged] = field(default_factory=list, init=False)
    _copied: _Judged | None = field(default=None, init=False)
    _speaker: _Judged | None = field(default=None, init=False)
    _chain: list[int] = field(default_factory=list, init=False)
    """Its guesses that went up and were not come by yet."""

    def __post_init__(self) -> None:
        if self.prediction:
            source, rates = ExpectedText(self.prediction), tuple(map(HitRate, _FIRST_RATES_EXPECTED))
            self._sources.append(_Judged(source, rates, _FIRST_STREAK_EXPECTED, is_prediction=True))

    def opened(self, token_ids: Sequence[int], *, cloud_copies: bool) -> None:
        """
        A stream begins, and the cloud has none of our guesses.

        The text is copied at the edge where the cloud does not: both would copy the same, and from here it
        costs bytes and comes later.

        Args:
            token_ids: the text so far, prompt included.
            cloud_copies: whether the cloud copies.
        """
        self._chain = []
        if self.may_copy and not cloud_copies and self._copied is None:
            rates = tuple(map(HitRate, _FIRST_RATES_COPIED))
            self._copied = _Judged(CopiedText(token_ids), rates)
            self._sources.append(self._copied)

    def written(self, token_ids: Sequence[int], statistics: GenerationStatistics) -> None:
        """Go along what was written, and count what was predicted of it."""
        for token_id in token_ids:
            if self._chain:
                right = self._chain[0] == token_id
                if self._speaker is not None and self._speaker.is_prediction:
                    statistics.accepted_prediction_tokens += right
                    statistics.rejected_prediction_tokens += 0 if right else len(self._chain)
                self._chain = self._chain[1:] if right else []
            for source in self._sources:
                source.extend(token_id)

    def has_said(self, token_id: int) -> bool:
        """Whether a guess that went up says that this comes next."""
        return self._chain[:1] == [token_id]

    def forget_sent(self) -> None:
        """The cloud has none of the guesses."""
        self._chain = []

    def speak(self, draft_rate: float) -> bool:
        """
        Whether a source speaks now, and the draft model need not.

        Args:
            draft_rate: hit rate of the draft model; 0 where it is not there or of no use.
        """
        speaker, best = None, draft_rate
        if draft_rate and self._speaker is None:
            best += _MARGIN
        for source in self._sources:
            value = source.rate.value + (_MARGIN if source is self._speaker else 0.0)
            if value > best and not source.rate.is_faded and source.source.guess(1):
                speaker, best = source, value
        if speaker is not self._speaker:
            self._speaker, self._chain = speaker, []
        return speaker is not None

    def next_hints(self, in_flight: int, room: int, *, at_once: bool = False) -> tuple[int, tuple[int, ...]]:
        """
        What the speaker has to send now, if anything: how many went up before it, and the ids.

        Args:
            in_flight: tokens that are written by the time a message arrives, about.
            room: tokens that the text may still have but one.
            at_once: a message goes up in any case.
        """
        speaker, ahead = self._speaker, len(self._chain)
        if speaker is None:
            return 0, ()
        in_flight = min(MOST_IN_FLIGHT, in_flight)
        most = min(MOST_AHEAD, room, in_flight + speaker.reach)
        guessed = speaker.source.guess(most)
        fresh = guessed[ahead:][:_MOST_IN_A_MESSAGE]
        if not fresh or list(guessed[:ahead]) != self._chain:
            return ahead, ()  # where it contradicts what it said, that is judged first
        if not at_once and len(fresh) < _AT_ONCE and ahead > in_flight + _RESERVE:
            return ahead, ()
        self._chain += fresh
        return ahead, fresh
