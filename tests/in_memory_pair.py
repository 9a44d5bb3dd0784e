"""
The two sessions wired back to back in memory, with a link that drops, repeats, delays and breaks.

Time is simulated: everything that is under way stands in one agenda, ordered by its time.
The payloads are real (`DraftBlockBuilder` and the schemes' encode and decode); only the two models are tables
and the link is the agenda.
The caches are lists of tokens, and a law is asked with the cache's own contents, so a cache rolled back
wrongly changes the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from fakes import Law, TableVocabulary
from in_memory_cloud import Agenda, InMemoryCloud, Stream
from thinwire.cloud import events as cloud_events
from thinwire.cloud.session import CloudSession
from thinwire.common.errors import ThinwireError, TransportError
from thinwire.common.law.random_streams import Draws, KeyedDraws
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.base import Scheme
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.messages import Close, DraftBlock, FinishReason, Open, Opened, TokenKind, Verdict
from thinwire.edge import events as edge_events
from thinwire.edge.draft_block import DraftBlockBuilder
from thinwire.edge.session import EdgeSession
from thinwire.edge.text_stream import TextStream
from weather import FAIR, Fault, Weather

HOP_S = 0.02
DRAFT_S = 0.05
RECONNECT_S = 0.1
ROUND_TIMEOUT_S = 1.0


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
        context_length: of both models; of the draft alone, where the target's differs.
        target_context_length: of the target, where it differs.
        patience_s: of the edge.
        scheme: used by both ends; made from the parameters unless given.
        vocabulary_size: V; the length of the draft's first row unless given.
    """

    def __init__(
        self,
        parameters: GenerationRequest,
        prompt: Sequence[int],
        draft_law: Law,
        target_law: Law,
        *,
        draws_edge: Draws | None = None,
        draws_cloud: Draws | None = None,
        faults: Iterable[Fault] = (),
        weather: Weather = FAIR,
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
        self.outcome = Outcome()
        self._draft_law = draft_law
        self._draws_edge = draws_edge if draws_edge is not None else KeyedDraws(parameters.seed)
        self._faults = chain(faults, weather)
        self._agenda = Agenda()
        self._cloud = InMemoryCloud(
            self._agenda,
            target_law,
            scheme=self.scheme,
            draws=draws_cloud,
            eos_token_ids=eos_token_ids,
            context_length=target_context_length or context_length,
            send_down=self._send_down,
            refuse=self._refuse,
        )
        self._stream = Stream()
        """The edge's current one."""
        self._edge_cache: list[int] = []
        self._edge_timer = 0

    @property
    def cloud_sessions(self) -> list[CloudSession]:
        """Every session ever opened; more than one if an Opened was lost."""
        return self._cloud.sessions

    @property
    def cloud(self) -> CloudSession | None:
        """The session that the edge ended with."""
        return self.cloud_sessions[-1] if self.cloud_sessions else None

    def run(self) -> Outcome:
        """Generate to the end, and go on until nothing is under way at the cloud either."""
        self._to_edge(edge_events.Connected())
        self._agenda.run()
        assert self.outcome.reason is not None, "nothing is under way, yet the text has no end"
        self._cloud.check_that_nothing_leaks()
        return self.outcome

    # --- the link -----------------------------------------------------------------------------------------

    def _deliveries(self, stream: Stream) -> list[float]:
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
                self._agenda.plan(0.0, lambda: self._cut(stream, cloud_notices_s=0.0))
                return []
            case Fault.CUT_AFTER:
                self._agenda.plan(0.0, lambda: self._cut(stream, cloud_notices_s=5.0))
            case Fault.RESTART:
                self._agenda.plan(0.0, lambda: self._restart(stream))
                return []
            case Fault.EVICT:
                self._agenda.plan(0.0, self._cloud.forget)
        return [HOP_S]

    def _restart(self, stream: Stream) -> None:
        """The cloud dies without a word."""
        self._cloud.die()
        self._cut(stream, cloud_notices_s=0.0)
        self._cloud.forget()

    def _cut(self, stream: Stream, *, cloud_notices_s: float) -> None:
        """The edge notices now, the cloud later."""
        if not stream.edge_gone:
            stream.edge_gone = True
            self._agenda.plan(cloud_notices_s, lambda: self._cloud_notices(stream))
            self._to_edge(edge_events.LinkLost(TransportError("the link was cut.")))

    def _cloud_notices(self, stream: Stream) -> None:
        stream.cloud_gone = True
        session = stream.session
        if session is not None and not self._cloud.is_over(session):
            self._cloud.step(session, cloud_events.LinkLost(stream.epoch))

    def _send_up(self, message: Open | DraftBlock | Close) -> None:
        stream = self._stream
        self.outcome.sent.append(message)
        assert not stream.edge_gone, f"{message} is sent on a broken stream"
        deliveries = self._deliveries(stream)
        if isinstance(message, Open):
            deliveries = deliveries[:1]  # one stream opens once
        for delay_s in deliveries:
            # Streams keep their order.
            stream.last_up_s = max(stream.last_up_s, self._agenda.clock() + delay_s)
            self._agenda.plan_at(stream.last_up_s, lambda: self._arrive_up(stream, message))

    def _arrive_up(self, stream: Stream, message: Open | DraftBlock | Close) -> None:
        if stream.cloud_gone:
            return
        if isinstance(message, Open):
            self._cloud.open(stream, message)
            return
        session = stream.session
        if session is None or self._cloud.is_over(session):
            return
        if isinstance(message, Close):
            self._cloud.step(session, cloud_events.CloseReceived(stream.epoch))
        else:
            self._cloud.step(session, cloud_events.BlockReceived(stream.epoch, message))

    def _send_down(self, stream: Stream, message: Opened | Verdict) -> None:
        self.outcome.replies.append(message)
        for delay_s in self._deliveries(stream):
            stream.last_down_s = max(stream.last_down_s, self._agenda.clock() + delay_s)
            self._agenda.plan_at(stream.last_down_s, lambda: self._arrive_down(stream, message))

    def _arrive_down(self, stream: Stream, message: Opened | Verdict) -> None:
        if isinstance(message, Verdict):
            # Even of a stream already given up, but not of a session that is lost.
            lost = stream.session is None or self._cloud.is_over(stream.session)
            if stream is self._stream or not lost:
                self._to_edge(edge_events.VerdictReceived(message))
        elif stream is self._stream and not stream.edge_gone:
            self._to_edge(edge_events.OpenedReceived(message))

    def _refuse(self, stream: Stream, error: ThinwireError) -> None:
        stream.cloud_gone = True

        def arrive() -> None:
            if stream is self._stream and not stream.edge_gone:
                self._to_edge(edge_events.Refused(error))

        self._agenda.plan_at(max(stream.last_down_s, self._agenda.clock() + HOP_S), arrive)

    # --- the edge's shell ---------------------------------------------------------------------------------

    def _to_edge(self, event: edge_events.EdgeEvent) -> None:
        for effect in self.edge.step(event, self._agenda.clock()):
            self._perform_edge(effect)

    def _perform_edge(self, effect: edge_events.EdgeEffect) -> None:
        match effect:
            case edge_events.Send(message):
                self._send_up(message)
            case edge_events.Draft():
                block = self._draft(effect)
                self.outcome.blocks.append(block)
                self._agenda.plan(DRAFT_S, lambda: self._to_edge(edge_events.Drafted(effect.attempt, block)))
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
                    self._agenda.plan_at(at_s, lambda: self._fire_edge(armed))
            case edge_events.Reconnect():
                if not self._stream.edge_gone:  # given up by the session itself
                    old, old.edge_gone = self._stream, True
                    self._agenda.plan(5.0, lambda: self._cloud_notices(old))
                self._agenda.plan(RECONNECT_S, self._reconnect)
            case edge_events.Finish(reason, text, error):
                assert self.outcome.reason is None, "two ends of one text"
                self.outcome.reason, self.outcome.error = reason, error
                self.outcome.text += text
                last = self._stream
                if not last.edge_gone:
                    last.edge_gone = True
                    self._agenda.plan(10.0, lambda: self._cloud_notices(last))

    def _fire_edge(self, armed: int) -> None:
        if armed == self._edge_timer:
            self._to_edge(edge_events.TimerFired())

    def _reconnect(self) -> None:
        if self.outcome.reason is None:
            self._stream = Stream()
            self._to_edge(edge_events.Connected())

    def _draft(self, effect: edge_events.Draft) -> edge_events.DraftedBlock:
        builder = DraftBlockBuilder(effect, self.scheme, self._draws_edge)
        self._edge_cache += effect.feed_token_ids
        if effect.max_draft_length:
            assert tuple(self._edge_cache) == self.edge.committed_token_ids, "the draft cache is out of step"
        while not builder.complete:
            token_id = builder.offer(self._draft_law(tuple(self._edge_cache)))
            if token_id is not None and not builder.complete:
                self._edge_cache.append(token_id)
        return builder.build(cache_length=len(self._edge_cache), draft_s=DRAFT_S)
