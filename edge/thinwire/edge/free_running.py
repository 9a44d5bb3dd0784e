"""
The edge's half of a free-running session: it drafts ahead of what it has received, and sends guesses up.

The cloud writes whether guesses come or not; what it writes is the text (`schemes/coupled.py`).
The guesses that the cloud has not come by yet are the *chain*. What comes down shortens it from the front.
Where a guess was wrong it empties it: the draft model's cache is rolled back to what was right, and drafting
begins anew behind the token that was written.
A draft in progress is never waited for: when it ends, it is held against what came down meanwhile.

Drafting goes on while the chain as a whole is likely enough, and as long as guesses are right now and then; a
draft that never is fades to one guess with every acknowledgement, by which it may come back.
"""

from __future__ import annotations

import math
from typing import Any

from thinwire.common.errors import RemoteProtocolError
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.session.hit_rate import PROBE_TOKENS, HitRate
from thinwire.common.session.messages import (
    MAX_WRITTEN_TOKENS,
    CloseReason,
    FreeRun,
    Hints,
    Opened,
    TokenKind,
    Written,
)
from thinwire.common.session.states import Happening, State, after
from thinwire.edge import events
from thinwire.edge.conversation import Conversation

ACKNOWLEDGE_TOKENS = PROBE_TOKENS
"""Tokens received before a message goes up that only acknowledges them; an eighth of the cloud's window."""
_RETRY_TOKENS = 64
"""After so many tokens a draft whose guesses saved next to nothing is tried again."""
_RESERVE = 2
"""Guesses that the cloud should have beside those that it comes by in a round trip."""
_AT_ONCE = 4
"""So many guesses are worth a message in any case."""
_MOST_IN_FLIGHT = 16
MAX_CHAIN = 48
"""Guesses ahead of what was received."""


class FreeRunningSession(Conversation):
    """One generation beside a cloud that writes by itself, seen from the edge; see `Conversation`."""

    awaiting = State.IDLE

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._scheme_state = self._scheme.initial_state()
        self._chain: list[tuple[DraftToken, float]] = []
        """Guesses behind the committed tokens, each with its estimated chance."""
        self._cached: list[int] = []
        """What the draft model was fed."""
        self._checked = 0
        """So many of these are known to be the text's."""
        self._draft_position = 0
        """Of the first token of the draft in progress."""
        self._is_stale = False
        """Whether a guess that the draft in progress builds on was wrong."""
        self._heard_s = 0.0
        """When something came down last."""
        self._use = HitRate()
        """Of the tokens written, those that a guess saved a pass: guesses may be right and come too late."""
        self._drafted_length = 0
        """Committed tokens when the last draft was asked for."""
        self._unacknowledged = 0
        """Tokens received since the last message up."""
        self._sent = 0
        """Guesses of the chain that went up."""
        self._round_trip_s = 0.0
        """Seconds from Open to Opened."""
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
            saves_passes=self._scheme.saves_passes,
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

    def _on_begun(self, now: float) -> list[events.EdgeEffect]:
        self._heard_s = now
        self._round_trip_s, self._began, self._sent = now - self._asked_s, None, 0
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

    def _in_flight(self, now: float) -> int:
        """Tokens that the target writes in a round trip: so far it is ahead of what was received and sent."""
        if self._began is None or now <= self._began[0]:
            return 0
        per_s = (len(self._committed) - self._began[1]) / (now - self._began[0])
        return min(_MOST_IN_FLIGHT, math.ceil(per_s * self._round_trip_s))

    def _send_on(self, now: float) -> list[events.EdgeEffect]:
        """
        The guesses that have not gone up, if the cloud will soon be without; otherwise they wait for more.

        A message costs some hundred bytes on the wire, whatever it holds.
        """
        unsent = [token for token, _ in self._chain[self._sent :]]
        is_short = self._sent <= _RESERVE + self._in_flight(now)
        owes = self._unacknowledged >= ACKNOWLEDGE_TOKENS
        if not owes and not (unsent and (is_short or len(unsent) >= _AT_ONCE)):
            return []
        message = self._hints(unsent, self._sent)
        self._sent = len(self._chain)
        return [message]

    def _hints(self, tokens: list[DraftToken], ahead: int = 0) -> events.Send:
        """A message with guesses that begin `ahead` of the committed tokens."""
        self._unacknowledged = 0
        payload = self._scheme.encode(tokens, coding=0)
        return events.Send(Hints(len(self._committed), ahead, len(tokens), payload))

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
        self._heard_s = now
        fresh = written.token_ids[skip:]
        kinds = [TokenKind.ACCEPTED] * written.hinted + [TokenKind.BONUS] * len(written.token_ids)
        emitted, ending = self._committed.commit(zip(fresh, kinds[skip:], strict=False))
        self.statistics.output_tokens += len(emitted)
        self._unacknowledged += len(emitted)
        effects: list[events.EdgeEffect] = [
            events.Passed(written),
            events.Emit(tuple(emitted)),
        ]
        if ending is not None:
            return [events.ArmTimer(None), *effects, *self._end(ending, CloseReason.FINISHED)]
        self._advance(fresh)
        own = max(0, written.hinted - written.copied - skip)
        for place in range(len(emitted)):
            self._use.note(place < own)
        effects.append(self._arm_silence(now))
        if self._began is None:
            self._began = now, len(self._committed)
        if not self._drafting:
            effects += self._next_draft(now)
        return effects + self._send_on(now)

    def _advance(self, token_ids: tuple[int, ...]) -> None:
        """Shorten the chain by what was written, or give it up."""
        for token_id in token_ids:
            if self._chain:
                right = self._hit_rate.note(self._chain[0][0].token_id == token_id)
                self._chain = self._chain[1:] if right else []
                self._sent = max(0, self._sent - 1) if right else 0
                self._is_stale = self._is_stale or not right

    # --- guessing -----------------------------------------------------------------------------------------

    def _next_draft(self, now: float) -> list[events.EdgeEffect]:
        """Guess on, if that is worth it; the cache is rolled back first where it is wrong."""
        longest = min(self._longest_draft(), MAX_CHAIN - len(self._chain))
        longest = min(longest, self._committed.draft_room - len(self._chain))
        # What is written by now is right or wrong already, and says nothing of the guesses behind it.
        likely = math.prod(chance for _, chance in self._chain[self._in_flight(now) :])
        least = self._request.min_block_acceptance
        if self._drafting or longest <= 0 or likely < least:
            return []
        if self._chain and self._chain[-1][0].token_id in self._committed.ending_token_ids:
            return []
        if self._use.is_faded and len(self._committed) < self._drafted_length + _RETRY_TOKENS:
            return []
        if self._hit_rate.is_faded:
            if self._chain or self._unacknowledged < ACKNOWLEDGE_TOKENS:
                return []
            longest = 1
        sound = self._roll_back()
        effects: list[events.EdgeEffect] = []
        if sound < self._cache_length:
            self._cache_length = sound
            effects.append(events.TruncateCache(sound))
        length = len(self._committed)
        guesses = tuple(token.token_id for token, _ in self._chain)
        feed = (*self._committed.since(sound), *guesses[max(0, sound - length) :])
        self._cached += feed
        self._draft_position = length + len(guesses)
        self._drafted_length = length
        self._is_stale = False
        draft = self._draft(
            feed_token_ids=feed,
            first_position=self._draft_position,
            max_draft_length=longest,
            min_acceptance=least / likely,
            state=self._scheme_state,
        )
        return [*effects, draft]

    def _roll_back(self) -> int:
        """Forget what the draft model was fed and the text does not hold; at least its last token is left."""
        length = len(self._committed)
        text = (*self._committed.since(self._checked), *(token.token_id for token, _ in self._chain))
        sound = self._checked
        for cached, token_id in zip(self._cached[sound:], text[:-1], strict=False):
            if cached != token_id:
                break
            sound += 1
        self._checked = min(sound, length)
        del self._cached[sound:]
        return sound

    def _on_drafted(self, block: events.DraftedBlock, now: float) -> list[events.EdgeEffect]:
        """Join the guesses to the chain, as far as what came down meanwhile leaves them."""
        self._cached += (token.token_id for token in block.tokens[:-1])
        guesses = [] if self._is_stale else list(zip(block.tokens, block.acceptances, strict=True))
        for token_id in self._committed.since(self._draft_position) if guesses else ():
            if not guesses or not self._hit_rate.note(guesses.pop(0)[0].token_id == token_id):
                guesses = []
                break
        self._chain += guesses
        effects: list[events.EdgeEffect] = [events.Hinted(block)]
        if self.state is State.IDLE:
            effects += [*self._send_on(now), *self._next_draft(now)]
        return effects
