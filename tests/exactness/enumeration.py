"""
Exact enumeration of a generation's law over its keyed draws.

Every draw is looked up by the shipped `draw_key`: the first use of a key branches over all its outcomes with
their exact probabilities, a second use meets the number that is already there.
So a number used twice, or shared between two purposes, shows as a bias of the law.
A key's number is one uniform on [0, 1), of which only the interval known so far is kept: each question asked
of it (which of ℓ integers, below a threshold or not, which token) cuts the interval further.
That is `KeyedDraws` with infinitely many bits, apart from the race, which is replaced by a cumulative sum.
The tree is walked by replay: the generation runs once per leaf, with the list of branches to take.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate, pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt

from thinwire.cloud import events as cloud_events
from thinwire.cloud.session import CloudSession
from thinwire.common.errors import TransportError
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.law.random_streams import Stream, draw_key
from thinwire.common.law.speculative import BlockOutcome
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.base import Scheme
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.hit_rate import HitRate
from thinwire.common.session.messages import (
    Close,
    DraftBlock,
    Open,
    Opened,
    TokenKind,
    Verdict,
    VocabularyIdentity,
)
from thinwire.edge import events as edge_events
from thinwire.edge.draft_block import DraftBlockBuilder
from thinwire.edge.session import EdgeSession
from thinwire.edge.text_stream import TextStream

TokenIds = tuple[int, ...]
Law = dict[TokenIds, Fraction]
Rows = Callable[[TokenIds], npt.NDArray[Any]]
"""A model: the next-token law after a prefix, prompt included; (V,) of Fractions or floats."""

PROMPT = (0,)


# --- the tree ---------------------------------------------------------------------------------------------


class Path:
    """One way from the root to a leaf: `forced` branches first, after those the first of every node."""

    def __init__(self, forced: Sequence[int]) -> None:
        self._forced = forced
        self._taken: list[int] = []
        self._widths: list[int] = []
        self.probability = Fraction(1)

    def choose(self, probabilities: Sequence[Fraction]) -> int:
        """Take a branch of a node whose branches have these positive probabilities, which sum to 1."""
        depth = len(self._taken)
        index = self._forced[depth] if depth < len(self._forced) else 0
        self._taken.append(index)
        self._widths.append(len(probabilities))
        self.probability *= probabilities[index]
        return index

    def following(self) -> list[int] | None:
        """The branches that lead to the next leaf, None behind the last one."""
        forced = list(self._taken)
        while forced and forced[-1] + 1 == self._widths[len(forced) - 1]:
            forced.pop()
        if not forced:
            return None
        forced[-1] += 1
        return forced


def leaves(run: Callable[[Path], Any]) -> list[tuple[Any, Fraction]]:
    """What `run` returns at every leaf, with the leaf's probability."""
    found, forced = [], []
    while forced is not None:
        path = Path(forced)
        found.append((run(path), path.probability))
        forced = path.following()
    assert sum(probability for _, probability in found) == 1
    return found


# --- draws ------------------------------------------------------------------------------------------------


class EnumeratedDraws:
    """`Draws` over a table that is filled while it is read; both ends share it, as they share a seed."""

    def __init__(self, path: Path, *, seed: int = 7) -> None:
        self._path = path
        self._seed = seed
        self._known: dict[bytes, tuple[Fraction, Fraction]] = {}

    def draft_integer(self, position: int, attempt: int, bound: int) -> int:
        """Uniform integer in [0, bound)."""
        cuts = [Fraction(i, bound) for i in range(1, bound)]
        return self.cut(draw_key(self._seed, Stream.DRAFT, position, attempt), cuts)

    def accept_integer(self, position: int) -> tuple[Any, int]:
        """(u, 1) with u a uniform number that branches when it is compared."""
        return _Uniform(self, draw_key(self._seed, Stream.ACCEPT, position)), 1

    def race(self, stream: Stream, position: int, weights: npt.NDArray[Any]) -> tuple[int, float]:
        """An index in proportion to the weights, floats taken at their exact value."""
        *partial, total = accumulate(Fraction(weight) for weight in weights)
        cuts = [part / total for part in partial]
        return self.cut(draw_key(self._seed, stream, position), cuts), 1.0

    def cut(self, key: bytes, cuts: Sequence[Fraction]) -> int:
        """Which of the cells between ascending `cuts` of [0, 1] the key's number lies in."""
        low, high = self._known.get(key, (Fraction(0), Fraction(1)))
        edges = [low, *(c for c in cuts if low < c < high), high]
        cells = list(pairwise(sorted(set(edges))))
        cell = cells[self._path.choose([(b - a) / (high - low) for a, b in cells])]
        self._known[key] = cell
        return bisect_right(cuts, cell[0])


class _Uniform:
    """A number on [0, 1) known by comparisons alone: `u * count < threshold` cuts it at the ratio."""

    def __init__(self, draws: EnumeratedDraws, key: bytes, scale: int = 1) -> None:
        self._draws, self._key, self._scale = draws, key, scale

    def __mul__(self, count: int) -> _Uniform:
        return _Uniform(self._draws, self._key, self._scale * count)

    def __lt__(self, bound: Fraction) -> bool:
        return self._draws.cut(self._key, [Fraction(bound) / self._scale]) == 0

    def __float__(self) -> float:
        return 0.0  # for the decision margin, which decides nothing


# --- two real sessions, back to back ----------------------------------------------------------------------


@dataclass(slots=True)
class Outcome:
    """One generation, and what it went through, by which a case shows that it covers what it should."""

    token_ids: list[int] = field(default_factory=list)
    first_round_rejected: bool = False
    rounds: int = 0
    draft_lengths: list[int] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)
    resends: int = 0


class ExactPair:
    """
    EdgeSession and CloudSession wired back to back, their models replaced by tables.

    Args:
        parameters: of the generation.
        target, draft: the two models; the target's rows are Fractions.
        draws: shared by both ends.
        eos_token_ids: of the target.
        loses: called with each verdict; True loses it together with the stream, and the edge resumes.
            A verdict is lost at most once.
        observe: output tokens to look at; the rest of the generation is not run.
        hit_rate: makes what the edge believes of its draft at first.
        draft_context_length: tokens the draft model can hold; the target's are 64.
    """

    builder_class = DraftBlockBuilder

    def __init__(
        self,
        parameters: GenerationRequest,
        target: Rows,
        draft: Rows,
        draws: EnumeratedDraws,
        *,
        eos_token_ids: TokenIds = (),
        loses: Callable[[Verdict], bool] = lambda verdict: False,
        observe: int | None = None,
        draft_context_length: int = 64,
        hit_rate: Callable[[], HitRate] = HitRate,
    ) -> None:
        self.parameters = parameters
        self.target, self.draft, self.draws = target, draft, draws
        self.eos_token_ids = eos_token_ids
        self.loses = loses
        self.draft_context_length = draft_context_length
        self.observe = observe or parameters.max_tokens
        self.vocabulary_size = len(target(PROMPT))
        self.edge_scheme = self.make_scheme()
        self.edge = EdgeSession(
            parameters,
            PROMPT,
            vocabulary=VocabularyIdentity(self.vocabulary_size, bytes(32)),
            scheme=self.edge_scheme,
            text=TextStream(lambda ids: "".join(chr(97 + i) for i in ids)),
            context_length=draft_context_length,
            round_timeout_s=1.0,
            patience_s=1e9,
            hit_rate=hit_rate(),
        )
        self.cloud: CloudSession | None = None
        self.epoch = 0
        self.edge_cache: list[int] = []
        self.cloud_cache: list[int] = []
        self.outcome = Outcome()
        self.lost: set[int] = set()
        self.queue: deque[tuple[Callable[[Any], None], Any]] = deque()

    def make_scheme(self) -> Scheme:
        """One end's scheme."""
        return make_scheme(self.parameters.scheme, vocabulary_size=self.vocabulary_size)

    def run(self) -> Outcome:
        """Run until the text is over or enough of it is seen."""
        self.queue.append((self.step_edge, edge_events.Connected()))
        while self.queue and len(self.outcome.token_ids) < self.observe:
            step, event = self.queue.popleft()
            step(event)
        del self.outcome.token_ids[self.observe :]
        return self.outcome

    # --- the edge's shell ----------------------------------------------------------------------------------

    def step_edge(self, event: Any) -> None:
        """One event of the edge and what follows from it."""
        for effect in self.edge.step(event, 0.0):
            match effect:
                case edge_events.Send(Open() as message):
                    self.open(message)
                case edge_events.Send(DraftBlock() as block):
                    self.receive(block)
                case edge_events.Send(Close()):
                    self.step_cloud(cloud_events.CloseReceived(self.epoch))
                case edge_events.Draft():
                    self.queue.append((self.step_edge, self.drafted(effect)))
                case edge_events.TruncateCache(length):
                    assert length < len(self.edge_cache)
                    del self.edge_cache[length:]
                case edge_events.Emit(tokens):
                    self.outcome.token_ids += [t.token_id for t in tokens]
                    resampled = any(t.kind is TokenKind.RESAMPLED for t in tokens)
                    self.outcome.first_round_rejected |= self.outcome.rounds == 0 and resampled
                    self.outcome.rounds += 1
                case edge_events.Reconnect():
                    self.queue.append((self.step_edge, edge_events.Connected()))
                case edge_events.Finish(_, _, error):
                    assert error is None, error

    def drafted(self, effect: edge_events.Draft) -> edge_events.Drafted:
        """Draft a block with the shipped builder."""
        builder = self.builder_class(effect, self.edge_scheme, self.draws)
        feed = effect.feed_token_ids
        while not builder.complete:
            self.edge_cache += feed
            assert len(self.edge_cache) <= self.draft_context_length
            token_id = builder.offer(self.draft(tuple(self.edge_cache)).astype(np.float64))
            if token_id is None:
                break
            feed = (token_id,)
        block = builder.build(cache_length=len(self.edge_cache), draft_s=0.0)
        self.outcome.draft_lengths.append(len(block.tokens))
        self.outcome.thresholds += [state.threshold for state in block.states]
        return edge_events.Drafted(effect.attempt, block)

    # --- the cloud's shell ---------------------------------------------------------------------------------

    def open(self, message: Open) -> None:
        """Open or resume."""
        if self.cloud is None:
            self.cloud = CloudSession(
                bytes(16),
                message,
                scheme=self.make_scheme(),
                context_length=64,
                eos_token_ids=self.eos_token_ids,
                resume_ttl_s=1.0,
                idle_ttl_s=1.0,
                draws=self.draws,
            )
        self.epoch += 1
        self.step_cloud(cloud_events.Attached(self.epoch))

    def receive(self, block: DraftBlock) -> None:
        """A block arrives at the cloud."""
        self.step_cloud(cloud_events.BlockReceived(self.epoch, block))

    def step_cloud(self, event: Any) -> None:
        """One event of the cloud and what follows from it."""
        assert self.cloud is not None
        for effect in self.cloud.step(event, 0.0):
            match effect:
                case cloud_events.Reply(_, Opened() as opened):
                    self.queue.append((self.step_edge, edge_events.OpenedReceived(opened)))
                case cloud_events.Reply(_, Verdict() as verdict):
                    self.reply(verdict)
                case cloud_events.Prefill(token_ids):
                    self.cloud_cache += token_ids
                case cloud_events.Decode(block):
                    tokens = self.cloud.scheme.decode(
                        block.payload,
                        draft_length=block.draft_length,
                        coding=block.coding,
                    )
                    self.queue.append((self.step_cloud, cloud_events.Decoded(block.round, tokens)))
                case cloud_events.Score():
                    self.queue.append((self.step_cloud, self.scored(effect)))
                case cloud_events.TruncateCache(length):
                    assert length < len(self.cloud_cache)
                    del self.cloud_cache[length:]
                case cloud_events.Refuse(epoch, error):
                    assert epoch < self.epoch, error  # the end of a superseded stream is no fault

    def reply(self, verdict: Verdict) -> None:
        """Deliver a verdict, or lose it with its stream."""
        if verdict.round not in self.lost and self.loses(verdict):
            self.lost.add(verdict.round)
            self.outcome.resends += 1
            self.queue.append((self.step_cloud, cloud_events.LinkLost(self.epoch)))
            self.queue.append((self.step_edge, edge_events.LinkLost(TransportError("lost"))))
        else:
            self.queue.append((self.step_edge, edge_events.VerdictReceived(verdict)))

    def scored(self, effect: cloud_events.Score) -> cloud_events.Scored:
        """The target's rows and the scheme's verification."""
        cached = len(self.cloud_cache)
        self.cloud_cache += effect.feed_token_ids
        rows = [self.target(tuple(self.cloud_cache[: cached + 1 + i])) for i in range(len(effect.tokens) + 1)]
        outcome = self.verify(rows, effect.tokens, effect.first_position)
        kept = tuple(token.token_id for token in effect.tokens[: outcome.accepted])
        return cloud_events.Scored(effect.round, kept, outcome, 0, 0)

    def verify(
        self, rows: list[npt.NDArray[Any]], tokens: Sequence[DraftToken], first_position: int
    ) -> BlockOutcome:
        """The shipped verification."""
        assert self.cloud is not None
        return self.cloud.scheme.verify(rows, tokens, self.cloud.draws, first_position=first_position)


# --- laws -------------------------------------------------------------------------------------------------


def law_of(results: list[tuple[Outcome, Fraction]]) -> Law:
    """The law of the output from all leaves."""
    law: Law = {}
    for outcome, probability in results:
        key = tuple(outcome.token_ids)
        law[key] = law.get(key, Fraction(0)) + probability
    return law


def target_law(target: Rows, length: int, *, eos_token_ids: TokenIds = ()) -> Law:
    """The law of `length` tokens of the target's own text; shorter where it ends by itself."""
    law: Law = {}
    for token_ids in product(range(len(target(PROMPT))), repeat=length):
        probability, text = Fraction(1), PROMPT
        for token_id in token_ids:
            probability *= target(text)[token_id]
            text += (token_id,)
            if token_id in eos_token_ids:
                break
        law[text[len(PROMPT) :]] = probability
    return {text: probability for text, probability in law.items() if probability}


def distance(first: Law, second: Law) -> Fraction:
    """Total variation between two laws."""
    return sum(abs(first.get(k, Fraction(0)) - second.get(k, Fraction(0))) for k in first | second) / 2


def fractions(*numerators: int) -> npt.NDArray[Any]:
    """A row of Fractions in these proportions."""
    total = sum(numerators)
    return np.array([Fraction(n, total) for n in numerators], dtype=object)


def by_prefix(*rows: npt.NDArray[Any]) -> Rows:
    """A model whose row depends on every token of the prefix and on its length."""

    def row(prefix: TokenIds) -> npt.NDArray[Any]:
        return rows[sum((i + 2) * (token + 1) for i, token in enumerate(prefix)) % len(rows)].copy()

    return row
