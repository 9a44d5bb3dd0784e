"""
The edge's half of a free-running session: it drafts ahead of what it has received, and sends guesses up.

The cloud writes whether guesses come or not; what it writes is the text (`schemes/coupled.py`).
The guesses that the cloud has not come by yet are a tree (`edge.guess_tree`): what comes down shortens its
trunk from the front. Where a guess was wrong, a branch takes its place if there is one for the token written;
otherwise the draft model's cache is rolled back to what was right, and drafting begins anew.
A draft in progress is never waited for: when it ends, it is held against what came down meanwhile, and one
that builds on a wrong guess is cut short.

Drafting goes on while the trunk as a whole is likely enough, and as long as guesses are right now and then; a
draft that never is fades to one guess with every acknowledgement, by which it may come back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from thinwire.common.errors import RemoteProtocolError
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.schemes.coupled import one_point
from thinwire.common.session.hit_rate import PROBE_TOKENS, HitRate
from thinwire.common.session.messages import (
    MAX_WRITTEN_TOKENS,
    CloseReason,
    FinishReason,
    FreeRun,
    Hints,
    Opened,
    TokenKind,
    Written,
)
from thinwire.common.session.states import Happening, State, after
from thinwire.edge import events
from thinwire.edge.conversation import Conversation
from thinwire.edge.guess_tree import BRANCH_PRICE, LEAST_BRANCH, MAX_TRUNK, Guess, GuessTree
from thinwire.edge.hint_pace import HintPace
from thinwire.edge.hint_sources import MOST_IN_FLIGHT, HintSources

ACKNOWLEDGE_TOKENS = PROBE_TOKENS
"""Tokens received before a message goes up that only acknowledges them; an eighth of the cloud's window."""
_RETRY_TOKENS = 64
"""After so many tokens a draft whose guesses saved next to nothing is tried again."""
_MOST_IN_FLIGHT = 16


class FreeRunningSession(Conversation):
    """
    One generation beside a cloud that writes by itself, seen from the edge; see `Conversation`.

    `sources` are those of guesses besides the draft model.
    """

    awaiting = State.IDLE

    def __init__(self, *args: Any, sources: HintSources | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._sources = sources or HintSources()
        self._scheme_state = self._scheme.initial_state()
        self._guesses = GuessTree()
        self._cached: list[int] = []
        """What the draft model was fed."""
        self._checked = 0
        """So many of these are known to be the text's."""
        self._draft_position = 0
        """Of the first token of the draft in progress."""
        self._heard_s = 0.0
        """When something came down last."""
        self._use = HitRate()
        """Of the tokens written, those that a guess saved a pass: guesses may be right and come too late."""
        self._drafted_length = 0
        """Committed tokens when the last draft was asked for."""
        self._unacknowledged = 0
        """Tokens received since the last message up."""
        self._pace = HintPace()
        self._missing = 0
        """Passes of late that lacked a guess which the cloud must have had: it drops some, above a rate."""
        self._began: tuple[float, int] | None = None
        """When the first token of a stream came down, and how many there were behind it."""

    @property
    def _free_run(self) -> FreeRun:
        return FreeRun(
            max_length=self._committed.max_length,
            held_length=len(self._committed),
            prefix_hash=self._committed.prefix_hash,
            stop_token_ids=tuple(sorted(self._committed.stop_token_ids)),
            ignore_eos=self._request.ignore_eos,
            saves_passes=self._request.objective == "cloud",
            stop=self._request.stop,
        )

    def _on_own(self, event: events.EdgeEvent, now: float) -> list[events.EdgeEffect]:
        match event:
            case events.WrittenReceived(written):
                return self._on_written(written, now)
            case _:
                sentence = f"{type(event).__name__} in a free-running session; expected what was written."
                return self._fail(RemoteProtocolError(sentence))

    def _on_timer(self, now: float) -> list[events.EdgeEffect]:
        if now < self._due_s:
            return []  # it waited behind what armed it anew
        return super()._on_timer(now)

    def _awaited(self) -> str:
        return f"the token behind {len(self._committed)}"

    def _forget_session(self) -> None:
        pass  # the next Open says all that a new session needs

    def _put_off_until(self, at_s: float) -> None:
        pass

    # --- the stream ---------------------------------------------------------------------------------------

    def _on_opened(self, opened: Opened, now: float) -> list[events.EdgeEffect]:
        self._sources.opened(self.committed_token_ids, cloud_copies=opened.copies)
        return super()._on_opened(opened, now)

    def _on_begun(self, now: float) -> list[events.EdgeEffect]:
        self._heard_s = now
        self._began = None
        self._pace.opened(self._asked_s, now)
        self._guesses.forget_sent()
        return [self._arm_silence(now), *self._send_on(now), *self._next_draft(now)]

    def _on_resumed(self, opened: Opened, now: float) -> list[events.EdgeEffect]:
        if opened.committed_length < len(self._committed):
            return self._fail(
                RemoteProtocolError(
                    f"the session resumed at {opened.committed_length} tokens; expected at least "
                    f"{len(self._committed)}."
                )
            )
        return self._on_begun(now)

    def _arm_silence(self, now: float) -> events.ArmTimer:
        return self._arm(now, self._deadline.seconds(0, self._patience.tries))

    def _in_flight(self, now: float, most: int = _MOST_IN_FLIGHT) -> int:
        """Tokens that the target writes in a round trip: so far it is ahead of what was received and sent."""
        if self._began is None or now <= self._began[0]:
            return 0
        per_s = (len(self._committed) - self._began[1]) / (now - self._began[0])
        return min(most, math.ceil(per_s * self._pace.round_trip_s))

    def _send_on(self, now: float) -> list[events.EdgeEffect]:
        """What the cloud lacks, when it is time for it (`edge.hint_pace`)."""
        owes = self._unacknowledged >= ACKNOWLEDGE_TOKENS
        if self._sources.speak(self._draft_rate):
            self._guesses.forget_sent()  # what a source says takes the place of what was drafted
            in_flight = self._in_flight(now, MOST_IN_FLIGHT)
            ahead, ids = self._sources.next_hints(in_flight, self._committed.room, at_once=owes)
            if not (owes or ids):
                return []
            self._pace.goes_up(self._guesses, now)
            return [self._hints(ids, ahead)]
        if not (owes or (self._guesses.has_unsent and self._is_time(now))):
            return []
        self._pace.goes_up(self._guesses, now)
        ahead = self._guesses.sent
        unsent, branches = self._guesses.take_unsent(self._scheme.max_draft_length)
        guesses = [*unsent, *(guess for branch in branches.values() for guess in branch)]
        message = self._hints(
            [guess.token_id for guess in guesses],
            ahead,
            chances=bytes(round(255 * guess.chance) for guess in guesses),
            branch_lengths=tuple(len(branch) for branch in branches.values()),
            branch_places=tuple(branches),
        )
        return [message]

    def _hints(self, token_ids: Sequence[int], ahead: int, **more: Any) -> events.Send:
        """A message with guesses that begin `ahead` of the committed tokens."""
        self._unacknowledged = 0
        payload = self._scheme.encode([DraftToken(one_point(i), 0) for i in token_ids], coding=0)
        return events.Send(Hints(len(self._committed), ahead, len(token_ids), payload, **more))

    def _is_time(self, now: float) -> bool:
        return self._pace.is_time(self._guesses, now, is_drafting=self._drafting)

    def _end(self, reason: FinishReason, close: CloseReason) -> list[events.EdgeEffect]:
        judged = self._guesses.calibration.hit_rate
        self.statistics.hints_judged, self.statistics.hints_right = judged.judged, judged.right
        return super()._end(reason, close)

    # --- what was written ---------------------------------------------------------------------------------

    def _on_written(self, written: Written, now: float) -> list[events.EdgeEffect]:
        if self.state is not State.IDLE:
            return []  # of a former stream while a new one opens; that one will say it again
        length, size = len(self._committed), self._vocabulary.size
        skip = length - written.first_position
        count = len(written.token_ids)
        known = self._committed.since(written.first_position)[:count]
        if not (skip >= 0 and written.is_possible(size) and written.token_ids[:skip] == known):
            sentence = (
                f"{count} tokens, {written.token_ids[:8]} first and {written.hinted} of {written.hint_rows} "
                f"hinted, came for position {written.first_position}"
            )
            expected = f"1 to {MAX_WRITTEN_TOKENS} ids below {size} for position {length}, or the text's own"
            return self._fail(RemoteProtocolError(f"{sentence}; expected {expected}."))
        if count <= skip:
            return []  # all of it is here
        self.state = after(self.state, Happening.WRITTEN)
        self._patience.decided()
        self._deadline.took(now - self._heard_s, 0)
        self._pace.heard(written, now)
        self._heard_s = now
        fresh = written.token_ids[skip:]
        kinds = [TokenKind.ACCEPTED] * written.hinted + [TokenKind.BONUS] * len(written.token_ids)
        emitted, ending = self._committed.commit(zip(fresh, kinds[skip:], strict=False))
        self.statistics.output_tokens += len(emitted)
        self._unacknowledged += len(emitted)
        was_said = self._sources.has_said(fresh[0])
        self._sources.written([token.token_id for token in emitted], self.statistics)
        effects: list[events.EdgeEffect] = [
            events.Passed(written),
            events.Emit(tuple(emitted)),
        ]
        if ending is not None:
            return [events.ArmTimer(None), *effects, *self._end(ending, CloseReason.FINISHED)]
        had_gone_up = [self._guesses.written(token_id) for token_id in fresh]
        is_there = was_said or had_gone_up[0]
        self._notice_loss(is_there and self._pace.has_answers and not written.hint_rows)
        own = max(0, written.hinted - written.copied - skip)
        for place in range(0 if self._sources.speak(self._draft_rate) else len(emitted)):
            self._use.note(place < own)
        if written.pauses:
            self._unacknowledged = ACKNOWLEDGE_TOKENS  # the text goes on, and the target waits to hear it
        effects.append(self._arm_silence(now))
        if self._drafting and self._guesses.is_stale:
            effects.append(events.CutDraft(self._attempt))
        if self._began is None:
            self._began = now, len(self._committed)
        if not self._drafting:
            effects += self._next_draft(now)
        return effects + self._send_on(now)

    def _notice_loss(self, is_missing: bool) -> None:
        """Say all guesses again where the cloud had one, and twice in a row made a pass without any."""
        self._missing = self._missing + 1 if is_missing else 0
        if self._missing == 2:
            self._missing = 0
            self._guesses.forget_sent()
            self._sources.forget_sent()

    # --- guessing -----------------------------------------------------------------------------------------

    @property
    def _draft_rate(self) -> float:
        """Hit rate of the draft model; 0 where it is not there, or rests."""
        is_there = self._request.draft_length and self._committed.draft_room
        rate = self._guesses.calibration.hit_rate
        return rate.value if is_there and not (self._use.is_faded or rate.is_faded) else 0.0

    def _next_draft(self, now: float) -> list[events.EdgeEffect]:
        """Guess on where that is likeliest to be of use, if it is anywhere."""
        if self._drafting or self._rests() or self._sources.speak(self._draft_rate):
            return []
        longest, room = self._longest_draft(), self._committed.draft_room
        # What is written by now is right or wrong already, and says nothing of the guesses behind it.
        likely, least = self._guesses.chance(self._in_flight(now)), self._request.min_block_acceptance
        path, barred = self._guesses.trunk, self._committed.ending_token_ids
        goes_on = likely >= least and len(path) < min(room, MAX_TRUNK)
        goes_on = goes_on and not (path and path[-1].token_id in barred)
        if self._guesses.calibration.hit_rate.is_faded:
            if path or self._unacknowledged < ACKNOWLEDGE_TOKENS:
                return []
            longest = 1
        branch, branch_chance = self._guesses.next_branch(barred)
        rival = BRANCH_PRICE * self._guesses.chance() if goes_on else 0.0
        if branch_chance >= max(LEAST_BRANCH, rival) and room > len(branch):
            path, likely = branch, 1.0
        elif not goes_on:
            return []
        longest = min(longest, min(room, MAX_TRUNK) - len(path))
        # With no least chance `likely` may be 0: the product of many small ones.
        min_acceptance = self._guesses.calibration.claim(min(1.0, least / likely)) if least else 0.0
        return self._draft_behind(path, longest, min_acceptance, now) if longest > 0 else []

    def _rests(self) -> bool:
        """Whether drafts saved next to nothing of late."""
        return self._use.is_faded and len(self._committed) < self._drafted_length + _RETRY_TOKENS

    def _draft_behind(
        self, path: Sequence[Guess], longest: int, min_acceptance: float, now: float
    ) -> list[events.EdgeEffect]:
        """Draft behind these guesses; the cache is rolled back first where it holds others."""
        guesses = tuple(guess.token_id for guess in path)
        sound = self._roll_back(guesses)
        effects: list[events.EdgeEffect] = []
        if sound < self._cache_length:
            self._cache_length = sound
            effects.append(events.TruncateCache(sound))
        length = len(self._committed)
        feed = (*self._committed.since(sound), *guesses[max(0, sound - length) :])
        self._cached += feed
        self._draft_position = length + len(guesses)
        self._drafted_length = length
        self._guesses.begin(path)
        self._pace.draft_begins(now)
        draft = self._draft(
            feed_token_ids=feed,
            first_position=self._draft_position,
            max_draft_length=longest,
            min_acceptance=min_acceptance,
            state=self._scheme_state,
            names_runners_up=True,
        )
        return [*effects, draft]

    def _roll_back(self, guesses: tuple[int, ...]) -> int:
        """Forget what the draft model was fed and they do not hold; at least their last is left to feed."""
        length = len(self._committed)
        text = (*self._committed.since(self._checked), *guesses)
        sound = self._checked
        for cached, token_id in zip(self._cached[sound:], text[:-1], strict=False):
            if cached != token_id:
                break
            sound += 1
        self._checked = min(sound, length)
        del self._cached[sound:]
        return sound

    def _on_drafted(self, block: events.DraftedBlock, now: float) -> list[events.EdgeEffect]:
        """Join the guesses to the others, as far as what came down meanwhile leaves them."""
        self._cached += (token.token_id for token in block.tokens[:-1])
        self._pace.draft_ends(now)
        ids = [token.token_id for token in block.tokens]
        seconds = block.runners_up or (None,) * len(ids)
        guesses = list(map(Guess, ids, block.acceptances, seconds))
        self._guesses.join(guesses, self._committed.since(self._draft_position))
        effects: list[events.EdgeEffect] = [events.Hinted(block)]
        if self.state is State.IDLE:
            effects += [*self._next_draft(now), *self._send_on(now)]
        return effects
