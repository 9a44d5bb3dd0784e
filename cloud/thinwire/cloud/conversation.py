"""
What every session has at the cloud, whatever its conversation: streams that take it over, silences, and ends.

`cloud.session` adds rounds to it, `cloud.free_running` a target that writes by itself.
"""

from __future__ import annotations

import abc

from thinwire.cloud import events
from thinwire.common.errors import (
    EpochSupersededError,
    LocalProtocolError,
    SessionNotFoundError,
    ThinwireError,
)
from thinwire.common.law.random_streams import Draws, KeyedDraws
from thinwire.common.schemes.base import Scheme
from thinwire.common.session.messages import Open, Opened
from thinwire.common.session.prompt import check_prompt
from thinwire.common.session.states import TERMINAL, Happening, State, after


class Conversation(abc.ABC):
    """
    One session, seen from the cloud: events in, effects out, nothing else.

    Args:
        session_id: 16 bytes, issued by the registry.
        open_: what the edge asked for; its vocabulary is already checked.
        scheme: made from `open_.scheme`.
        context_length: tokens the target model can hold.
        eos_token_ids: the target's end-of-text ids.
        target_fingerprint: tells target models apart (`language_model.fingerprint`); empty where unknown.
        resume_ttl_s: seconds a session whose stream ended without Close is kept.
        idle_ttl_s: seconds an attached session may stay silent.
        draws: the session's randomness; made from the seed unless given.

    Raises:
        ConfigError: empty prompt, an id outside the vocabulary, or a prompt that fills the context.
    """

    def __init__(
        self,
        session_id: bytes,
        open_: Open,
        *,
        scheme: Scheme,
        context_length: int,
        eos_token_ids: tuple[int, ...],
        resume_ttl_s: float,
        idle_ttl_s: float,
        target_fingerprint: bytes = b"",
        draws: Draws | None = None,
    ) -> None:
        check_prompt(open_.prompt_token_ids, scheme.vocabulary_size, context_length)
        self.session_id = session_id
        self.open = open_
        self.scheme = scheme
        self.draws: Draws = draws if draws is not None else KeyedDraws(open_.seed)
        self.state = State.NEW
        self.epoch = 0
        """Epoch of the stream that holds the session now."""
        self.rounds = 0
        """Rounds decided, or passes that wrote."""
        self.committed_length = len(open_.prompt_token_ids)
        self._context_length = context_length
        self._eos_token_ids = eos_token_ids
        self._target_fingerprint = target_fingerprint
        self._resume_ttl_s = resume_ttl_s
        self._idle_ttl_s = idle_ttl_s

    first_feed = 1
    """Tokens of the prompt that the first pass after it is fed at most; those before them are fed ahead."""

    @property
    @abc.abstractmethod
    def has_work(self) -> bool:
        """Whether the session waits for the target model."""

    def step(self, event: events.CloudEvent, now: float) -> list[events.CloudEffect]:
        """
        Take one event.

        Args:
            event: what happened.
            now: monotonic seconds.

        Returns:
            effects in the order they must be done; after Release the session is over and ignores events,
            but for a stream's, which is refused.

        Raises:
            LocalProtocolError: the shell delivered an event that it cannot have (a bug of ours).
        """
        if self.state in TERMINAL:
            if isinstance(event, events.Attached | events.BlockReceived | events.HintsReceived):
                return [
                    events.Refuse(
                        event.epoch, SessionNotFoundError("the session has ended; expected a live one.")
                    )
                ]
            return []
        match event:
            case events.Attached(epoch):
                return self._on_attached(epoch, event, now)
            case events.BlockReceived(epoch) | events.HintsReceived(epoch) if epoch != self.epoch:
                return [events.Refuse(epoch, superseded(epoch, self.epoch))]
            case events.CloseReceived(epoch):
                return self._on_close(epoch)
            case events.LinkLost(epoch):
                return self._on_link_lost(epoch, now)
            case events.TimerFired():
                return self._on_timer(now)
            case _:
                return self._on_own(event, now)

    @abc.abstractmethod
    def _on_own(self, event: events.CloudEvent, now: float) -> list[events.CloudEffect]:
        """An event that only this kind of conversation has."""

    @abc.abstractmethod
    def _on_taken_up(self, attached: events.Attached, now: float) -> list[events.CloudEffect]:
        """What follows once a stream has its Opened and the prompt is on its way."""

    def _on_timer(self, now: float) -> list[events.CloudEffect]:
        self.state = after(self.state, Happening.EXPIRE)
        silence = SessionNotFoundError("the session expired after a silence.")
        return [events.Refuse(self.epoch, silence), events.Release()]

    def _on_attached(self, epoch: int, attached: events.Attached, now: float) -> list[events.CloudEffect]:
        if epoch != self.epoch + 1:
            raise LocalProtocolError(f"epoch {epoch} was issued after {self.epoch}; expected one more.")
        former, self.epoch = self.epoch, epoch
        fresh = self.state is State.NEW
        self.state = after(self.state, Happening.OPEN if fresh else Happening.RESUME)
        self.state = after(self.state, Happening.OPENED)
        effects: list[events.CloudEffect] = []
        if former:
            effects.append(events.Refuse(former, superseded(former, epoch)))
        # While the target works the silence is ours.
        idle_s = None if self.has_work else now + self._idle_ttl_s
        effects += [events.Reply(epoch, self._opened()), events.ArmTimer(idle_s)]
        ahead = self.open.prompt_token_ids[: -self.first_feed]
        if fresh and ahead:
            effects.append(events.Prefill(ahead))
        return effects + self._on_taken_up(attached, now)

    def _opened(self) -> Opened:
        return Opened(
            session_id=self.session_id,
            epoch=self.epoch,
            context_length=self._context_length,
            eos_token_ids=self._eos_token_ids,
            committed_length=self.committed_length,
            next_round=self.rounds + 1,
            target_fingerprint=self._target_fingerprint,
        )

    def _on_close(self, epoch: int) -> list[events.CloudEffect]:
        if epoch != self.epoch:
            return [events.Refuse(epoch, superseded(epoch, self.epoch))]
        self.state = after(self.state, Happening.CLOSE)
        return [events.ReplyClosed(epoch, self.rounds, self.committed_length), events.Release()]

    def _on_link_lost(self, epoch: int, now: float) -> list[events.CloudEffect]:
        if epoch != self.epoch:
            return []  # of a stream that was superseded
        self.state = after(self.state, Happening.LINK_LOST)
        return [events.ArmTimer(now + self._resume_ttl_s)]

    def _fail(self, error: ThinwireError) -> list[events.CloudEffect]:
        self.state = after(self.state, Happening.FAULT)
        return [events.Refuse(self.epoch, error), events.Release()]


def superseded(epoch: int, current: int) -> EpochSupersededError:
    """What ends a stream whose session another one took over."""
    return EpochSupersededError(f"the stream is of epoch {epoch}; the session is held by epoch {current}.")
