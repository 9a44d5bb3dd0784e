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

from typing import Any

from thinwire.cloud import events
from thinwire.cloud.conversation import Conversation
from thinwire.common.config import check_integer
from thinwire.common.errors import (
    ConfigError,
    LocalProtocolError,
    PayloadCorruptedError,
    PayloadInvalidError,
    PrefixMismatchError,
    RemoteProtocolError,
    ResourceExhaustedError,
    RoundOrderError,
    ThinwireError,
)
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.session.messages import DraftBlock, Open, PrefixHasher, Verdict, block_checksum
from thinwire.common.session.states import Happening, State, after


class CloudSession(Conversation):
    """One session of rounds, seen from the cloud; see `Conversation`."""

    def __init__(self, session_id: bytes, open_: Open, **options: Any) -> None:
        super().__init__(session_id, open_, **options)
        self._last_token_id = open_.prompt_token_ids[-1]
        self._hasher = PrefixHasher()
        self._hasher.extend(open_.prompt_token_ids)
        self._pending: DraftBlock | None = None
        """The block in decoding or verification."""
        self._decoded = False
        """Whether the pending block is past decoding."""
        self._last_verdict: tuple[bytes, Verdict] | None = None

    @property
    def has_work(self) -> bool:
        """Whether a block is in decoding or verification."""
        return self._pending is not None

    def _on_own(self, event: events.CloudEvent, now: float) -> list[events.CloudEffect]:
        match event:
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
            case events.HintsReceived():
                return self._fail(RemoteProtocolError("hints came in a session of rounds; expected rounds."))
            case _:
                raise LocalProtocolError(f"{type(event).__name__} in a session of rounds.")

    def _on_taken_up(self, attached: events.Attached, now: float) -> list[events.CloudEffect]:
        if attached.free_run is not None:
            return self._fail(RemoteProtocolError("an Open with free_run came for a session of rounds."))
        if self._pending is not None:  # taken over in mid-verification: the verdict goes to the new stream
            self.state = after(self.state, Happening.ROUND)
        return []

    # --- one round ----------------------------------------------------------------------------------------

    def _on_block(self, epoch: int, block: DraftBlock, now: float) -> list[events.CloudEffect]:
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
