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

from dataclasses import replace

from thinwire.common.errors import (
    DeadlineError,
    EpochSupersededError,
    LocalProtocolError,
    QuotaExceededError,
    RemoteProtocolError,
    ResourceExhaustedError,
    SessionNotFoundError,
    ThinwireError,
)
from thinwire.common.schemes.base import Scheme
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.messages import (
    Close,
    CloseReason,
    DraftBlock,
    FinishReason,
    Open,
    Opened,
    TokenKind,
    Verdict,
    VocabularyIdentity,
    block_checksum,
)
from thinwire.common.session.states import TERMINAL, Happening, State, after
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge import events
from thinwire.edge.committed_sequence import CommittedSequence
from thinwire.edge.patience import Patience, RoundDeadline
from thinwire.edge.text_stream import TextStream


class EdgeSession:
    """
    One generation, seen from the edge.

    Args:
        prompt_token_ids: at least one id below V.
        scheme: made from `request.scheme` for the same vocabulary.
        context_length: tokens the draft model can hold.
        round_timeout_s: seconds a round or an open may take at most, and may wait in all for a quota.
        least_round_timeout_s: seconds a round may take at least, whatever the rounds before it took;
            the deadline is fixed when None.
        patience_s: seconds to go on reconnecting after a loss; they start anew with every verdict.

    Raises:
        ConfigError: empty prompt, or an id of the prompt or a stop token id outside the vocabulary.
    """

    def __init__(
        self,
        request: GenerationRequest,
        prompt_token_ids: tuple[int, ...],
        *,
        vocabulary: VocabularyIdentity,
        scheme: Scheme,
        text: TextStream,
        context_length: int,
        round_timeout_s: float,
        least_round_timeout_s: float | None = None,
        patience_s: float,
    ) -> None:
        self._request = request
        self._vocabulary = vocabulary
        self._scheme = scheme
        self._committed = CommittedSequence(
            prompt_token_ids, text, request,
            vocabulary_size=vocabulary.size, draft_context_length=context_length,
        )  # fmt: skip
        self._round_timeout_s = round_timeout_s
        self._deadline = RoundDeadline(least_round_timeout_s or round_timeout_s, round_timeout_s)
        self._patience = Patience(patience_s, round_timeout_s)

        self.state = State.NEW
        self.statistics = GenerationStatistics()
        """What the session itself counts; the shell completes it."""
        self._session_id = b""
        self._was_opened = False
        """Whether the cloud ever opened a stream; one that it refused, or that never came so far, is none."""
        self._epoch = 0
        self._scheme_state = scheme.initial_state()
        self._cache_length = 0
        self._attempt = -1
        self._drafting = False
        self._drafted: events.DraftedBlock | None = None
        self._block: DraftBlock | None = None
        self._round = 0
        self._sent_s = 0.0
        self._timeout_s = 0.0
        """Deadline, in seconds, of the open or the round under way."""

    @property
    def committed_token_ids(self) -> tuple[int, ...]:
        return self._committed.token_ids

    def step(self, event: events.EdgeEvent, now: float) -> list[events.EdgeEffect]:
        """
        Take one event, at `now` in monotonic seconds; returns effects in the order they must be done.

        LocalProtocolError if the shell delivered an event that it cannot have (a bug of ours).
        """
        if self.state in TERMINAL:
            return []
        match event:
            case events.Connected():
                return self._on_connected(now)
            case events.OpenedReceived(opened):
                return self._on_opened(opened, now)
            case events.Drafted(attempt, block):
                return self._on_drafted(attempt, block, now)
            case events.VerdictReceived(verdict):
                return self._on_verdict(verdict, now)
            case events.LinkLost(error):
                return self._on_link_lost(error, now)
            case events.TimerFired():
                return self._on_timer(now)
            case events.Cancelled():
                return self._end(FinishReason.CANCELLED, CloseReason.CANCELLED)
            case events.Refused(EpochSupersededError() as error):
                # Only we know the session's id: an Open on a stream given up came late and took it over.
                return self._on_link_lost(error, now)
            case events.Refused(SessionNotFoundError() as error):
                return self._on_session_lost(error, now)
            case events.Refused(ResourceExhaustedError() as error) if self._is_put_off(error):
                return self._on_put_off(error, now)
            case events.Refused(error):
                return self._fail(error)

    # --- opening ------------------------------------------------------------------------------------------

    def _on_connected(self, now: float) -> list[events.EdgeEffect]:
        if self.state not in (State.NEW, State.DETACHED):
            raise LocalProtocolError(f"Connected in state {self.state.value}; expected new or detached.")
        self.state = after(self.state, Happening.OPEN if self.state is State.NEW else Happening.RESUME)
        return [events.Send(self._open()), self._arm(now, self._round_timeout_s)]

    def _open(self) -> Open:
        return Open(
            vocabulary=self._vocabulary,
            scheme=self._request.scheme,
            sampling=self._request.sampling,
            seed=self._request.seed,
            prompt_token_ids=() if self._session_id else self.committed_token_ids,
            session_id=self._session_id,
        )

    def _on_opened(self, opened: Opened, now: float) -> list[events.EdgeEffect]:
        if opened.session_id == self._session_id and opened.epoch <= self._epoch:
            return []  # repeated, or of a stream given up
        if self.state is not State.OPENING:
            return self._fail(
                RemoteProtocolError(f"Opened came in state {self.state.value}; expected opening.")
            )
        self.state = after(self.state, Happening.OPENED)
        self.statistics.reconnects += self._was_opened
        self._was_opened = True
        self._epoch = opened.epoch
        if self._session_id:
            return self._on_resumed(opened, now)
        self._session_id = opened.session_id
        self._patience.opened()
        try:
            self._committed.opened(opened)
        except ThinwireError as error:
            return self._fail(error)
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
        """Ask for the next block; never so long that it could overshoot max_tokens or a context."""
        longest = min(self._request.draft_length, self._scheme.max_draft_length)
        if longest and self._committed.draft_is_full:
            self.statistics.draft_full_from = (
                self.statistics.draft_full_from or self.statistics.output_tokens + 1
            )
        length = min(longest, self._committed.draft_room)
        self._attempt += 1
        self._drafting = True
        return [
            events.Draft(
                attempt=self._attempt,
                feed_token_ids=self._committed.since(self._cache_length) if length else (),
                first_position=len(self._committed),
                max_draft_length=length,
                budget_bits=self._request.uplink_budget_bits,
                min_acceptance=self._request.min_block_acceptance,
                stop_token_ids=self._committed.ending_token_ids,
                state=self._scheme_state,
            )
        ]

    def _on_drafted(self, attempt: int, block: events.DraftedBlock, now: float) -> list[events.EdgeEffect]:
        if not self._drafting or attempt != self._attempt:
            raise LocalProtocolError(
                f"Drafted({attempt}) without a Draft effect; the last one was {self._attempt}."
            )
        self._drafting = False
        self._cache_length = block.cache_length
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

    def _arm(self, now: float, timeout_s: float) -> events.ArmTimer:
        self._timeout_s = timeout_s
        return events.ArmTimer(now + timeout_s)

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

    # --- the link -----------------------------------------------------------------------------------------

    def _on_link_lost(self, error: ThinwireError, now: float) -> list[events.EdgeEffect]:
        if not self._patience.after_loss(now):
            return self._fail(error)
        if self.state is not State.NEW:
            self.state = after(self.state, Happening.LINK_LOST)
        return [events.ArmTimer(None), events.Reconnect(self._patience.tries)]

    def _on_session_lost(self, error: ThinwireError, now: float) -> list[events.EdgeEffect]:
        """The cloud is there and the session is not: open another one from what is committed."""
        self.statistics.rebuilds += bool(self._session_id)
        self._session_id, self._epoch, self._round, self._block = b"", 0, 0, None
        return self._on_link_lost(error, now)

    def _is_put_off(self, error: ResourceExhaustedError) -> bool:
        """Whether the cloud refused; our own drafting may want for memory too, but it has no quota."""
        awaited = self.state in (State.OPENING, State.VERIFYING)
        return awaited and (not self._drafting or isinstance(error, QuotaExceededError))

    def _on_put_off(self, error: ResourceExhaustedError, now: float) -> list[events.EdgeEffect]:
        """Come again after the pause asked for; the cloud keeps the session meanwhile."""
        if not self._patience.for_pause(error.retry_after_s, now):
            return self._fail(error)
        self._sent_s = now + error.retry_after_s  # the pause says nothing of how long a round takes
        self.state = after(self.state, Happening.LINK_LOST)
        return [events.ArmTimer(None), events.Reconnect(self._patience.tries + 1, error.retry_after_s)]

    def _on_timer(self, now: float) -> list[events.EdgeEffect]:
        if self.state not in (State.OPENING, State.VERIFYING):
            return []  # fired while it was being disarmed
        phase = "open" if self.state is State.OPENING else f"round {self._round}"
        return self._on_link_lost(DeadlineError(f"{phase} took longer than {self._timeout_s:.3g} s."), now)

    # --- the end ------------------------------------------------------------------------------------------

    def _end(self, reason: FinishReason, close: CloseReason) -> list[events.EdgeEffect]:
        opened = self.state not in (State.NEW, State.DETACHED)
        self.state = after(self.state, Happening.CLOSE)
        effects: list[events.EdgeEffect] = [events.ArmTimer(None)]
        if opened:
            effects.append(events.Send(Close(close)))
        return [*effects, events.Finish(reason, self._committed.flush())]

    def _fail(self, error: ThinwireError) -> list[events.EdgeEffect]:
        self.state = after(self.state, Happening.FAULT)
        return [events.ArmTimer(None), events.Finish(FinishReason.ERROR, self._committed.flush(), error)]
