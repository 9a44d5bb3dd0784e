"""
The cloud's half of a session: events in, effects out, nothing else.

Between rounds the target model's cache holds all committed tokens but the last.
A round is checked in this order: epoch, round (a replay is answered here), base length and prefix hash,
limits, payload length, checksum; then it is decoded and scored.
The last verdict is kept with its round's digest: the same bytes get the same verdict, without new draws,
because rolling the dice again would bias the text.
A round for which there is no room ends its stream and nothing else: nothing was scored, and the same bytes
may come again on another stream.
"""

from __future__ import annotations

from thinwire.cloud import events
from thinwire.common.config import check_integer
from thinwire.common.errors import (
    ConfigError,
    EpochSupersededError,
    LocalProtocolError,
    PayloadCorruptedError,
    PayloadInvalidError,
    PrefixMismatchError,
    ResourceExhaustedError,
    RoundOrderError,
    SessionNotFoundError,
    ThinwireError,
)
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.law.random_streams import Draws, KeyedDraws
from thinwire.common.schemes.base import Scheme
from thinwire.common.session.messages import DraftBlock, Open, Opened, PrefixHasher, Verdict, block_checksum
from thinwire.common.session.prompt import check_prompt
from thinwire.common.session.states import TERMINAL, Happening, State, after


class CloudSession:
    """
    One session, seen from the cloud.

    Args:
        session_id: 16 bytes, issued by the registry.
        open_: what the edge asked for; its vocabulary is already checked.
        context_length: tokens the target model can hold.
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
        self.committed_length = len(open_.prompt_token_ids)
        self._context_length = context_length
        self._eos_token_ids = eos_token_ids
        self._target_fingerprint = target_fingerprint
        self._resume_ttl_s = resume_ttl_s
        self._idle_ttl_s = idle_ttl_s
        self._last_token_id = open_.prompt_token_ids[-1]
        self._hasher = PrefixHasher()
        self._hasher.extend(open_.prompt_token_ids)
        self._pending: DraftBlock | None = None
        """The block in decoding or verification."""
        self._decoded = False
        """Whether the pending block is past decoding."""
        self._last_verdict: tuple[bytes, Verdict] | None = None

    @property
    def has_round(self) -> bool:
        return self._pending is not None

    def step(self, event: events.CloudEvent, now: float) -> list[events.CloudEffect]:
        """
        Take one event, at `now` in monotonic seconds.

        Returns:
            effects in the order they must be done; after Release the session is over and ignores events,
            but for a stream's, which is refused.

        Raises:
            LocalProtocolError: the shell delivered an event that it cannot have (a bug of ours).
        """
        if self.state in TERMINAL:
            if isinstance(event, events.Attached | events.BlockReceived):
                return [
                    events.Refuse(
                        event.epoch, SessionNotFoundError("the session has ended; expected a live one.")
                    )
                ]
            return []
        match event:
            case events.Attached(epoch):
                return self._on_attached(epoch, now)
            case events.BlockReceived(epoch, block):
                return self._on_block(epoch, block, now)
            case events.Decoded(round_, tokens):
                return self._on_decoded(round_, tokens)
            case events.Scored():
                return self._on_scored(event, now)
            case events.WorkFailed(ResourceExhaustedError() as error) if self._pending is not None:
                return self._put_off(error, now)
            case events.WorkFailed(error):
                return self._fail(error)
            case events.CloseReceived(epoch):
                return self._on_close(epoch)
            case events.LinkLost(epoch):
                return self._on_link_lost(epoch, now)
            case events.TimerFired():
                self.state = after(self.state, Happening.EXPIRE)
                return [
                    events.Refuse(self.epoch, SessionNotFoundError("the session expired after a silence.")),
                    events.Release(),
                ]

    def _on_attached(self, epoch: int, now: float) -> list[events.CloudEffect]:
        if epoch != self.epoch + 1:
            raise LocalProtocolError(f"epoch {epoch} was issued after {self.epoch}; expected one more.")
        former, self.epoch = self.epoch, epoch
        fresh = self.state is State.NEW
        self.state = after(self.state, Happening.OPEN if fresh else Happening.RESUME)
        self.state = after(self.state, Happening.OPENED)
        effects: list[events.CloudEffect] = []
        if former:
            effects.append(events.Refuse(former, _superseded(former, epoch)))
        # While a round is being verified the silence is ours.
        idle_s = None if self._pending is not None else now + self._idle_ttl_s
        effects += [events.Reply(epoch, self._opened()), events.ArmTimer(idle_s)]
        prompt = self.open.prompt_token_ids
        if fresh and len(prompt) > 1:
            effects.append(events.Prefill(prompt[:-1]))
        if self._pending is not None:  # taken over in mid-verification: the verdict goes to the new stream
            self.state = after(self.state, Happening.ROUND)
        return effects

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

    # --- one round ----------------------------------------------------------------------------------------

    def _on_block(self, epoch: int, block: DraftBlock, now: float) -> list[events.CloudEffect]:
        if epoch != self.epoch:
            return [events.Refuse(epoch, _superseded(epoch, self.epoch))]
        if self.state is State.DETACHED:
            return []  # its round was put off, or its link was lost: this stream is ending
        try:
            replayed = self._replayed(block)
            if self._pending is not None:
                # The round being verified gets one verdict, however often it came.
                return [] if replayed is None else [events.Reply(epoch, replayed)]
            if replayed is not None:
                return [events.Reply(epoch, replayed), events.ArmTimer(now + self._idle_ttl_s)]
            self._check(block)
        except ThinwireError as error:
            return self._fail(error)
        self.state = after(self.state, Happening.ROUND)
        self._pending = block
        self._decoded = False
        return [events.ArmTimer(None), events.Decode(block)]

    def _replayed(self, block: DraftBlock) -> Verdict | None:
        """The kept verdict if this is the last decided round again; None for the round expected next."""
        verdict: Verdict | None = None
        if self._pending is not None and block.round == self._pending.round:
            digest = self._pending.digest()
        elif block.round == self.rounds + 1:
            return None
        elif self._last_verdict is None or block.round != self.rounds:
            raise RoundOrderError(f"round {block.round} came; expected {self.rounds + 1}.")
        else:
            digest, verdict = self._last_verdict
        if block.digest() != digest:
            raise RoundOrderError(f"round {block.round} came again with other bytes; expected the same.")
        return verdict

    def _check(self, block: DraftBlock) -> None:
        """Everything about a new round that can be told without decoding it, cheapest first."""
        if block.base_length != self.committed_length:
            raise PrefixMismatchError(
                f"base length is {block.base_length}; expected {self.committed_length} committed tokens."
            )
        if block.prefix_hash != self._hasher.value():
            raise PrefixMismatchError(
                f"prefix hash is {block.prefix_hash:08x}; expected {self._hasher.value():08x}."
            )
        check_integer("draft_length", block.draft_length, 0, self.scheme.max_draft_length)
        room = self._context_length - self.committed_length - 1
        if block.draft_length > room:
            raise ConfigError(
                f"draft_length is {block.draft_length}; expected at most {room}, the context's room."
            )
        most = self.scheme.max_payload_bytes(block.draft_length)
        if len(block.payload) > most:
            raise PayloadInvalidError(f"the payload has {len(block.payload)} bytes; expected at most {most}.")
        checksum = block_checksum(block, self.open.scheme)
        if block.checksum != checksum:
            raise PayloadCorruptedError(f"the checksum is {block.checksum:08x}; expected {checksum:08x}.")

    def _on_decoded(self, round_: int, tokens: tuple[DraftToken, ...]) -> list[events.CloudEffect]:
        if self._pending is None or self._pending.round != round_ or self._decoded:
            raise LocalProtocolError(f"Decoded({round_}) without a Decode effect.")
        self._decoded = True
        feed = (self._last_token_id, *(token.token_id for token in tokens))
        return [events.Score(round_, feed, tokens, self.committed_length)]

    def _on_scored(self, scored: events.Scored, now: float) -> list[events.CloudEffect]:
        block = self._pending
        if block is None or block.round != scored.round or not self._decoded:
            raise LocalProtocolError(f"Scored({scored.round}) without a Score effect.")
        outcome = scored.outcome
        self._pending = None
        self.rounds += 1
        self.committed_length += outcome.accepted + 1
        self._hasher.extend([*scored.accepted_token_ids, outcome.next_token_id])
        self._last_token_id = outcome.next_token_id
        verdict = Verdict(
            round=block.round,
            accepted=outcome.accepted,
            next_token_id=outcome.next_token_id,
            committed_length=self.committed_length,
            queue_us=scored.queue_us,
            verify_us=scored.verify_us,
        )
        self._last_verdict = (block.digest(), verdict)
        effects: list[events.CloudEffect] = []
        if outcome.accepted < block.draft_length:
            effects.append(events.TruncateCache(self.committed_length - 1))
        if self.state is State.VERIFYING:
            self.state = after(self.state, Happening.VERDICT)
            effects += [events.Reply(self.epoch, verdict), events.ArmTimer(now + self._idle_ttl_s)]
        return effects

    def _put_off(self, error: ResourceExhaustedError, now: float) -> list[events.CloudEffect]:
        """Refuse the pending round for now: the stream ends, and the round may come again on another one."""
        self._pending = None
        self.state = after(self.state, Happening.LINK_LOST)
        return [events.Refuse(self.epoch, error), events.ArmTimer(now + self._resume_ttl_s)]

    # --- the end ------------------------------------------------------------------------------------------

    def _on_close(self, epoch: int) -> list[events.CloudEffect]:
        if epoch != self.epoch:
            return [events.Refuse(epoch, _superseded(epoch, self.epoch))]
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


def _superseded(epoch: int, current: int) -> EpochSupersededError:
    return EpochSupersededError(f"the stream is of epoch {epoch}; the session is held by epoch {current}.")
