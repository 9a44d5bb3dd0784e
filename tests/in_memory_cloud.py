"""The cloud's half of the in-memory pair: sessions without I/O on simulated time, and their shell."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from fakes import Law, ManualClock
from thinwire.cloud import events as cloud_events
from thinwire.cloud.session import CloudSession
from thinwire.common.errors import SessionNotFoundError, ThinwireError
from thinwire.common.law.random_streams import Draws
from thinwire.common.schemes.base import Scheme
from thinwire.common.session.messages import DraftBlock, Open, Opened, Verdict
from thinwire.common.session.states import TERMINAL

DECODE_S = 0.01
SCORE_S = 0.1
RESUME_TTL_S = 30.0
IDLE_TTL_S = 60.0
MAX_STEPS = 20_000


class Agenda:
    """Everything that is under way, ordered by its time; the clock jumps from one to the next."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._planned = 0

    def plan(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do it in `delay_s` seconds."""
        self.plan_at(self.clock() + delay_s, action)

    def plan_at(self, at_s: float, action: Callable[[], None]) -> None:
        """Do it at a time, behind what was planned for that time before."""
        self._planned += 1
        heapq.heappush(self._entries, (at_s, self._planned, action))

    def run(self) -> None:
        """Until nothing is under way."""
        for _ in range(MAX_STEPS):
            if not self._entries:
                return
            at_s, _, action = heapq.heappop(self._entries)
            self.clock.now_s = max(self.clock.now_s, at_s)
            action()
        raise AssertionError(f"the pair is still busy after {MAX_STEPS} steps")


@dataclass(eq=False)
class Stream:
    """One stream; `session` and `epoch` once an Open came through."""

    session: CloudSession | None = None
    epoch: int = 0
    edge_gone: bool = False
    cloud_gone: bool = False
    last_up_s: float = 0.0
    last_down_s: float = 0.0


class InMemoryCloud:
    """
    Cloud sessions and what a daemon would do for them.

    Args:
        agenda: of the pair.
        target_law: prefix → (V,) float64, or object arrays of Fraction.
        scheme: used by both ends.
        draws: randomness of the verification; keyed by each session's seed if None.
        eos_token_ids: of the target.
        context_length: of the target.
        send_down: takes a message on a stream to the edge.
        refuse: ends a stream with an error.
    """

    def __init__(
        self,
        agenda: Agenda,
        target_law: Law,
        *,
        scheme: Scheme,
        draws: Draws | None,
        eos_token_ids: tuple[int, ...],
        context_length: int,
        send_down: Callable[[Stream, Opened | Verdict], None],
        refuse: Callable[[Stream, ThinwireError], None],
    ) -> None:
        self.sessions: list[CloudSession] = []
        """Every session ever opened."""
        self._agenda = agenda
        self._target_law = target_law
        self._scheme = scheme
        self._draws = draws
        self._eos_token_ids = eos_token_ids
        self._context_length = context_length
        self._send_down = send_down
        self._refuse = refuse
        self._streams: dict[bytes, dict[int, Stream]] = {}
        self._caches: dict[bytes, list[int]] = {}
        self._timers: dict[bytes, int] = {}
        self._released: set[bytes] = set()

    def is_over(self, session: CloudSession) -> bool:
        """Whether Release was performed; the shell has then let go of its streams."""
        return session.session_id in self._released

    def check_that_nothing_leaks(self) -> None:
        """Every session is released, and in a terminal state."""
        assert all(self.is_over(session) for session in self.sessions), "a session leaks"
        assert all(session.state in TERMINAL for session in self.sessions)

    def die(self) -> None:
        """Every stream ends at this side without a word."""
        for streams in self._streams.values():
            for stream in streams.values():
                stream.cloud_gone = True

    def forget(self) -> None:
        """Every session is over."""
        for session in self.sessions:
            if not self.is_over(session):
                self.step(session, cloud_events.TimerFired())

    def open(self, stream: Stream, open_: Open) -> None:
        """An Open came on a stream: a new session, or one that is resumed."""
        try:
            session = self._resumed(open_) if open_.session_id else self._new(open_)
        except ThinwireError as error:
            self._refuse(stream, error)
            return
        stream.session, stream.epoch = session, session.epoch + 1
        self._streams_of(session)[stream.epoch] = stream
        self.step(session, cloud_events.Attached(stream.epoch))

    def _new(self, open_: Open) -> CloudSession:
        session = CloudSession(
            len(self.sessions).to_bytes(16, "big"),
            open_,
            scheme=self._scheme,
            context_length=self._context_length,
            eos_token_ids=self._eos_token_ids,
            resume_ttl_s=RESUME_TTL_S,
            idle_ttl_s=IDLE_TTL_S,
            draws=self._draws,
        )
        self.sessions.append(session)
        self._caches[session.session_id] = []
        self._timers[session.session_id] = 0
        return session

    def _resumed(self, open_: Open) -> CloudSession:
        for session in self.sessions:
            if session.session_id == open_.session_id and not self.is_over(session):
                return session
        raise SessionNotFoundError("no such session.")

    def _streams_of(self, session: CloudSession) -> dict[int, Stream]:
        """The session's streams by epoch."""
        return self._streams.setdefault(session.session_id, {})

    def step(self, session: CloudSession, event: cloud_events.CloudEvent) -> None:
        """Step a session now and perform the effects."""
        for effect in session.step(event, self._agenda.clock()):
            self._perform(session, effect)

    def _perform(self, session: CloudSession, effect: cloud_events.CloudEffect) -> None:
        key = session.session_id
        cache = self._caches[key]
        assert key not in self._released, f"{effect} after Release"
        match effect:
            case cloud_events.Reply(epoch, message):
                stream = self._streams_of(session)[epoch]
                if not stream.cloud_gone:
                    self._send_down(stream, message)
            case cloud_events.ReplyClosed(epoch):
                self._streams_of(session)[epoch].cloud_gone = True
            case cloud_events.Prefill(token_ids):
                cache += token_ids
            case cloud_events.Decode(block):
                self._decode(session, block)
            case cloud_events.Score():
                self._score(session, effect)
            case cloud_events.TruncateCache(length):
                assert length <= len(cache)
                del cache[length:]
            case cloud_events.ArmTimer(at_s):
                self._timers[key] += 1
                armed = self._timers[key]
                if at_s is not None:
                    self._agenda.plan_at(at_s, lambda: self._fire(session, armed))
            case cloud_events.Refuse(epoch, error):
                if epoch in self._streams_of(session):
                    self._refuse(self._streams_of(session)[epoch], error)
            case cloud_events.Release():
                self._released.add(key)
                self._timers[key] += 1

    def _fire(self, session: CloudSession, armed: int) -> None:
        if armed == self._timers[session.session_id]:
            self.step(session, cloud_events.TimerFired())

    def _decode(self, session: CloudSession, block: DraftBlock) -> None:
        event: cloud_events.CloudEvent
        try:
            tokens = self._scheme.decode(block.payload, draft_length=block.draft_length, coding=block.coding)
            event = cloud_events.Decoded(block.round, tokens)
        except ThinwireError as error:
            event = cloud_events.WorkFailed(error)
        self._agenda.plan(DECODE_S, lambda: self.step(session, event))

    def _score(self, session: CloudSession, effect: cloud_events.Score) -> None:
        cache = self._caches[session.session_id]
        assert len(cache) == session.committed_length - 1, "the target cache is out of step"
        cache += effect.feed_token_ids
        first = len(cache) - len(effect.tokens)
        rows = [self._target_law(tuple(cache[:end])) for end in range(first, len(cache) + 1)]
        outcome = self._scheme.verify(
            rows, effect.tokens, session.draws, first_position=effect.first_position
        )
        accepted = tuple(token.token_id for token in effect.tokens[: outcome.accepted])
        scored = cloud_events.Scored(effect.round, accepted, outcome, queue_us=0, verify_us=0)
        self._agenda.plan(SCORE_S, lambda: self.step(session, scored))
