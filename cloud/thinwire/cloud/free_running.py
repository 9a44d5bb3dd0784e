"""
The cloud's half of a free-running session: the target writes by itself, and hints save it passes.

A pass is fed the last committed token and the hints that are here by then; it writes one token more than
hints of it were right, and the next pass follows at once.
The token at a position wins the position's race over the target's law (`schemes/coupled.py`), so hints decide
how many passes a text takes and not one token of it.
Between passes the target model's cache holds all committed tokens but the last.

The target is ahead of what the edge has acknowledged by at most `WINDOW_TOKENS` and a pass: behind a dead
link it stops. What was not acknowledged is kept, and sent again to the stream that takes the session up.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from thinwire.cloud import events
from thinwire.cloud.batch_queue import PREFILL_CHUNK_TOKENS
from thinwire.cloud.conversation import Conversation
from thinwire.cloud.hint_patience import HintPatience
from thinwire.cloud.hint_store import Hint, HintStore
from thinwire.cloud.row_price import RowPrice
from thinwire.cloud.stop_finder import StopFinder
from thinwire.common.errors import (
    ConfigError,
    LocalProtocolError,
    PayloadInvalidError,
    PrefixMismatchError,
    RemoteProtocolError,
    ResourceExhaustedError,
)
from thinwire.common.session.free_run import MAX_HINT_ROWS
from thinwire.common.session.messages import Hints, Open, Opened, PrefixHasher, Written
from thinwire.common.session.states import Happening, State, after

WINDOW_TOKENS = 128
"""Committed tokens that the edge has not acknowledged, before the target waits for it."""
MAX_STOP_TOKENS = 128
"""Of a request at most 64, and the special tokens that its stop strings name."""


class FreeRunningSession(Conversation):
    """
    One free-running session, seen from the cloud.

    `open_.free_run` is there; `copies` is whether the text is copied where no hint waits, `takes_trees`
    whether a pass may be fed branches, `stops` finds its stop strings, at which the target pauses (None: they
    are not looked for), `row_price` is the cloud's. See `Conversation`.
    """

    first_feed = PREFILL_CHUNK_TOKENS

    def __init__(
        self,
        session_id: bytes,
        open_: Open,
        *,
        copies: bool = True,
        takes_trees: bool = False,
        row_price: RowPrice | None = None,
        stops: StopFinder | None = None,
        **options: Any,
    ) -> None:
        super().__init__(session_id, open_, **options)
        run = open_.free_run
        assert run is not None, "a session of rounds"
        prompt = open_.prompt_token_ids
        if run.held_length != len(prompt):
            raise ConfigError(f"held_length is {run.held_length}; expected {len(prompt)}, the prompt's.")
        if run.max_length <= len(prompt):
            raise ConfigError(
                f"max_length is {run.max_length}; expected more than the prompt's {len(prompt)} tokens."
            )
        if len(run.stop_token_ids) > MAX_STOP_TOKENS:
            raise ConfigError(
                f"stop_token_ids holds {len(run.stop_token_ids)} ids; expected at most {MAX_STOP_TOKENS}."
            )
        self._limit = min(run.max_length, self._context_length)
        self._endings = frozenset(run.stop_token_ids)
        if not run.ignore_eos:
            self._endings |= set(self._eos_token_ids)
        self.hints = HintStore(prompt, copies=copies, takes_trees=takes_trees, row_price=row_price)
        self._copies = copies
        self._stops = stops
        self._pause_length = 0
        """So many tokens the edge must hold before the target goes on: they look like a stop."""
        self._held_hasher = PrefixHasher()
        """Of the tokens that the edge has acknowledged."""
        self._held_hasher.extend(prompt)
        self._unheld: list[int] = []
        """Committed ids behind those."""
        self._feed = prompt[-self.first_feed :]
        """Committed tokens that the target's cache lacks."""
        self._patience = HintPatience(saves_passes=run.saves_passes)
        self.is_waiting = False
        """Whether the next pass waits for a hint."""
        self._waits_since_s: float | None = None
        self._wait_us = 0
        """How long the pass asked for last had waited."""
        self._is_writing = False
        """Whether a pass is asked for and has not come to its end."""
        self._is_over = False
        self._payload_bytes = 0
        """Of hints, since they were asked for."""
        self._heard = 0
        """Messages of hints on this stream."""
        self._heard_s = 0.0
        """When the last came."""

    @property
    def has_work(self) -> bool:
        """Whether a pass is asked for."""
        return self._is_writing

    def take_payload_bytes(self) -> int:
        """Bytes of hints that came since this was asked before."""
        taken, self._payload_bytes = self._payload_bytes, 0
        return taken

    @property
    def _held_length(self) -> int:
        return self.committed_length - len(self._unheld)

    @property
    def _is_paused(self) -> bool:
        return self._held_length < self._pause_length

    def _opened(self) -> Opened:
        return replace(super()._opened(), copies=self._copies)

    def _on_own(self, event: events.CloudEvent, now: float) -> list[events.CloudEffect]:
        match event:
            case events.HintsReceived(_, hints):
                return self._on_hints(hints, now)
            case events.Wrote():
                return self._on_wrote(event, now)
            case events.WaitOver():
                return self._on_wait_over(now)
            case events.WorkFailed(ResourceExhaustedError() as error) if self._is_writing:
                self._is_writing = False
                if self.state is State.DETACHED:
                    return []
                self.state = after(self.state, Happening.LINK_LOST)
                return [events.Refuse(self.epoch, error), events.ArmTimer(now + self._resume_ttl_s)]
            case events.WorkFailed(error):
                return self._fail(error)
            case events.BlockReceived():
                return self._fail(RemoteProtocolError("a round came to a free-running session."))
            case _:
                raise LocalProtocolError(f"{type(event).__name__} in a free-running session.")

    def _on_taken_up(self, attached: events.Attached, now: float) -> list[events.CloudEffect]:
        self._heard = 0
        run = attached.free_run
        if run is None:
            return self._fail(
                RemoteProtocolError("an Open without free_run came for a free-running session.")
            )
        if not self._acknowledge(run.held_length, run.prefix_hash):
            # Of an edge with another text, or late, of a stream given up: the session is not to blame.
            mismatch = PrefixMismatchError(
                f"the edge holds {run.held_length} tokens, hash {run.prefix_hash:08x}; expected the first "
                f"{self._held_length} to {self.committed_length} of this session's."
            )
            self.state = after(self.state, Happening.LINK_LOST)
            return [events.Refuse(self.epoch, mismatch), events.ArmTimer(now + self._resume_ttl_s)]
        effects: list[events.CloudEffect] = []
        if self._unheld:
            kept = Written(self._held_length, tuple(self._unheld), 0, 0, pauses=self._is_paused)
            effects.append(events.Reply(self.epoch, kept))
        return effects + self._write_on(now)

    # --- writing ------------------------------------------------------------------------------------------

    def _write_on(self, now: float, *, waits: bool = True) -> list[events.CloudEffect]:
        """The next pass, unless one is under way, the text is over, or there is something to wait for."""
        self.is_waiting = False
        if self._is_writing or self.state is not State.IDLE:
            return []
        if self._is_over or self._is_paused or len(self._unheld) >= WINDOW_TOKENS:
            return [events.ArmTimer(now + self._idle_ttl_s)]
        most = min(MAX_HINT_ROWS, self._limit - self.committed_length - 1)
        if most and not self.hints.rows(most).token_ids:
            if self.rounds:  # before the first pass there is nothing that the edge could answer to
                self._patience.is_empty(now)
            wait_s = self._patience.wait_s(self.hints.hit_rate.value, now) if waits else 0.0
            if wait_s:
                self.is_waiting = True
                self._waits_since_s = now if self._waits_since_s is None else self._waits_since_s
                return [events.AwaitHint(now + wait_s)]
        self._is_writing = True
        waited_s = 0.0 if self._waits_since_s is None else now - self._waits_since_s
        self._wait_us, self._waits_since_s = round(1e6 * waited_s), None
        return [events.ArmTimer(None), events.Write(self._feed, self.committed_length, most)]

    def _on_wait_over(self, now: float) -> list[events.CloudEffect]:
        if not self.is_waiting:
            return []  # it was no longer waited for
        self._patience.in_vain()
        return self._write_on(now, waits=False)

    def _on_link_lost(self, epoch: int, now: float) -> list[events.CloudEffect]:
        if epoch == self.epoch:
            self.is_waiting, self._waits_since_s = False, None
        return super()._on_link_lost(epoch, now)

    def _on_wrote(self, wrote: events.Wrote, now: float) -> list[events.CloudEffect]:
        if not self._is_writing:
            raise LocalProtocolError("Wrote without a Write effect.")
        self._is_writing = False
        self.rounds += 1
        first = self.committed_length
        written = self._until_the_end(wrote.token_ids, self._limit - first)
        self._feed = (written[-1],)
        self.committed_length += len(written)
        self._patience.passed(wrote.verify_us * 1e-6, len(written))
        self._unheld += written
        self.hints.committed(written)
        if self._stops is not None and self._stops.written(written):
            self._pause_length = self.committed_length
        effects: list[events.CloudEffect] = []
        path = wrote.path[: len(written) - 1]
        if path != tuple(range(len(path))):
            effects.append(events.TruncateCache(first, tuple(first + index for index in path)))
        elif self.committed_length <= first + len(wrote.fed.token_ids):
            effects.append(events.TruncateCache(self.committed_length - 1))
        if self.state is State.IDLE:
            self.state = after(self.state, Happening.WRITTEN)
            hinted = min(len(wrote.token_ids) - 1, len(written))
            message = Written(
                first_position=first,
                token_ids=tuple(written),
                hinted=hinted,
                hint_rows=len(wrote.fed.token_ids),
                copied=hinted if wrote.fed.are_copied else 0,
                queue_us=wrote.queue_us,
                verify_us=wrote.verify_us,
                wait_us=self._wait_us,
                pauses=self._is_paused,
                resampled=wrote.resampled and len(written) == len(wrote.token_ids),
                hints_heard=self._heard,
                heard_us=round((now - self._heard_s) * 1e6) if self._heard else 0,
            )
            effects.append(events.Reply(self.epoch, message))
        return effects + self._write_on(now)

    def _until_the_end(self, token_ids: tuple[int, ...], room: int) -> list[int]:
        """The tokens up to the first that ends the text."""
        written: list[int] = []
        for token_id in token_ids[:room]:
            written.append(token_id)
            if token_id in self._endings:
                self._is_over = True
                break
        self._is_over = self._is_over or len(written) == room
        return written

    # --- hints --------------------------------------------------------------------------------------------

    def _on_hints(self, hints: Hints, now: float) -> list[events.CloudEffect]:
        if self.state is State.DETACHED:
            return []
        if not self._acknowledge(hints.held_length):
            return self._fail(
                PrefixMismatchError(
                    f"the edge holds {hints.held_length} tokens; expected {self._held_length} to "
                    f"{self.committed_length}."
                )
            )
        self.state = after(self.state, Happening.HINTS)
        self._heard, self._heard_s = self._heard + 1, now
        self._payload_bytes += len(hints.payload)
        self._take(hints)
        is_worth_a_row = bool(self.hints.rows(MAX_HINT_ROWS).token_ids)
        if is_worth_a_row and self.hints.waiting:
            self._patience.came(self.hints.waiting, now)
        elif self.is_waiting and not is_worth_a_row:
            return []  # what came is worth no row, and no longer a wait either
        return self._write_on(now)

    def _take(self, hints: Hints) -> None:
        """Put them in the store, branches apart."""
        guesses, held = self._decoded(hints), hints.held_length
        end = len(guesses) - sum(hints.branch_lengths)
        if end > 0:
            self.hints.add(guesses[:end], base_length=held + hints.ahead, held_length=held)
        for length, place in zip(hints.branch_lengths, hints.branch_places, strict=False):
            branch, end = guesses[max(0, end) : end + length], end + length
            if branch:
                self.hints.add_branch(branch, base_length=held + place, held_length=held)

    def _decoded(self, hints: Hints) -> tuple[Hint, ...]:
        """Their ids, with what they claim; none if they cannot be read, for hints are no promise."""
        length = hints.draft_length
        if not 0 < length <= self.scheme.max_draft_length:
            return ()
        if len(hints.payload) > self.scheme.max_payload_bytes(length):
            return ()
        try:
            tokens = self.scheme.decode(hints.payload, draft_length=length, coding=0)
        except PayloadInvalidError:
            return ()
        claims = [share / 255 for share in hints.chances[:length]]
        claims += [self.hints.hit_rate.value] * (length - len(claims))
        return tuple(Hint(token.token_id, claim) for token, claim in zip(tokens, claims, strict=True))

    def _acknowledge(self, held_length: int, prefix_hash: int | None = None) -> bool:
        """Forget what the edge has; False if it cannot have it."""
        count = held_length - self._held_length
        if not 0 <= count <= len(self._unheld):
            return False
        hasher = self._held_hasher.copy() if count else self._held_hasher
        hasher.extend(self._unheld[:count])
        if prefix_hash is not None and hasher.value() != prefix_hash:
            return False
        self._held_hasher = hasher
        del self._unheld[:count]
        return True
