"""
The edge's half of a session: events in, effects out, nothing else.

It decides all about tokens: what to draft, what a verdict commits, where the text ends, what is resent.
It never waits, draws, reads a clock or touches a model; the shell (`edge.generation`) does that.

Life: Connected → Send(Open) → OpenedReceived → Draft → Drafted → Send(DraftBlock) → VerdictReceived → Emit,
Draft ... → Send(Close), Finish.
A sent block is kept and, after a reconnect, sent again as the same bytes; it is never drafted anew.
A session that the cloud has lost (a restart, an eviction) is opened again from the committed tokens and the
kept block goes out as its first round: draws are keyed by position, so the text is what it would have been.
A block refused by a quota, or for want of room, goes out again on a new stream within a round's time.
A draft model whose context is full drafts no more: blocks are empty, and each round brings the cloud's own
token, until the target's context is full too.
After Finish every event is ignored: late messages of a torn stream are no news.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from thinwire.common.errors import RemoteProtocolError
from thinwire.common.session.hit_rate import PROBE_TOKENS, HitRate
from thinwire.common.session.messages import (
    CloseReason,
    DraftBlock,
    Opened,
    TokenKind,
    Verdict,
    block_checksum,
)
from thinwire.common.session.states import Happening, State, after
from thinwire.edge import events
from thinwire.edge.conversation import Conversation

_RARE = 0.05
"""A block is no longer than would be accepted whole this often, as acceptance was of late."""
_SHORT_MEMORY = 8
"""Tokens that the hit rate remembers where a drafted token is many bytes: it fades in half the time."""
_PROBE_BYTES = 30
"""
Of a probe's payload, for each round since the one before: a quarter of what an empty round sends up
(docs/protocol.md).
"""


class EdgeSession(Conversation):
    """One generation by rounds, seen from the edge; see `Conversation`."""

    awaiting = State.VERIFYING

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._scheme_state = self._scheme.initial_state()
        self._drafted: events.DraftedBlock | None = None
        self._block: DraftBlock | None = None
        self._round = 0
        self._probe_tokens = max(PROBE_TOKENS, math.ceil(self._scheme.max_payload_bytes(1) / _PROBE_BYTES))
        """Tokens from one probe of a faded draft to the next: more where a drafted token is many bytes."""
        if self._probe_tokens > PROBE_TOKENS and options.get("hit_rate") is None:
            self._hit_rate = HitRate(memory=_SHORT_MEMORY)
        self._tried_length = 0
        """Committed tokens before the last block that was not empty."""
        self._sent_s = 0.0

    def _on_own(self, event: events.EdgeEvent, now: float) -> list[events.EdgeEffect]:
        match event:
            case events.VerdictReceived(verdict):
                return self._on_verdict(verdict, now)
            case _:
                return self._fail(
                    RemoteProtocolError(f"{type(event).__name__} in a session of rounds; expected a verdict.")
                )

    def _awaited(self) -> str:
        return f"round {self._round}"

    def _forget_session(self) -> None:
        self._round, self._block = 0, None

    def _put_off_until(self, at_s: float) -> None:
        self._sent_s = at_s  # the pause says nothing of how long a round takes

    def _on_begun(self, now: float) -> list[events.EdgeEffect]:
        if self._drafted is not None:  # the session was lost, its block was not
            return self._send_block(self._drafted, now)
        return [events.ArmTimer(None)] if self._drafting else [events.ArmTimer(None), *self._next_draft()]

    def _on_resumed(self, opened: Opened, now: float) -> list[events.EdgeEffect]:
        """Go on where the torn stream stopped: the pending block goes out again, byte for byte."""
        known = {self._round, self._round + 1} if self._block is not None else {self._round + 1}
        if opened.session_id != self._session_id or opened.next_round not in known:
            return self._fail(
                RemoteProtocolError(
                    f"the session resumed at round {opened.next_round}; expected one of {sorted(known)}."
                )
            )
        if self._block is not None:
            self.state = after(self.state, Happening.ROUND)
            return [events.Send(self._block), self._arm_round(now)]
        if self._drafted is not None:
            return self._send_block(self._drafted, now)
        return [events.ArmTimer(None)]  # drafting is still under way

    # --- rounds -------------------------------------------------------------------------------------------

    def _next_draft(self) -> list[events.EdgeEffect]:
        """
        Ask for the next block; never so long that it could overshoot max_tokens or a context.

        Nor longer than what was accepted so far makes worth while, unless γ was asked for as it is: that
        hangs on what is committed and decided, so the law of what follows does not hang on it.
        """
        length = min(self._longest_draft(), self._committed.draft_room)
        if self._request.min_block_acceptance > 0:
            length = min(length, self._worthwhile())
        return [
            self._draft(
                feed_token_ids=self._committed.since(self._cache_length) if length else (),
                first_position=len(self._committed),
                max_draft_length=length,
                min_acceptance=self._request.min_block_acceptance,
                state=self._scheme_state,
            )
        ]

    def _worthwhile(self) -> int:
        """A faded draft is tried with one token now and then."""
        if not self._hit_rate.is_faded:
            return max(1, self._hit_rate.depth(_RARE))
        return int(len(self._committed) - self._tried_length >= self._probe_tokens)

    def _on_drafted(self, block: events.DraftedBlock, now: float) -> list[events.EdgeEffect]:
        if self.state is not State.IDLE:  # the link is down; the block goes out after the resume
            self._drafted = block
            return []
        return self._send_block(block, now)

    def _send_block(self, drafted: events.DraftedBlock, now: float) -> list[events.EdgeEffect]:
        self.state = after(self.state, Happening.ROUND)
        self._drafted = drafted
        self._round += 1
        block = DraftBlock(
            round=self._round,
            base_length=len(self._committed),
            prefix_hash=self._committed.prefix_hash,
            draft_length=len(drafted.tokens),
            coding=drafted.coding,
            payload=drafted.payload,
            checksum=0,
        )
        self._block = replace(block, checksum=block_checksum(block, self._request.scheme))
        self._sent_s = now
        return [events.Send(self._block), self._arm_round(now)]

    def _arm_round(self, now: float) -> events.ArmTimer:
        assert self._block is not None, "a deadline without a round"
        return self._arm(now, self._deadline.seconds(len(self._block.payload), self._patience.tries))

    def _on_verdict(self, verdict: Verdict, now: float) -> list[events.EdgeEffect]:
        if verdict.round > self._round:
            sentence = f"a verdict of round {verdict.round} came; expected {self._round} at most."
            return self._fail(RemoteProtocolError(sentence))
        if self._block is None or self._drafted is None or verdict.round < self._round:
            return []  # an answer to a round that is already decided
        if self.state is not State.VERIFYING:
            return []  # of a former stream while a new one opens; that one will repeat it
        drafted, base = self._drafted, self._block.base_length
        length = len(drafted.tokens)
        if not verdict.is_possible(base, length, self._vocabulary.size):
            possible = f"at most {length} accepted, a token below {self._vocabulary.size}"
            sentence = f"{verdict}; expected {possible}, length {base} + accepted + 1."
            return self._fail(RemoteProtocolError(sentence))
        self.state = after(self.state, Happening.VERDICT)
        self._deadline.took(now - self._sent_s, len(self._block.payload))
        self._block = self._drafted = None
        self._patience.decided()
        self._scheme_state = self._scheme.state_after_verdict(drafted.states, verdict.accepted)
        return [events.Decided(drafted, verdict), *self._commit(drafted, verdict)]

    def _commit(self, drafted: events.DraftedBlock, verdict: Verdict) -> list[events.EdgeEffect]:
        """Commit accepted tokens and the cloud's own, and go on or end."""
        base = len(self._committed)
        for right in (True,) * verdict.accepted + (False,) * (verdict.accepted < len(drafted.tokens)):
            self._hit_rate.note(right)
        self._tried_length = base if drafted.tokens else self._tried_length
        tokens = [(t.token_id, TokenKind.ACCEPTED) for t in drafted.tokens[: verdict.accepted]]
        resampled = verdict.accepted < len(drafted.tokens)
        tokens.append((verdict.next_token_id, TokenKind.RESAMPLED if resampled else TokenKind.BONUS))
        emitted, ending = self._committed.commit(tokens)
        self.statistics.output_tokens += len(emitted)
        self.statistics.resampled_tokens += sum(t.kind is TokenKind.RESAMPLED for t in emitted)
        effects: list[events.EdgeEffect] = [events.ArmTimer(None), events.Emit(tuple(emitted))]
        if ending is not None:
            return effects + self._end(ending, CloseReason.FINISHED)
        valid = min(self._cache_length, base + verdict.accepted)
        if valid < self._cache_length:
            self._cache_length = valid
            effects.append(events.TruncateCache(valid))
        return effects + self._next_draft()
