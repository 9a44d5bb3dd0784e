"""
The two sessions wired back to back in memory, with a link that drops, repeats, delays and breaks.

Time is simulated: everything that is under way stands in one agenda, ordered by its time.
The payloads are real (`DraftBlockBuilder` and the schemes' encode and decode); only the two models are tables
and the link is the agenda.
The caches are lists of tokens, and a law is asked with the cache's own contents, so a cache rolled back
wrongly changes the text.
"""

from __future__ import annotations

import enum
import heapq
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from fakes import Law, ManualClock, TableVocabulary

from cloud import events as cloud_events
from cloud.session import CloudSession
from common.config import GenerationParameters
from common.errors import SessionNotFoundError, ThinwireError, TransportError
from common.messages import Close, DraftBlock, FinishReason, Open, Opened, TokenKind, Verdict
from common.protocol import TERMINAL
from common.random_streams import Draws, KeyedDraws
from common.schemes import make_scheme
from common.schemes.base import Scheme
from edge import events as edge_events
from edge.draft_block import DraftBlockBuilder
from edge.session import EdgeSession
from edge.text_stream import TextStream

HOP_S = 0.02
DRAFT_S = 0.05
DECODE_S = 0.01
SCORE_S = 0.1
RECONNECT_S = 0.1
ROUND_TIMEOUT_S = 1.0
RESUME_TTL_S = 30.0
IDLE_TTL_S = 60.0
MAX_STEPS = 20_000


class Fault(enum.Enum):
    """What the link does to one message."""

    NONE = "none"
    DROP = "drop"
    DUPLICATE = "duplicate"
    DELAY = "delay"
    """Late, but within the round's timeout."""
    DELAY_PAST_TIMEOUT = "delay past the timeout"
    CUT_BEFORE = "cut before"
    """The link breaks first, both ends notice, the message is lost."""
    CUT_AFTER = "cut after"
    """The message goes out, then the link breaks; the cloud notices long after the edge."""
    RESTART = "restart"
    """The cloud is killed and is back at once, without any session; the message is lost."""
    EVICT = "evict"
    """The message goes out; the cloud drops every session and says so."""


@dataclass(frozen=True)
class Weather:
    """An endless, seeded row of faults; the fields are probabilities a message, tried in their order."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    """Half of the delays outlast the round's timeout."""
    tear: float = 0.0
    """The link breaks, half of the time before the message and half behind it."""
    forget: float = 0.0
    """The cloud loses its sessions, half of the time by a restart and half by an eviction."""
    seed: int = 0

    def __iter__(self) -> Iterator[Fault]:
        generator = random.Random(self.seed)
        while True:
            yield self._next(generator)

    def _next(self, generator: random.Random) -> Fault:
        if generator.random() < self.drop:
            return Fault.DROP
        if generator.random() < self.duplicate:
            return Fault.DUPLICATE
        if generator.random() < self.delay:
            return generator.choice([Fault.DELAY, Fault.DELAY_PAST_TIMEOUT])
        if generator.random() < self.tear:
            return generator.choice([Fault.CUT_BEFORE, Fault.CUT_AFTER])
        if generator.random() < self.forget:
            return generator.choice([Fault.RESTART, Fault.EVICT])
        return Fault.NONE


@dataclass
class Outcome:
    """What one generation came to."""

    token_ids: list[int] = field(default_factory=list)
    """The output, without the prompt."""
    kinds: list[TokenKind] = field(default_factory=list)
    text: str = ""
    reason: FinishReason | None = None
    error: ThinwireError | None = None
    blocks: list[edge_events.DraftedBlock] = field(default_factory=list)
    """Every block drafted, in order."""
    sent: list[object] = field(default_factory=list)
    """Every message the edge sent, in order."""
    replies: list[object] = field(default_factory=list)
    """Every message a cloud session sent, in order."""

    @property
    def epochs(self) -> int:
        """Streams that were opened."""
        return sum(isinstance(message, Open) for message in self.sent)

    @property
    def repeats(self) -> int:
        """Blocks sent again."""
        rounds = [message.round for message in self.sent if isinstance(message, DraftBlock)]
        return len(rounds) - len(set(rounds))


@dataclass(eq=False)
class _Stream:
    """One stream; `session` and `epoch` once an Open came through."""

    session: CloudSession | None = None
    epoch: int = 0
    edge_gone: bool = False
    cloud_gone: bool = False
    last_up_s: float = 0.0
    last_down_s: float = 0.0


class InMemoryPair:
    """
    An edge and a cloud with a link between them.

    Args:
        parameters: of the generation; the laws are taken as already warped.
        prompt: token ids.
        draft_law: prefix → (V,) float64.
        target_law: prefix → (V,) float64, or object arrays of Fraction.
        draws_edge: randomness of the drafts; keyed by the seed unless given.
        draws_cloud: randomness of the verification; keyed by the seed unless given.
        faults: what happens to the first messages, in the order they are sent.
        weather: what happens to the messages after those; fair unless given.
        eos_token_ids: of the target.
        context_length: of both models.
        target_context_length: of the target, where it differs.
        patience_s: of the edge.
        scheme: used by both ends; made from the parameters unless given.
        vocabulary_size: V; the length of the draft's first row unless given.
    """

    def __init__(
        self,
        parameters: GenerationParameters,
        prompt: Sequence[int],
        draft_law: Law,
        target_law: Law,
        *,
        draws_edge: Draws | None = None,
        draws_cloud: Draws | None = None,
        faults: Iterable[Fault] = (),
        weather: Weather = Weather(),
        eos_token_ids: tuple[int, ...] = (),
        context_length: int = 64,
        target_context_length: int | None = None,
        patience_s: float = 1e9,
        scheme: Scheme | None = None,
        vocabulary_size: int | None = None,
    ) -> None:
        self.vocabulary = TableVocabulary(vocabulary_size or len(draft_law(tuple(prompt))))
        size = self.vocabulary.identity.size
        self.scheme = scheme or make_scheme(parameters.scheme, vocabulary_size=size)
        self.edge = EdgeSession(
            parameters,
            tuple(prompt),
            vocabulary=self.vocabulary.identity,
            scheme=self.scheme,
            text=TextStream(self.vocabulary.decode, stop=parameters.stop, prompt_token_ids=prompt),
            context_length=context_length,
            round_timeout_s=ROUND_TIMEOUT_S,
            patience_s=patience_s,
        )
        self.cloud_sessions: list[CloudSession] = []
        """Every session ever opened; more than one if an Opened was lost."""
        self.outcome = Outcome()
        self.clock = ManualClock()
        self._draft_law = draft_law
        self._target_law = target_law
        self._draws_edge = draws_edge if draws_edge is not None else KeyedDraws(parameters.seed)
        self._draws_cloud = draws_cloud
        self._faults = chain(faults, weather)
        self._eos_token_ids = eos_token_ids
        self._target_context_length = target_context_length or context_length
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._planned = 0
        self._stream = _Stream()
        """The edge's current one."""
        self._streams: dict[bytes, dict[int, _Stream]] = {}
        self._edge_cache: list[int] = []
        self._edge_timer = 0
        self._cloud_caches: dict[bytes, list[int]] = {}
        self._cloud_timers: dict[bytes, int] = {}
        self._released: set[bytes] = set()

    @property
    def cloud(self) -> CloudSession | None:
        """The session that the edge ended with."""
        return self.cloud_sessions[-1] if self.cloud_sessions else None

    def run(self) -> Outcome:
        """Generate to the end, and go on until nothing is under way at the cloud either."""
        self._to_edge(edge_events.Started())
        for _ in range(MAX_STEPS):
            if not self._agenda:
                break
            at_s, _, action = heapq.heappop(self._agenda)
            self.clock.now_s = max(self.clock.now_s, at_s)
            action()
        else:
            raise AssertionError(f"the pair is still busy after {MAX_STEPS} steps")
        assert self.outcome.reason is not None, "nothing is under way, yet the text has no end"
        assert self._released == {session.session_id for session in self.cloud_sessions}, "a session leaks"
        assert all(session.state in TERMINAL for session in self.cloud_sessions)
        return self.outcome

    def _plan(self, delay_s: float, action: Callable[[], None]) -> None:
        self._plan_at(self.clock() + delay_s, action)

    def _plan_at(self, at_s: float, action: Callable[[], None]) -> None:
        self._planned += 1
        heapq.heappush(self._agenda, (at_s, self._planned, action))

    # --- the link -----------------------------------------------------------------------------------------

    def _deliveries(self, stream: _Stream) -> list[float]:
        """Delays with which the next message arrives; empty if it is lost. May plan the link's end."""
        match next(self._faults):
            case Fault.DROP:
                return []
            case Fault.DUPLICATE:
                return [HOP_S, 3 * HOP_S]
            case Fault.DELAY:
                return [ROUND_TIMEOUT_S / 2]
            case Fault.DELAY_PAST_TIMEOUT:
                return [ROUND_TIMEOUT_S * 1.5]
            case Fault.CUT_BEFORE:
                self._plan(0.0, lambda: self._cut(stream, cloud_notices_s=0.0))
                return []
            case Fault.CUT_AFTER:
                self._plan(0.0, lambda: self._cut(stream, cloud_notices_s=5.0))
            case Fault.RESTART:
                self._plan(0.0, lambda: self._restart(stream))
                return []
            case Fault.EVICT:
                self._plan(0.0, self._forget)
        return [HOP_S]

    def _restart(self, stream: _Stream) -> None:
        """The cloud dies without a word."""
        for session in self.cloud_sessions:
            for other in self._streams_of(session).values():
                other.cloud_gone = True
        self._cut(stream, cloud_notices_s=0.0)
        self._forget()

    def _forget(self) -> None:
        """Every session at the cloud is over."""
        for session in self.cloud_sessions:
            if session.session_id not in self._released:
                self._to_cloud(session, cloud_events.TimerFired())

    def _cut(self, stream: _Stream, *, cloud_notices_s: float) -> None:
        """The edge notices now, the cloud later."""
        if not stream.edge_gone:
            stream.edge_gone = True
            self._plan(cloud_notices_s, lambda: self._cloud_notices(stream))
            self._to_edge(edge_events.LinkLost(TransportError("the link was cut.")))

    def _cloud_notices(self, stream: _Stream) -> None:
        stream.cloud_gone = True
        session = stream.session
        # Once Release is performed the shell has let go of the stream.
        if session is not None and session.session_id not in self._released:
            self._to_cloud(session, cloud_events.LinkLost(stream.epoch))

    def _send_up(self, message: Open | DraftBlock | Close) -> None:
        stream = self._stream
        self.outcome.sent.append(message)
        assert not stream.edge_gone, f"{message} is sent on a broken stream"
        deliveries = self._deliveries(stream)
        if isinstance(message, Open):
            deliveries = deliveries[:1]  # one stream opens once
        for delay_s in deliveries:
            stream.last_up_s = max(stream.last_up_s, self.clock() + delay_s)  # streams keep their order
            self._plan_at(stream.last_up_s, lambda: self._arrive_up(stream, message))

    def _arrive_up(self, stream: _Stream, message: Open | DraftBlock | Close) -> None:
        if stream.cloud_gone:
            return
        if isinstance(message, Open):
            self._open(stream, message)
            return
        session = stream.session
        if session is None or session.session_id in self._released:
            return
        if isinstance(message, Close):
            self._to_cloud(session, cloud_events.CloseReceived(stream.epoch, message))
        else:
            self._to_cloud(session, cloud_events.BlockReceived(stream.epoch, message))

    def _send_down(self, stream: _Stream, message: Opened | Verdict) -> None:
        self.outcome.replies.append(message)
        for delay_s in self._deliveries(stream):
            stream.last_down_s = max(stream.last_down_s, self.clock() + delay_s)
            self._plan_at(stream.last_down_s, lambda: self._arrive_down(stream, message))

    def _arrive_down(self, stream: _Stream, message: Opened | Verdict) -> None:
        if isinstance(message, Verdict):
            # Even of a stream already given up, but not of a session that is lost.
            lost = stream.session is None or stream.session.session_id in self._released
            if stream is self._stream or not lost:
                self._to_edge(edge_events.VerdictReceived(message))
        elif stream is self._stream and not stream.edge_gone:
            self._to_edge(edge_events.OpenedReceived(message))

    def _refuse(self, stream: _Stream, error: ThinwireError) -> None:
        stream.cloud_gone = True

        def arrive() -> None:
            if stream is self._stream and not stream.edge_gone:
                self._to_edge(edge_events.Refused(error))

        self._plan_at(max(stream.last_down_s, self.clock() + HOP_S), arrive)

    # --- the edge's shell ---------------------------------------------------------------------------------

    def _to_edge(self, event: edge_events.EdgeEvent) -> None:
        for effect in self.edge.step(event, self.clock()):
            self._perform_edge(effect)

    def _perform_edge(self, effect: edge_events.EdgeEffect) -> None:
        match effect:
            case edge_events.Send(message):
                self._send_up(message)
            case edge_events.Draft():
                block = self._draft(effect)
                self.outcome.blocks.append(block)
                self._plan(DRAFT_S, lambda: self._to_edge(edge_events.Drafted(effect.attempt, block)))
            case edge_events.Emit(tokens):
                assert self.outcome.reason is None, "Emit after Finish"
                self.outcome.token_ids += [token.token_id for token in tokens]
                self.outcome.kinds += [token.kind for token in tokens]
                self.outcome.text += "".join(token.text for token in tokens)
            case edge_events.TruncateCache(length):
                assert length <= len(self._edge_cache)
                del self._edge_cache[length:]
            case edge_events.ArmTimer(at_s):
                self._edge_timer += 1
                armed = self._edge_timer
                if at_s is not None:
                    self._plan_at(at_s, lambda: self._fire_edge(armed))
            case edge_events.Reconnect():
                if not self._stream.edge_gone:  # given up by the session itself
                    old, old.edge_gone = self._stream, True
                    self._plan(5.0, lambda: self._cloud_notices(old))
                self._plan(RECONNECT_S, self._reconnect)
            case edge_events.Finish(reason, text, error):
                assert self.outcome.reason is None, "two ends of one text"
                self.outcome.reason, self.outcome.error = reason, error
                self.outcome.text += text
                last = self._stream
                if not last.edge_gone:
                    last.edge_gone = True
                    self._plan(10.0, lambda: self._cloud_notices(last))

    def _fire_edge(self, armed: int) -> None:
        if armed == self._edge_timer:
            self._to_edge(edge_events.TimerFired())

    def _reconnect(self) -> None:
        if self.outcome.reason is None:
            self._stream = _Stream()
            self._to_edge(edge_events.LinkRestored())

    def _draft(self, effect: edge_events.Draft) -> edge_events.DraftedBlock:
        builder = DraftBlockBuilder(
            self.scheme,
            effect.state,
            self._draws_edge,
            attempt=effect.attempt,
            first_position=effect.first_position,
            max_draft_length=effect.max_draft_length,
            budget_bits=effect.budget_bits,
            stop_token_ids=effect.stop_token_ids,
        )
        self._edge_cache += effect.feed_token_ids
        if effect.max_draft_length:
            assert tuple(self._edge_cache) == self.edge.committed_token_ids, "the draft cache is out of step"
        while not builder.complete:
            token_id = builder.offer(self._draft_law(tuple(self._edge_cache)))
            if token_id is not None and not builder.complete:
                self._edge_cache.append(token_id)
        return builder.build(cache_length=len(self._edge_cache), draft_s=DRAFT_S)

    # --- the cloud's shell --------------------------------------------------------------------------------

    def _open(self, stream: _Stream, open_: Open) -> None:
        try:
            session = self._resumed(open_) if open_.session_id else self._new(open_)
        except ThinwireError as error:
            self._refuse(stream, error)
            return
        stream.session, stream.epoch = session, session.epoch + 1
        self._streams_of(session)[stream.epoch] = stream
        self._to_cloud(session, cloud_events.Attached(stream.epoch))

    def _new(self, open_: Open) -> CloudSession:
        session = CloudSession(
            len(self.cloud_sessions).to_bytes(16, "big"),
            open_,
            scheme=self.scheme,
            context_length=self._target_context_length,
            eos_token_ids=self._eos_token_ids,
            resume_ttl_s=RESUME_TTL_S,
            idle_ttl_s=IDLE_TTL_S,
            draws=self._draws_cloud,
        )
        self.cloud_sessions.append(session)
        self._cloud_caches[session.session_id] = []
        self._cloud_timers[session.session_id] = 0
        return session

    def _resumed(self, open_: Open) -> CloudSession:
        for session in self.cloud_sessions:
            if session.session_id == open_.session_id and session.session_id not in self._released:
                return session
        raise SessionNotFoundError("no such session.")

    def _streams_of(self, session: CloudSession) -> dict[int, _Stream]:
        """The session's streams by epoch."""
        return self._streams.setdefault(session.session_id, {})

    def _to_cloud(self, session: CloudSession, event: cloud_events.CloudEvent) -> None:
        for effect in session.step(event, self.clock()):
            self._perform_cloud(session, effect)

    def _perform_cloud(self, session: CloudSession, effect: cloud_events.CloudEffect) -> None:
        key = session.session_id
        cache = self._cloud_caches[key]
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
                self._cloud_timers[key] += 1
                armed = self._cloud_timers[key]
                if at_s is not None:
                    self._plan_at(at_s, lambda: self._fire_cloud(session, armed))
            case cloud_events.Refuse(epoch, error):
                if epoch in self._streams_of(session):
                    self._refuse(self._streams_of(session)[epoch], error)
            case cloud_events.Release():
                self._released.add(key)
                self._cloud_timers[key] += 1

    def _fire_cloud(self, session: CloudSession, armed: int) -> None:
        if armed == self._cloud_timers[session.session_id]:
            self._to_cloud(session, cloud_events.TimerFired())

    def _decode(self, session: CloudSession, block: DraftBlock) -> None:
        event: cloud_events.CloudEvent
        try:
            tokens = self.scheme.decode(
                block.payload, draft_length=block.draft_length, support_size_code=block.support_size_code
            )
            event = cloud_events.Decoded(block.round, tokens)
        except ThinwireError as error:
            event = cloud_events.WorkFailed(error)
        self._plan(DECODE_S, lambda: self._to_cloud(session, event))

    def _score(self, session: CloudSession, effect: cloud_events.Score) -> None:
        cache = self._cloud_caches[session.session_id]
        assert len(cache) == session.committed_length - 1, "the target cache is out of step"
        cache += effect.feed_token_ids
        first = len(cache) - len(effect.tokens)
        rows = [self._target_law(tuple(cache[:end])) for end in range(first, len(cache) + 1)]
        outcome = self.scheme.verify(rows, effect.tokens, session.draws, first_position=effect.first_position)
        accepted = tuple(token.token_id for token in effect.tokens[: outcome.accepted])
        scored = cloud_events.Scored(effect.round, accepted, outcome, queue_us=0, verify_us=0)
        self._plan(SCORE_S, lambda: self._to_cloud(session, scored))
