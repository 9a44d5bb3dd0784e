"""
Both sans-IO halves of a free-running session over a link where chance decides what happens next.

Messages keep their order in either direction, as a stream does; everything else may take any time: a draft, a
target pass, a message, the loss of a stream, a cloud that forgets the session.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from fakes import Law
from thinwire.cloud import events as cloud_events
from thinwire.cloud.free_running import FreeRunningSession as CloudSession
from thinwire.cloud.stop_finder import StopFinder
from thinwire.common.config import SamplingParameters
from thinwire.common.errors import SessionNotFoundError, ThinwireError, TransportError
from thinwire.common.law.random_streams import Draws, KeyedDraws, Stream
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.coupled import Coupled, race_through
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.messages import (
    Close,
    FinishReason,
    Hints,
    Open,
    Opened,
    VocabularyIdentity,
    Written,
)
from thinwire.edge import events as edge_events
from thinwire.edge.draft_block import DraftBlockBuilder
from thinwire.edge.free_running import FreeRunningSession as EdgeSession
from thinwire.edge.hint_sources import HintSources
from thinwire.edge.text_stream import TextStream

PROMPT = (0, 1)


class FreeRunningPair:
    """
    One generation.

    Args:
        request: of scheme `coupled`.
        target, draft: the two models; (V,) laws by prefix.
        chance: decides what happens next.
        draws: of both ends; made from the seed unless given.
        eos_token_ids: of the target.
        cuts: streams that are lost at most.
        evictions: sessions that the cloud forgets at most.
        copies: whether the cloud copies from the text.
        edge_copies: whether the edge copies where the cloud does not.
        prediction: ids that the client expects.
        finds_stops: whether the cloud looks for stop strings, by `cloud_decode` (None: as the edge).
        spoil: called with hints on their way up; what it returns arrives.
    """

    def __init__(
        self,
        request: GenerationRequest,
        target: Law,
        draft: Law,
        chance: random.Random,
        *,
        draws: Draws | None = None,
        eos_token_ids: tuple[int, ...] = (),
        cuts: int = 0,
        evictions: int = 0,
        spoil: Any = lambda hints: hints,
        copies: bool = False,
        edge_copies: bool = False,
        prediction: tuple[int, ...] = (),
        finds_stops: bool = False,
        cloud_decode: Any = None,
        weights: dict[str, float] | None = None,
    ) -> None:
        self.request, self.target, self.draft_law, self.chance = request, target, draft, chance
        self.draws: Draws = draws or KeyedDraws(request.seed)
        self.eos_token_ids = eos_token_ids
        self.cuts, self.evictions, self.spoil = cuts, evictions, spoil
        self.copies = copies
        self.finds_stops, self.cloud_decode = finds_stops, cloud_decode or letters
        self.weights = weights or {}
        self.size = len(target(PROMPT))
        self.scheme = make_scheme(Coupled.Parameters(), vocabulary_size=self.size)
        self.edge = EdgeSession(
            request,
            PROMPT,
            vocabulary=VocabularyIdentity(self.size, bytes(32)),
            scheme=self.scheme,
            text=TextStream(letters, stop=request.stop),
            context_length=512,
            round_timeout_s=1.0,
            patience_s=1e9,
            sources=HintSources(prediction, may_copy=edge_copies),
        )
        self.cloud: CloudSession | None = None
        self.epoch = 0
        self.up: deque[Any] = deque()
        self.down: deque[Any] = deque()
        self.cloud_work: deque[Any] = deque()
        self.drafting: edge_events.Draft | None = None
        self.is_cut = False
        self.edge_cache: list[int] = []
        self.cloud_cache: list[int] = []
        self.is_linked = False
        self.token_ids: list[int] = []
        self.passes = 0
        self.hint_rows = 0
        self.trees = 0
        """Passes over a tree."""
        self.hints_sent = 0
        self.finish: edge_events.Finish | None = None
        self.now = 0.0
        self.waits = 0
        """Waits of the target for a hint."""

    def run(self) -> tuple[int, ...]:
        """Until the text is over; the output ids."""
        self.is_linked = True
        self.step_edge(edge_events.Connected())
        for _ in range(100_000):
            if self.finish is not None:
                return tuple(self.token_ids)
            actions = [name for name, there in self.choices().items() if there]
            assert actions, "nothing can happen any more"
            self.now += 0.05 * self.chance.random()
            weights = [self.weights.get(name, 1.0) for name in actions]
            getattr(self, self.chance.choices(actions, weights)[0])()
        raise AssertionError("the text does not end")

    def choices(self) -> dict[str, bool]:
        """What may happen next."""
        return {
            "deliver_up": bool(self.up),
            "deliver_down": bool(self.down),
            "work": bool(self.cloud_work),
            "drafted": self.drafting is not None,
            "wait_ended": self.cloud is not None and self.cloud.is_waiting,
            "reconnect": not self.is_linked,
            "cut": self.is_linked and self.cuts > 0 and self.chance.random() < 0.05,
            "evict": self.cloud is not None and self.evictions > 0 and self.chance.random() < 0.05,
        }

    def wait_ended(self) -> None:
        """The target has waited for a hint long enough."""
        self.waits += 1
        self.step_cloud(cloud_events.WaitOver())

    # --- the link -----------------------------------------------------------------------------------------

    def deliver_up(self) -> None:
        """One message reaches the cloud."""
        message = self.up.popleft()
        match message:
            case Open():
                self.opened(message)
            case Hints() if self.cloud is not None:
                self.step_cloud(cloud_events.HintsReceived(self.epoch, message))
            case Close() if self.cloud is not None:
                self.step_cloud(cloud_events.CloseReceived(self.epoch))

    def opened(self, message: Open) -> None:
        """A new session, or one taken up."""
        if message.session_id and self.cloud is None:
            self.down.append(SessionNotFoundError("no such session"))
            return
        if not message.session_id:
            run = message.free_run
            assert run is not None
            self.cloud, self.epoch, self.cloud_cache = None, 0, []
            self.cloud_work.clear()
            self.cloud = CloudSession(
                self.chance.randbytes(16),
                message,
                scheme=self.scheme,
                context_length=512,
                eos_token_ids=self.eos_token_ids,
                resume_ttl_s=1.0,
                idle_ttl_s=1.0,
                draws=self.draws,
                copies=self.copies,
                takes_trees=True,
                stops=StopFinder(
                    self.cloud_decode, run.stop, special_tokens={}, prompt_token_ids=message.prompt_token_ids
                )
                if self.finds_stops
                else None,
            )
        self.epoch += 1
        self.step_cloud(cloud_events.Attached(self.epoch, message.free_run))

    def deliver_down(self) -> None:
        """One message reaches the edge."""
        message = self.down.popleft()
        match message:
            case Opened():
                self.step_edge(edge_events.OpenedReceived(message))
            case Written():
                self.step_edge(edge_events.WrittenReceived(message))
            case TransportError():
                self.step_edge(edge_events.LinkLost(message))
            case ThinwireError():
                self.step_edge(edge_events.Refused(message))

    def cut(self) -> None:
        """The stream is lost with all that was on it."""
        self.cuts -= 1
        self.up.clear()
        self.down.clear()
        if self.cloud is not None and self.epoch:
            self.step_cloud(cloud_events.LinkLost(self.epoch))
        self.down.append(TransportError("cut"))

    def evict(self) -> None:
        """The cloud forgets the session, and its stream ends."""
        self.evictions -= 1
        self.cloud = None
        self.cloud_work.clear()
        self.up.clear()
        self.down.append(SessionNotFoundError("evicted"))

    def reconnect(self) -> None:
        """Another stream is there."""
        self.is_linked = True
        self.up.clear()
        self.down.clear()
        self.step_edge(edge_events.Connected())

    # --- the edge's shell ---------------------------------------------------------------------------------

    def step_edge(self, event: Any) -> None:
        """One event of the edge and what follows from it."""
        for effect in self.edge.step(event, self.now):
            match effect:
                case edge_events.Send(Hints() as hints):
                    self.hints_sent += hints.draft_length
                    self.up.append(self.spoil(hints))
                case edge_events.Send(message):
                    self.up.append(message)
                case edge_events.Draft():
                    assert self.drafting is None
                    self.drafting, self.is_cut = effect, False
                case edge_events.CutDraft(attempt):
                    assert self.drafting is not None
                    assert self.drafting.attempt == attempt
                    self.is_cut = True
                case edge_events.TruncateCache(length):
                    assert self.drafting is None
                    assert length < len(self.edge_cache)
                    del self.edge_cache[length:]
                case edge_events.Emit(tokens):
                    self.token_ids += [token.token_id for token in tokens]
                case edge_events.Reconnect():
                    self.is_linked = False
                case edge_events.Finish():
                    self.finish = effect

    def drafted(self) -> None:
        """The draft in progress is done."""
        effect, self.drafting = self.drafting, None
        assert effect is not None
        assert len(self.edge_cache) + len(effect.feed_token_ids) == effect.first_position
        builder = DraftBlockBuilder(effect, self.scheme, self.draws)
        feed = effect.feed_token_ids
        while not builder.complete:
            self.edge_cache += feed
            token_id = builder.offer(np.asarray(self.draft_law(tuple(self.edge_cache)), dtype=np.float64))
            feed = () if token_id is None else (token_id,)
            if self.is_cut:
                break
        block = builder.build(cache_length=len(self.edge_cache), draft_s=0.0)
        self.step_edge(edge_events.Drafted(effect.attempt, block))

    # --- the cloud's shell --------------------------------------------------------------------------------

    def step_cloud(self, event: Any) -> None:
        """One event of the cloud and what follows from it."""
        assert self.cloud is not None
        for effect in self.cloud.step(event, self.now):
            match effect:
                case cloud_events.Reply(epoch, message):
                    if epoch == self.epoch and self.is_linked:
                        self.down.append(message)
                case cloud_events.Refuse(epoch, error):
                    if epoch == self.epoch:
                        self.down.append(error)
                case cloud_events.Release():
                    self.cloud_work.clear()
                case cloud_events.Prefill() | cloud_events.Write() | cloud_events.TruncateCache():
                    self.cloud_work.append(effect)

    def work(self) -> None:
        """One piece of work on the target's cache."""
        assert self.cloud is not None
        match self.cloud_work.popleft():
            case cloud_events.Prefill(token_ids):
                self.cloud_cache += token_ids
            case cloud_events.TruncateCache(length, kept):
                assert length < len(self.cloud_cache)
                self.cloud_cache = [*self.cloud_cache[:length], *(self.cloud_cache[n] for n in kept)]
            case cloud_events.Write() as write:
                assert len(self.cloud_cache) == write.cache_length
                fed = self.cloud.hints.rows(write.most_rows)
                self.cloud_cache += write.feed_token_ids
                prefixes = [tuple(self.cloud_cache)]
                for token_id, parent in zip(fed.token_ids, fed.parents or range(99), strict=False):
                    prefixes.append((*prefixes[parent], token_id))
                self.cloud_cache += fed.token_ids
                outcome, path = race_through(
                    [self.target(prefix) for prefix in prefixes],
                    fed.token_ids,
                    fed.parents,
                    self.draws,
                    first_position=write.first_position,
                )
                self.passes += 1
                self.hint_rows += len(fed.token_ids)
                self.trees += bool(fed.parents)
                written = (*(fed.token_ids[index] for index in path), outcome.next_token_id)
                self.step_cloud(cloud_events.Wrote(fed, path, written, 0, 50_000, outcome.resampled))


def letters(token_ids: Sequence[int]) -> str:
    """a for 0, b for 1, and so on."""
    return "".join(chr(97 + token_id) for token_id in token_ids)


def own_text(target: Law, draws: Draws, length: int, prompt: tuple[int, ...] = PROMPT) -> tuple[int, ...]:
    """The text by its definition: each token wins the coupled race at its position, with weights p."""
    prefix = prompt
    for _ in range(length):
        prefix = (*prefix, draws.race(Stream.COUPLED, len(prefix), np.asarray(target(prefix)))[0])
    return prefix[len(prompt) :]


def coupled_request(**changes: Any) -> GenerationRequest:
    """A request of scheme `coupled`."""
    given = {"seed": 7, "scheme": Coupled.Parameters(), "sampling": SamplingParameters(), **changes}
    return GenerationRequest("", **given)


__all__ = ["PROMPT", "FinishReason", "FreeRunningPair", "coupled_request", "letters", "own_text"]
