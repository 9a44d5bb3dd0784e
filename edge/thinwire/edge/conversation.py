"""
What every generation has at the edge, whatever its conversation: opening, losses of the link, and ends.

`edge.session` adds rounds to it, `edge.free_running` a cloud that writes by itself.
It never waits, draws, reads a clock or touches a model; the shell (`edge.generation`) does that.
A session that the cloud has lost (a restart, an eviction) is opened again from the committed tokens: draws
are keyed by position, so the text is what it would have been.
After Finish every event is ignored: late messages of a torn stream are no news.
"""

from __future__ import annotations

import abc

from thinwire.common.errors import (
    DeadlineError,
    EpochSupersededError,
    LocalProtocolError,
    RemoteProtocolError,
    ResourceExhaustedError,
    SessionNotFoundError,
    ThinwireError,
)
from thinwire.common.schemes.base import Scheme
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.hit_rate import HitRate
from thinwire.common.session.messages import (
    Close,
    CloseReason,
    FinishReason,
    FreeRun,
    Open,
    Opened,
    VocabularyIdentity,
)
from thinwire.common.session.states import TERMINAL, Happening, State, after
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge import events
from thinwire.edge.committed_sequence import CommittedSequence
from thinwire.edge.patience import Patience, RoundDeadline
from thinwire.edge.text_stream import TextStream


class Conversation(abc.ABC):
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
        hit_rate: of the draft as it is believed at first.

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
        hit_rate: HitRate | None = None,
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
        self._hit_rate = hit_rate or HitRate()
        """Of the tokens drafted and tested."""
        self._cache_length = 0
        """Tokens in the draft model's cache."""
        self._attempt = -1
        self._drafting = False
        self._timeout_s = 0.0
        """Deadline, in seconds, of what is awaited."""
        self._due_s = 0.0
        """When it ends."""
        self._asked_s = 0.0
        """When the last Open went up."""

    @property
    def committed_token_ids(self) -> tuple[int, ...]:
        """Prompt and output."""
        return self._committed.token_ids

    # --- what a kind of conversation adds ------------------------------------------------------------------

    awaiting: State
    """The state in which the cloud's next message is awaited."""

    @property
    def _free_run(self) -> FreeRun | None:
        """What an Open says of free running."""
        return None

    @abc.abstractmethod
    def _on_own(self, event: events.EdgeEvent, now: float) -> list[events.EdgeEffect]:
        """An event that only this kind of conversation has."""

    @abc.abstractmethod
    def _on_drafted(self, block: events.DraftedBlock, now: float) -> list[events.EdgeEffect]:
        """A Draft effect is done."""

    @abc.abstractmethod
    def _on_begun(self, now: float) -> list[events.EdgeEffect]:
        """The cloud opened a new session."""

    @abc.abstractmethod
    def _on_resumed(self, opened: Opened, now: float) -> list[events.EdgeEffect]:
        """The cloud resumed the session."""

    @abc.abstractmethod
    def _forget_session(self) -> None:
        """The cloud has lost the session; the next Open begins another."""

    @abc.abstractmethod
    def _put_off_until(self, at_s: float) -> None:
        """The cloud asked for a pause."""

    @abc.abstractmethod
    def _awaited(self) -> str:
        """What is awaited from the cloud, for a sentence."""

    def step(self, event: events.EdgeEvent, now: float) -> list[events.EdgeEffect]:
        """
        Take one event.

        Args:
            event: what happened.
            now: monotonic seconds.

        Returns:
            effects in the order they must be done.

        Raises:
            LocalProtocolError: the shell delivered an event that it cannot have (a bug of ours).
        """
        if self.state in TERMINAL:
            return []
        match event:
            case events.Connected():
                return self._on_connected(now)
            case events.OpenedReceived(opened):
                return self._on_opened(opened, now)
            case events.Drafted(attempt, block):
                if not self._drafting or attempt != self._attempt:
                    raise LocalProtocolError(
                        f"Drafted({attempt}) without a Draft effect; the last one was {self._attempt}."
                    )
                self._drafting = False
                self._cache_length = block.cache_length
                return self._on_drafted(block, now)
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
            case events.Refused(ResourceExhaustedError() as error) if self.state in (
                State.OPENING,
                self.awaiting,
            ):
                return self._on_put_off(error, now)
            case events.DraftFailed(error) | events.Refused(error):
                return self._fail(error)
            case _:
                return self._on_own(event, now)

    # --- opening ------------------------------------------------------------------------------------------

    def _on_connected(self, now: float) -> list[events.EdgeEffect]:
        if self.state not in (State.NEW, State.DETACHED):
            raise LocalProtocolError(f"Connected in state {self.state.value}; expected new or detached.")
        self.state = after(self.state, Happening.OPEN if self.state is State.NEW else Happening.RESUME)
        self._asked_s = now
        return [events.Send(self._open()), self._arm(now, self._round_timeout_s)]

    def _open(self) -> Open:
        return Open(
            vocabulary=self._vocabulary,
            scheme=self._request.scheme,
            sampling=self._request.sampling,
            seed=self._request.seed,
            prompt_token_ids=() if self._session_id else self.committed_token_ids,
            session_id=self._session_id,
            free_run=self._free_run,
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
        return self._on_begun(now)

    def _draft(self, **what: object) -> events.Draft:
        """The next Draft effect."""
        self._attempt += 1
        self._drafting = True
        return events.Draft(
            attempt=self._attempt,
            budget_bits=self._request.uplink_budget_bits,
            stop_token_ids=self._committed.ending_token_ids,
            **what,  # type: ignore[arg-type]
        )

    def _longest_draft(self) -> int:
        """Tokens that a block may have, as asked for; notes from where on the draft model is full."""
        longest = min(self._request.draft_length, self._scheme.max_draft_length)
        if longest and self._committed.draft_is_full:
            self.statistics.draft_full_from = (
                self.statistics.draft_full_from or self.statistics.output_tokens + 1
            )
        return longest

    def _arm(self, now: float, timeout_s: float) -> events.ArmTimer:
        self._timeout_s, self._due_s = timeout_s, now + timeout_s
        return events.ArmTimer(self._due_s)

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
        self._session_id, self._epoch = b"", 0
        self._forget_session()
        return self._on_link_lost(error, now)

    def _on_put_off(self, error: ResourceExhaustedError, now: float) -> list[events.EdgeEffect]:
        """Come again after the pause asked for; the cloud keeps the session meanwhile."""
        if not self._patience.for_pause(error.retry_after_s, now):
            return self._fail(error)
        self._put_off_until(now + error.retry_after_s)
        self.state = after(self.state, Happening.LINK_LOST)
        return [events.ArmTimer(None), events.Reconnect(self._patience.tries + 1, error.retry_after_s)]

    def _on_timer(self, now: float) -> list[events.EdgeEffect]:
        if self.state not in (State.OPENING, self.awaiting):
            return []  # fired while it was being disarmed
        phase = "open" if self.state is State.OPENING else self._awaited()
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
