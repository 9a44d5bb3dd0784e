"""
Edges, their lines and one cloud as SimPy processes.

An edge drafts a block, sends it up its own line, waits for the verdict and drafts the next; a streaming edge
only listens, and the cloud goes on without it.
The cloud holds one queue and runs one pass at a time over what waits, as far as its batching allows.
Random is only which measured round happens next; times are the means they were given as.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Generator
from typing import Any, NamedTuple

import simpy

from bench import round_time
from bench.simulation.scenario import Outcome, Rounds, Scenario, Text
from thinwire.common.config import check_integer, check_real

PROMPT_TOKENS = 100
"""Where a text's base length begins; it has two bytes from 128 on."""
TYPICAL_TOKEN_ID = 4096
"""Its varint has two bytes, as most ids of the bundled vocabulary have."""
STREAM_MESSAGE_BYTES = 10
"""Of a streamed token: id, number of the pass and a few bytes of text (`bench.peers.messages`)."""
DELAYED_ACK_S = 0.04
"""When nothing has gone back by then, TCP acknowledges by itself (Linux's shortest delay)."""

Process = Generator[simpy.Event, Any, None]


def run_texts(scenario: Scenario, texts: int) -> Outcome:
    """So many texts of each edge; its lines are quiet before each, as the benchmark waits for them to be."""
    check_integer("texts", texts, 1, 1_000_000)
    return _Run(scenario, since_s=0.0).run(texts, None)


def run_window(scenario: Scenario, *, warm_up_s: float, window_s: float) -> Outcome:
    """
    Edges without end, of which only what happens in the window counts.

    Args:
        warm_up_s: edges begin at random times in its first half.
    """
    check_real("warm_up_s", warm_up_s, "0 or more seconds", warm_up_s >= 0)
    check_real("window_s", window_s, "more than 0 seconds", window_s > 0)
    return _Run(scenario, since_s=warm_up_s).run(None, warm_up_s + window_s)


class _Block(NamedTuple):
    """What waits for a pass; the pass over a prompt has no rows."""

    rows: int
    extra_s: float
    done: simpy.Event


class _Run:
    """One simulation: the clock, the cloud, and the count of what happens in the window."""

    def __init__(self, scenario: Scenario, *, since_s: float) -> None:
        self.scenario = scenario
        self.env = simpy.Environment()
        self.outcome = Outcome(since_s=since_s)
        self._queue = simpy.Store(self.env)

    def run(self, texts: int | None, until_s: float | None) -> Outcome:
        """To the end of so many texts of each edge, or until a time."""
        self.env.process(self._serve())
        edges = [self.env.process(_Edge(self, n).texts(texts)) for n in range(self.scenario.edges)]
        self.env.run(until=self.env.all_of(edges) if until_s is None else until_s)
        self.outcome.until_s = self.env.now
        return self.outcome

    def counts(self) -> bool:
        """Whether the window has begun."""
        return bool(self.env.now >= self.outcome.since_s)

    def submit(self, rows: int, extra_s: float) -> simpy.Event:
        """Queue a block; the event comes when its pass is over."""
        done = self.env.event()
        self._queue.put(_Block(rows, extra_s, done))
        return done

    def _serve(self) -> Process:
        passes, outcome, waiting = self.scenario.passes, self.outcome, self._queue.items
        while True:
            # Streams go on in the very next pass: they queue as the last one ends, before this comes.
            blocks = [(yield self._queue.get())]
            rows = blocks[0].rows
            while waiting and len(blocks) < passes.max_blocks and rows + waiting[0].rows <= passes.max_rows:
                blocks.append(waiting.pop(0))
                rows += blocks[-1].rows
            pass_s = passes.seconds(rows=rows, blocks=len(blocks)) if rows else 0.0
            lasts_s = pass_s + sum(block.extra_s for block in blocks)
            yield self.env.timeout(lasts_s)
            if self.counts():
                outcome.passes += rows > 0
                outcome.rows += rows
                outcome.busy_s += lasts_s
            for block in blocks:
                block.done.succeed()


class Line:
    """One direction of an edge's link: first in first out at a rate, then a delay."""

    def __init__(self, rate_bps: float, delay_s: float) -> None:
        self._rate_bps, self._delay_s = rate_bps, delay_s
        self._free_s = 0.0
        self.arrived_s: float | None = None
        """When its last message arrived; None where nothing is owed an answer."""

    def send(self, at_s: float, wire_bytes: int) -> float:
        """When it has arrived."""
        self._free_s = max(self._free_s, at_s) + 8 * wire_bytes / self._rate_bps
        return self._free_s + self._delay_s


class _Edge:
    """One edge, text after text."""

    def __init__(self, run: _Run, number: int) -> None:
        self._run, self._env, self._scenario = run, run.env, run.scenario
        self._random = random.Random(run.scenario.seed * 1_000_003 + number)
        self._renew_lines()

    def texts(self, count: int | None) -> Process:
        """So many, or without end from a random time on."""
        times = self._scenario.times
        if count is None:
            yield self._env.timeout(self._random.random() * self._run.outcome.since_s / 2)
        for _ in itertools.count() if count is None else range(count):
            if count is not None:
                self._renew_lines()
            begun_s = self._first_s = self._last_s = self._env.now
            self._tokens = 0
            yield from self._open()
            yield from (
                self._stream() if self._scenario.rounds is None else self._rounds(self._scenario.rounds)
            )
            self._count(times.closing_up_bytes, times.closing_down_bytes)
            if self._run.counts():
                text = Text(self._first_s - begun_s, self._last_s - begun_s, self._tokens)
                self._run.outcome.texts.append(text)

    def _open(self) -> Process:
        """Request up; of ours an answer down at once, while the cloud reads the prompt."""
        env, times, streams = self._env, self._scenario.times, self._scenario.rounds is None
        if not streams:
            yield env.timeout(times.opening_s)
        if times.opening_up_bytes:
            yield env.timeout(self._up.send(env.now, times.opening_up_bytes) - env.now)
        if streams:
            yield env.timeout(times.opening_s)
        elif times.prompt_s:
            self._run.submit(0, times.prompt_s)
        if times.opening_down_bytes:
            arrival_s = self._down.send(env.now, times.opening_down_bytes)
            if not streams:
                yield env.timeout(arrival_s - env.now)
        self._count(times.opening_up_bytes, times.opening_down_bytes)
        self._up.arrived_s = self._down.arrived_s = None

    def _rounds(self, rounds: Rounds) -> Process:
        """Block by block."""
        times, wanted, number = self._scenario.times, self._scenario.tokens, 0
        while self._tokens < wanted:
            number += 1
            length = min(rounds.draft_length, wanted - self._tokens - 1)
            accepted, payload_bytes = self._random.choice(rounds.samples)
            accepted = min(accepted, length)
            yield self._env.timeout(times.edge_round_s + length * times.draft_step_s)
            block = round_time.draft_block_bytes(
                round_number=number,
                base_length=PROMPT_TOKENS + self._tokens,
                draft_length=length,
                payload_bytes=-(-payload_bytes * length // rounds.draft_length) if length else 0,
                code=None,
            )
            yield self._send(block, up=True)
            yield self._run.submit(length + 1, times.block_s)
            verdict = round_time.verdict_bytes(
                round_number=number,
                accepted=accepted,
                next_token_id=TYPICAL_TOKEN_ID,
                committed_length=PROMPT_TOKENS + self._tokens + accepted + 1,
            )
            yield self._send(verdict, up=False)
            self._run.outcome.rounds += self._run.counts()
            self._arrive(accepted + 1)

    def _stream(self) -> Process:
        """Token by token, the cloud ahead of what has arrived."""
        last: simpy.Event = self._env.event().succeed()
        for _ in range(self._scenario.tokens):
            yield self._run.submit(1, self._scenario.times.block_s)
            last = self._env.process(self._streamed())
        yield last

    def _streamed(self) -> Process:
        """One token, acknowledged at once in a packet of its own."""
        headers, now = self._scenario.headers, self._env.now
        own = STREAM_MESSAGE_BYTES + (round_time.STREAM_HEADER_BYTES if headers else 0)
        self._count(0, own)
        yield self._env.timeout(self._down.send(now, own) + self._scenario.transport_s / 2 - now)
        if headers:
            self._up.send(self._env.now, round_time.ACK_BYTES)
            self._count(round_time.ACK_BYTES, 0)
        self._arrive(1)

    def _send(self, message_bytes: int, *, up: bool) -> simpy.Event:
        """
        The arrival of a message.

        An end sends nothing between a message's arrival and its own next one, so its line was idle when the
        ACK of a message it answers late was due: sending the ACK now, dated back, is exact.
        """
        now = self._env.now
        line, other = (self._up, self._down) if up else (self._down, self._up)
        own, ack = message_bytes, 0
        if self._scenario.headers:
            own = round_time.message_wire_bytes(message_bytes)
            if other.arrived_s is not None and now - other.arrived_s > DELAYED_ACK_S:
                ack = round_time.ACK_BYTES
                line.send(other.arrived_s + DELAYED_ACK_S, ack)
        line.arrived_s = line.send(now, own) + self._scenario.transport_s / 2
        self._count(*((own + ack, 0) if up else (0, own + ack)))
        return self._env.timeout(line.arrived_s - now)

    def _renew_lines(self) -> None:
        link = self._scenario.link
        self._up, self._down = (Line(rate, link.rtt_s / 2) for rate in (link.rate_up_bps, link.rate_down_bps))

    def _count(self, up_bytes: int, down_bytes: int) -> None:
        """Bytes that were sent now."""
        if self._run.counts():
            self._run.outcome.wire_up_bytes += up_bytes
            self._run.outcome.wire_down_bytes += down_bytes

    def _arrive(self, tokens: int) -> None:
        """So many together, now."""
        now, outcome = self._env.now, self._run.outcome
        if self._run.counts():
            outcome.tokens += tokens
            if self._tokens:
                outcome.token_s += [(now - self._last_s) / tokens] * tokens
        if not self._tokens:
            self._first_s = now
        self._last_s = now
        self._tokens += tokens
