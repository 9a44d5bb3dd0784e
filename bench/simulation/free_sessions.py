"""
A cloud that writes by itself, in virtual time: the sessions of both ends as they are, over recorded matches.

What is simulated is time alone: a draft, a pass, a line. Which token is right is recorded
(`bench.simulation.matches`); what is drafted, sent, waited for and fed is decided by the daemons' own code,
`FreeRunningSession` of either end, `HintStore`, `HintPatience` and `BatchQueue`, so the model cannot drift
from it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from bench import round_time
from bench.simulation.free_cloud import VirtualCloud
from bench.simulation.matches import Matches
from bench.simulation.model import Line
from bench.simulation.scenario import FreeOutcome, FreeScenario, Text
from thinwire.cloud import events as cloud_events
from thinwire.cloud.batch_queue import PREFILL_CHUNK_TOKENS, PassWork
from thinwire.cloud.free_running import FreeRunningSession as CloudSession
from thinwire.common import wire
from thinwire.common.causal_model import ExtendRequest
from thinwire.common.config import SamplingParameters
from thinwire.common.errors import ConfigError
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.coupled import Coupled
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.messages import Close, Hints, Open, Opened, VocabularyIdentity, Written
from thinwire.edge import events as edge_events
from thinwire.edge.draft_block import DraftBlockBuilder
from thinwire.edge.free_running import FreeRunningSession as EdgeSession
from thinwire.edge.text_stream import TextStream

_CONTEXT_LENGTH = 4096
_FOREVER_S = 1e9
ACK_DELAY_S = 0.005
"""
When nothing has gone back by then, TCP acknowledges by itself: at once in its quick mode, by 40 ms out of it.
Of 0, 5, 20 and 40 ms the one whose bytes are nearest to the measured ones.
"""


def run_each(scenario: FreeScenario, matches: Sequence[Matches]) -> FreeOutcome:
    """Every recorded text once, each on quiet lines and a cloud of its own."""
    pooled = FreeOutcome()
    for one in matches:
        cloud = VirtualCloud(scenario)
        _Generation(cloud, one).begin()
        outcome = cloud.run(_FOREVER_S)
        outcome.until_s = outcome.texts[0].last_s
        pooled.add(outcome)
    return pooled


def run_crowd(
    scenario: FreeScenario, matches: Sequence[Matches], *, warm_up_s: float, window_s: float
) -> FreeOutcome:
    """Edges without end on one cloud, of which only what happens in the window counts."""
    cloud, chance = VirtualCloud(scenario, since_s=warm_up_s), random.Random(scenario.seed)

    def begin(number: int) -> None:
        match = matches[number % len(matches)]
        _Generation(cloud, match, partial(begin, number + scenario.edges)).begin()

    for number in range(scenario.edges):
        cloud.at(chance.random() * warm_up_s / 2, partial(begin, number))
    return cloud.run(warm_up_s + window_s)


def plain(scenario: FreeScenario) -> FreeScenario:
    """The same target, streaming without a draft and without copies."""
    return replace(scenario, drafts=False, copies=False)


class _Way(Line):
    """One direction of a link, with what its sender has not answered."""

    is_owed = False
    """Whether its next message takes window updates along."""
    is_silent = False
    """Whether something came from the other side that no packet has acknowledged."""


class _Generation:
    """One text of one edge: both sessions, their link, and what their shells do."""

    def __init__(self, run: VirtualCloud, match: Matches, ended: Callable[[], None] | None = None) -> None:
        self._run, self._match, self._ended = run, match, ended
        scenario = run.scenario
        self._draws = match.draws
        parameters = Coupled.Parameters()
        self._scheme = make_scheme(parameters, vocabulary_size=match.vocabulary_size)
        request = GenerationRequest(
            "",
            seed=match.seed,
            scheme=parameters,
            sampling=SamplingParameters(temperature=match.temperature),
            max_tokens=len(match.text_ids),
            draft_length=scenario.draft_length if scenario.drafts else 0,
            min_block_acceptance=scenario.min_block_acceptance,
            ignore_eos=True,
            objective=scenario.objective,
        )
        self._edge = EdgeSession(
            request,
            match.prompt_ids,
            vocabulary=VocabularyIdentity(match.vocabulary_size, bytes(32)),
            scheme=self._scheme,
            text=TextStream(lambda ids: "x" * len(ids)),
            context_length=_CONTEXT_LENGTH,
            round_timeout_s=_FOREVER_S,
            patience_s=_FOREVER_S,
        )
        self._cloud: CloudSession | None = None
        self._up, self._down = (
            _Way(rate, scenario.link.rtt_s / 2)
            for rate in (scenario.link.rate_up_bps, scenario.link.rate_down_bps)
        )
        self._writer = wire.EdgeStreamWriter()
        self._cached: list[int] = []
        """What the draft model was fed."""
        self._cut_attempt = -1
        """The draft of this number ends with the token in hand."""
        self._text = (*match.prompt_ids, *match.text_ids)
        self._timer = 0
        """Number of the cloud's last timer; an older one is no longer set."""
        self._begun_s = self._first_s = self._last_s = 0.0
        self._tokens = 0
        self._waiting_s: float | None = None
        self._id = next(_IDS).to_bytes(16, "big")

    def begin(self) -> None:
        """The client's request comes in."""
        self._begun_s = self._run.now
        connected = partial(self._step_edge, edge_events.Connected())
        self._run.at(self._run.now + self._run.scenario.times.opening_s, connected)

    # --- the edge's shell ---------------------------------------------------------------------------------

    def _step_edge(self, event: edge_events.EdgeEvent) -> None:
        times, run = self._run.scenario.times, self._run
        for effect in self._edge.step(event, run.now):
            match effect:
                case edge_events.Send(message):
                    delay_s = times.hint_s if isinstance(message, Hints) else 0.0
                    run.at(run.now + delay_s, partial(self._send_up, message))
                case edge_events.Draft():
                    self._draft(effect)
                case edge_events.CutDraft(attempt):
                    self._cut_attempt = attempt
                case edge_events.TruncateCache(length):
                    del self._cached[length:]
                case edge_events.Emit(tokens):
                    self._arrived(len(tokens))
                case edge_events.Finish(error=error):
                    if error is not None:
                        raise error

    def _draft(self, effect: edge_events.Draft) -> None:
        """The daemon's own builder over the recorded laws, a token at a time."""
        times, feed = self._run.scenario.times, effect.feed_token_ids
        builder = DraftBlockBuilder(effect, self._scheme, self._draws)
        begun_s = self._run.now

        def drafted() -> None:
            nonlocal feed
            self._cached += feed
            is_right = tuple(self._cached) == self._text[: len(self._cached)]
            token_id = builder.offer(self._match.law(len(self._cached), is_right=is_right))
            feed = () if token_id is None else (token_id,)
            self._run.outcome.drafted += self._run.counts
            if not (builder.complete or self._cut_attempt == effect.attempt):
                self._run.at(self._run.now + times.draft_s, drafted)
                return
            draft_s = self._run.now - begun_s
            self._run.outcome.draft_s += draft_s * self._run.counts
            block = builder.build(cache_length=len(self._cached), draft_s=draft_s)
            self._step_edge(edge_events.Drafted(effect.attempt, block))

        first_s = times.draft_call_s + times.refeed_s * (len(feed) - 1) + times.draft_s
        self._run.at(begun_s + first_s, drafted)

    def _arrived(self, tokens: int) -> None:
        now, outcome = self._run.now, self._run.outcome
        if self._run.counts:
            outcome.tokens += tokens
            if self._tokens:
                outcome.token_s += [(now - self._last_s) / tokens] * tokens
        if not self._tokens:
            self._first_s = now
        self._last_s = now
        self._tokens += tokens
        if self._tokens == len(self._match.text_ids):
            if self._run.counts:
                first_s, last_s = self._first_s - self._begun_s, self._last_s - self._begun_s
                outcome.texts.append(Text(first_s, last_s, self._tokens))
            if self._ended is not None:
                self._ended()

    # --- the link -----------------------------------------------------------------------------------------

    def _send_up(self, message: Any) -> None:
        self._run.outcome.hint_messages += isinstance(message, Hints) and self._run.counts
        size = self._writer.to_proto(message).ByteSize()
        self._send(self._up, self._down, size, partial(self._at_cloud, message))

    def _send_down(self, message: Opened | Written, event: edge_events.EdgeEvent) -> None:
        size = wire.reply_to_proto(message).ByteSize()
        self._send(self._down, self._up, size, partial(self._step_edge, event))

    def _send(self, way: _Way, back: _Way, size: int, taken: Callable[[], None]) -> None:
        """A message in a packet; HTTP/2's window updates for it ride on the next message back."""

        def arrived() -> None:
            back.is_owed = back.is_silent = True
            self._run.at(self._run.now + ACK_DELAY_S, partial(self._acknowledge, back))
            self._run.at(self._run.now + self._run.scenario.times.transport_s / 2, taken)

        size += round_time.FRAME_HEAD_BYTES + round_time.GRPC_PREFIX_BYTES
        size += way.is_owed * round_time.WINDOW_UPDATES * round_time.WINDOW_UPDATE_BYTES
        way.is_owed = False
        self._run.at(self._put(way, size), arrived)

    def _acknowledge(self, way: _Way) -> None:
        if way.is_silent:
            self._put(way, 0)

    def _put(self, way: _Way, size: int) -> float:
        """A packet sets out now; when it has arrived. An empty one acknowledges."""
        way.is_silent = False
        size += round_time.PACKET_BYTES
        if self._run.counts and way is self._up:
            self._run.outcome.wire_up_bytes += size
        elif self._run.counts:
            self._run.outcome.wire_down_bytes += size
        return way.send(self._run.now, size)

    # --- the cloud's shell --------------------------------------------------------------------------------

    def _at_cloud(self, message: Any) -> None:
        match message:
            case Open():
                self._cloud = CloudSession(
                    self._id,
                    message,
                    copies=self._run.scenario.copies,
                    takes_trees=self._run.scenario.trees,
                    row_price=self._run.row_price,
                    scheme=self._scheme,
                    context_length=_CONTEXT_LENGTH,
                    eos_token_ids=(),
                    resume_ttl_s=_FOREVER_S,
                    idle_ttl_s=_FOREVER_S,
                )
                self._step_cloud(cloud_events.Attached(1, message.free_run))
            case Hints():
                self._step_cloud(cloud_events.HintsReceived(1, message))
            case Close():
                self._step_cloud(cloud_events.CloseReceived(1))

    def _step_cloud(self, event: cloud_events.CloudEvent) -> None:
        assert self._cloud is not None
        run = self._run
        for effect in self._cloud.step(event, run.now):
            match effect:
                case cloud_events.Reply(_, Opened() as message):
                    self._send_down(message, edge_events.OpenedReceived(message))
                case cloud_events.Reply(_, Written() as message):
                    self._send_down(message, edge_events.WrittenReceived(message))
                case cloud_events.Refuse(_, error):
                    raise error
                case cloud_events.ArmTimer() | cloud_events.Release():
                    self._waited()
                case cloud_events.AwaitHint(at_s):
                    self._waited()
                    self._waiting_s = run.now
                    run.at(at_s, partial(self._wait_over, self._timer))
                case cloud_events.Write():
                    self._write(effect)
                case cloud_events.Prefill(token_ids):
                    raise ConfigError(
                        f"a recorded prompt has {len(token_ids)} tokens more than its first pass is fed; "
                        f"expected at most {PREFILL_CHUNK_TOKENS}."
                    )

    def _waited(self) -> None:
        """Another timer, or none, takes the place of the one that was set."""
        self._timer += 1
        if self._waiting_s is not None and self._run.counts:
            self._run.outcome.waits += 1
            self._run.outcome.waited_s += self._run.now - self._waiting_s
        self._waiting_s = None

    def _wait_over(self, number: int) -> None:
        if number == self._timer:
            self._step_cloud(cloud_events.WaitOver())

    def _write(self, effect: cloud_events.Write) -> None:
        asked_s = begun_s = self._run.now
        fed = None

        def begin() -> ExtendRequest:
            nonlocal fed, begun_s
            assert self._cloud is not None
            begun_s, fed = self._run.now, self._cloud.hints.rows(effect.most_rows)
            feed = (*effect.feed_token_ids, *fed.token_ids)
            return ExtendRequest(_NO_CACHE, feed, len(fed.token_ids) + 1)

        def finish(_: Any) -> None:
            assert fed is not None
            parents = fed.parents or range(len(fed.token_ids))
            rows = {follow: row for row, follow in enumerate(zip(parents, fed.token_ids, strict=True), 1)}
            written, path, row = [self._match.token(effect.first_position)], list[int](), 0
            while row := rows.get((row, written[-1]), 0):
                path.append(row - 1)
                written.append(self._match.token(effect.first_position + len(written)))
            outcome = self._run.outcome
            self._run.row_price.wrote(len(written))
            if self._run.counts:
                outcome.rounds += 1
                outcome.unhinted += not fed.token_ids
                outcome.hinted += len(path)
                outcome.copied += len(path) * fed.are_copied
            queue_us = round(1e6 * (begun_s - asked_s))
            verify_us = round(1e6 * (self._run.now - begun_s))
            self._step_cloud(cloud_events.Wrote(fed, tuple(path), tuple(written), queue_us, verify_us))

        assert self._cloud is not None
        hints, fed_ids = self._cloud.hints, effect.feed_token_ids
        tokens_now = lambda: len(fed_ids) + len(hints.rows(effect.most_rows).token_ids)  # noqa: E731
        tokens = len(fed_ids) + effect.most_rows
        self._run.put(PassWork("", self._id, tokens, True, begin, finish, tokens_now))


_IDS = itertools.count(1)
_NO_CACHE: Any = None
