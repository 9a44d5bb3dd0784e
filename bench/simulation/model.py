"""
Edges, their lines and one cloud as SimPy processes.

An edge drafts a block, sends it up its own line, waits for the verdict and drafts the next; a streaming edge
only listens, and the cloud goes on without it.
The cloud holds one queue and runs one pass at a time over what waits, as far as its batching allows.
Random is only which measured round happens next; times are the means they were given as.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import simpy

from bench import round_time
from bench.simulation.scenario import Outcome, Rounds, Scenario, Stream, Text
from thinwire.common.config import check_integer, check_real

PROMPT_TOKENS = 100
"""Where a text's base length begins; it has two bytes from 128 on."""
TYPICAL_TOKEN_ID = 4096
"""Its varint has two bytes, as most ids of the bundled vocabulary have."""
DELAYED_ACK_S = 0.04
"""When nothing has gone back by then, TCP acknowledges by itself (Linux's shortest delay)."""

Process = Generator[simpy.Event, Any, None]


def run_texts(scenario: Scenario, texts: int) -> Outcome:
    """So many texts of each edge; its lines are quiet before each, as the benchmark waits for them to be."""
    check_integer("texts", texts, 1, 1_000_000)
    return _Run(scenario, texts=texts, since_s=0.0).run(None)


def run_window(scenario: Scenario, *, warm_up_s: float, window_s: float) -> Outcome:
    """
    Edges without end, of which only what happens in the window counts.

    Args:
        warm_up_s: edges begin at random times in its first half.
    """
    check_real("warm_up_s", warm_up_s, "0 or more seconds", warm_up_s >= 0)
    check_real("window_s", window_s, "more than 0 seconds", window_s > 0)
    return _Run(scenario, texts=None, since_s=warm_up_s).run(warm_up_s + window_s)


@dataclass(slots=True)
class _Job:
    rows: int
    extra_s: float
    done: simpy.Event


class _Line:
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


class _EdgeLines:
    """Both directions of one edge; what crosses them is added to the run's bytes."""

    def __init__(self, run: _Run) -> None:
        link = run.scenario.link
        self.up, self.down = (_Line(rate, link.rtt_s / 2) for rate in (link.rate_up_bps, link.rate_down_bps))
        self._run = run
        self._half_s = run.scenario.transport_s / 2

    def send(self, message_bytes: int, *, up: bool) -> float:
        """
        Seconds at which a message has arrived.

        An end sends nothing between a message's arrival and its own next one, so its line was idle when the
        ACK of a message it answers late was due: sending the ACK now, dated back, is exact.
        """
        now = self._run.env.now
        line, other = (self.up, self.down) if up else (self.down, self.up)
        own, ack = message_bytes, 0
        if self._run.scenario.headers:
            own = round_time.message_wire_bytes(message_bytes)
            if other.arrived_s is not None and now - other.arrived_s > DELAYED_ACK_S:
                ack = round_time.ACK_BYTES
                line.send(other.arrived_s + DELAYED_ACK_S, ack)
        line.arrived_s = line.send(now, own) + self._half_s
        self.count(*((own + ack, 0) if up else (0, own + ack)))
        return line.arrived_s

    def stream_down(self, message_bytes: int) -> float:
        """One streamed token."""
        own = message_bytes + (round_time.STREAM_HEADER_BYTES if self._run.scenario.headers else 0)
        self.count(0, own)
        return self.down.send(self._run.env.now, own) + self._half_s

    def acknowledge_stream(self) -> None:
        """Each streamed token is acknowledged at once, in a packet of its own."""
        if self._run.scenario.headers:
            self.up.send(self._run.env.now, round_time.ACK_BYTES)
            self.count(round_time.ACK_BYTES, 0)

    def count(self, up_bytes: int, down_bytes: int) -> None:
        """Bytes that were sent now."""
        if self._run.counts():
            self._run.outcome.wire_up_bytes += up_bytes
            self._run.outcome.wire_down_bytes += down_bytes


class _Cloud:
    """One queue, one pass at a time."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._waiting: deque[_Job] = deque()
        self._awake = run.env.event()
        run.env.process(self._serve())

    def submit(self, rows: int, extra_s: float) -> simpy.Event:
        """Queue a block; the event comes when its pass is over."""
        job = _Job(rows, extra_s, self._run.env.event())
        self._waiting.append(job)
        if not self._awake.triggered:
            self._awake.succeed()
        return job.done

    def _serve(self) -> Process:
        env, scenario, outcome = self._run.env, self._run.scenario, self._run.outcome
        while True:
            if not self._waiting:
                self._awake = env.event()
                yield self._awake
            jobs = self._take()
            rows = sum(job.rows for job in jobs)
            # The pass over a prompt has no rows, and its seconds are its own.
            pass_s = scenario.pass_time.seconds(rows=rows, blocks=len(jobs)) if rows else 0.0
            lasts_s = pass_s + sum(job.extra_s for job in jobs)
            yield env.timeout(lasts_s)
            if self._run.counts():
                outcome.passes += rows > 0
                outcome.rows += rows
                outcome.busy_s += lasts_s
            for job in jobs:
                job.done.succeed()
            # Streams go on in the very next pass: let them queue before it begins.
            yield env.timeout(0)

    def _take(self) -> list[_Job]:
        batching = self._run.scenario.batching
        jobs = [self._waiting.popleft()]
        rows = jobs[0].rows
        while self._waiting and len(jobs) < batching.max_blocks:
            rows += self._waiting[0].rows
            if rows > batching.max_rows:
                break
            jobs.append(self._waiting.popleft())
        return jobs


class _Run:
    """One simulation."""

    def __init__(self, scenario: Scenario, *, texts: int | None, since_s: float) -> None:
        self.scenario = scenario
        self.env = simpy.Environment()
        self.outcome = Outcome(since_s=since_s)
        self.cloud = _Cloud(self)
        self._texts = texts
        self._edges = [self.env.process(self._edge(number)) for number in range(scenario.edges)]

    def run(self, until_s: float | None) -> Outcome:
        """To the end of every text, or until a time."""
        self.env.run(until=self.env.all_of(self._edges) if until_s is None else until_s)
        self.outcome.until_s = self.env.now
        return self.outcome

    def counts(self) -> bool:
        """Whether the window has begun."""
        return bool(self.env.now >= self.outcome.since_s)

    def _edge(self, number: int) -> Process:
        generator = random.Random(self.scenario.seed * 1_000_003 + number)
        if self._texts is None:
            yield self.env.timeout(generator.random() * self.outcome.since_s / 2)
        lines = _EdgeLines(self)
        done = 0
        while self._texts is None or done < self._texts:
            if self._texts is not None:
                lines = _EdgeLines(self)
            if isinstance(self.scenario.method, Stream):
                yield from self._stream(self.scenario.method, lines)
            else:
                yield from self._rounds(self.scenario.method, lines, generator)
            lines.count(self.scenario.ends.closing_up_bytes, self.scenario.ends.closing_down_bytes)
            done += 1

    def _rounds(self, method: Rounds, lines: _EdgeLines, generator: random.Random) -> Process:
        """One text, block by block."""
        env, scenario = self.env, self.scenario
        arrivals = _Arrivals(self)
        yield from self._open(lines)
        produced, number = 0, 0
        while produced < scenario.tokens:
            number += 1
            length = min(method.draft_length, scenario.tokens - produced - 1)
            sample = generator.choice(method.samples)
            accepted = min(sample.accepted, length)
            yield env.timeout(method.edge_round_s + length * method.draft_step_s)
            block = round_time.draft_block_bytes(
                round_number=number,
                base_length=PROMPT_TOKENS + produced,
                draft_length=length,
                payload_bytes=-(-sample.payload_bytes * length // method.draft_length) if length else 0,
                code=None,
            )
            yield env.timeout(lines.send(block, up=True) - env.now)
            yield self.cloud.submit(length + 1, method.block_s)
            produced += accepted + 1
            verdict = round_time.verdict_bytes(
                round_number=number,
                accepted=accepted,
                next_token_id=TYPICAL_TOKEN_ID,
                committed_length=PROMPT_TOKENS + produced,
            )
            yield env.timeout(lines.send(verdict, up=False) - env.now)
            self.outcome.rounds += self.counts()
            arrivals.add(accepted + 1)
        arrivals.end()

    def _stream(self, method: Stream, lines: _EdgeLines) -> Process:
        """One text, token by token, the cloud ahead of what has arrived."""
        arrivals = _Arrivals(self)
        yield from self._open(lines)
        last: simpy.Event = self.env.event().succeed()
        for _ in range(self.scenario.tokens):
            yield self.cloud.submit(1, method.block_s)
            last = self.env.process(self._streamed(lines, method.message_bytes, arrivals))
        yield last
        arrivals.end()

    def _streamed(self, lines: _EdgeLines, message_bytes: int, arrivals: _Arrivals) -> Process:
        yield self.env.timeout(lines.stream_down(message_bytes) - self.env.now)
        lines.acknowledge_stream()
        arrivals.add(1)

    def _open(self, lines: _EdgeLines) -> Process:
        """Request up; of ours an answer down at once, while the cloud reads the prompt."""
        env, ends = self.env, self.scenario.ends
        streams = isinstance(self.scenario.method, Stream)
        if not streams:
            yield env.timeout(ends.opening_s)
        if ends.opening_up_bytes:
            yield env.timeout(lines.up.send(env.now, ends.opening_up_bytes) - env.now)
        if streams:
            yield env.timeout(ends.opening_s)
        elif ends.prompt_s:
            self.cloud.submit(0, ends.prompt_s)
        if ends.opening_down_bytes:
            arrival_s = lines.down.send(env.now, ends.opening_down_bytes)
            if not streams:
                yield env.timeout(arrival_s - env.now)
        lines.count(ends.opening_up_bytes, ends.opening_down_bytes)
        lines.up.arrived_s = lines.down.arrived_s = None


class _Arrivals:
    """The tokens of one text as they come; the text begins now."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._begun_s = self._first_s = self._last_s = run.env.now
        self._tokens = 0

    def add(self, tokens: int) -> None:
        """So many together, now; the first arrival of a text has none before it."""
        now = self._run.env.now
        if self._run.counts():
            self._run.outcome.tokens += tokens
            if self._tokens:
                self._run.outcome.token_s += [(now - self._last_s) / tokens] * tokens
        if not self._tokens:
            self._first_s = now
        self._last_s = now
        self._tokens += tokens

    def end(self) -> None:
        """The text is whole."""
        if self._run.counts():
            first_s, last_s = self._first_s - self._begun_s, self._last_s - self._begun_s
            self._run.outcome.texts.append(Text(first_s, last_s, self._tokens))
