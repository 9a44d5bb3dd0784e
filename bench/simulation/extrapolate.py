"""
From one edge to a thousand on one cloud with large models.

Measured: acceptance and payloads (the bundled pair's), the edge's and the transport's seconds of a round.
Cited: the target's pass and the draft's step (`citations`).
Scaled: payloads, from the bundled vocabulary to that of large models, by what `make bench-core` measured.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from bench import round_time
from bench.grid.cells import Cell
from bench.grid.summaries import percentile
from bench.simulation.citations import CitedDraft, CitedPass
from bench.simulation.fit import STREAMS, Fit
from bench.simulation.model import run_window
from bench.simulation.scenario import Batching, Outcome, Rounds, RoundSample, Scenario, Stream
from thinwire.common.config import check_real
from thinwire.common.errors import ConfigError

EDGES = (1, 3, 10, 30, 100, 300, 1000)
RATES_UP_BPS = (32_000, 512_000, 20_000_000)
RTT_S = 0.04
TEXT_TOKENS = 64
MOST_EDGES = 4096
"""Where the search for a capacity ends."""
LEAST_ROUNDS = 1000
"""In a window."""
DRAFT_LENGTHS = (1, 2, 4, 6, 8)
"""Tried, as far as blocks so long were measured."""
WAYS = ("cloud-stream", "cloud-ar", "k-sqs", "c-sqs", "dense-qs")
LARGE_VOCABULARY = {"k-sqs": 160 / 126, "c-sqs": 435 / 331, "dense-qs": 727 / 492}
"""Bits a drafted token at V = 151 936 over V = 8192: bench/LOG.md, k-sqs K=8, c-sqs β=.003, dense-qs."""
CODEC_S = {"k-sqs": 27e-6, "c-sqs": 80e-6, "dense-qs": 193e-6}
"""The cloud's seconds to decode and test a drafted token at V = 151 936, same source."""
ONE, BY_ROW, BY_BLOCK = "one block a pass", "batched, by row", "batched, by block"
BATCHINGS = (ONE, BY_ROW, BY_BLOCK)
"""
What one pass takes, and what it costs.

The figures cited are of streams, one row each. Whether a further row of the same block costs as much as one
of a further stream (`BY_ROW`) or nothing (`BY_BLOCK`) they do not say; the truth lies between.
"""
STATISTICS = ("p95", "mean")


@dataclass(frozen=True, slots=True)
class Setting:
    """What does not change between the points of a run."""

    temperature: float
    target: CitedPass
    draft: CitedDraft
    tokens: int = TEXT_TOKENS


@dataclass(frozen=True, slots=True)
class Point:
    """So many edges of one method on one uplink."""

    method: str
    draft_length: int
    headers: bool
    batching: str
    rate_up_bps: int
    rtt_s: float
    temperature: float
    edges: int
    p50_s: float
    """Of the seconds a token."""
    p95_s: float
    mean_s: float
    """Of a text: edges x time / tokens, first ones included."""
    tokens_per_s: float
    """Of all edges together."""
    passes_per_token: float
    """Passes of the cloud over output tokens."""
    rows_per_token: float
    """Positions scored over output tokens."""
    rows_per_pass: float
    busy: float
    """Share of the time in which the cloud is in a pass."""
    up_bytes_per_token: float
    down_bytes_per_token: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many edges one cloud carries."""

    method: str
    draft_length: int
    batching: str
    rate_up_bps: int
    rtt_s: float
    temperature: float
    statistic: str
    """Of the seconds a token: "p95" or "mean"."""
    target_s: float
    """What it may be at most."""
    edges: int
    """0: not even one; `MOST_EDGES`: that or more."""


def main_methods(fitted: Fit, temperature: float) -> list[str]:
    """
    One method of the fit for each way, the first in the run's order.

    Raises:
        ConfigError: none has rounds at that temperature.
    """
    chosen: dict[str, str] = {}
    for name in fitted.times:
        if name in STREAMS or (name, temperature) in fitted.rounds:
            chosen.setdefault(way_of(name), name)
    if not set(chosen) & set(WAYS) - set(STREAMS):
        there = sorted({measured for _, measured in fitted.rounds})
        raise ConfigError(f"temperature is {temperature:g}; expected one of {there}, which were measured.")
    return [chosen[way] for way in WAYS if way in chosen]


def way_of(name: str) -> str:
    """Scheme or stream of a method's name."""
    return name.partition(":")[0]


def draft_lengths(fitted: Fit, name: str, temperature: float) -> list[int]:
    """What can be simulated of a method; (0,) without a draft."""
    if name in STREAMS:
        return [0]
    longest = max(fitted.rounds[name, temperature]["draft_length"])
    return sorted({longest, *(length for length in DRAFT_LENGTHS if length <= longest)})


def scenario_for(
    fitted: Fit, setting: Setting, name: str, *, draft_length: int, rate_up_bps: int, batching: str
) -> Scenario:
    """
    One edge with large models: measured acceptance, scaled payloads and cited times.

    Raises:
        ConfigError: no such batching, or no blocks so long were measured.
    """
    target = setting.target
    batchings = {
        ONE: (Batching(max_blocks=1), target.by_row),
        BY_ROW: (Batching(MOST_EDGES, max_rows=target.max_rows), target.by_row),
        BY_BLOCK: (Batching(max_blocks=target.max_rows), target.by_block),
    }
    if batching not in batchings:
        raise ConfigError(f"batching is {batching!r}; expected one of {', '.join(batchings)}.")
    taken, pass_time = batchings[batching]
    way = way_of(name)
    method = replace(
        fitted.method(name, setting.temperature, draft_length), block_s=draft_length * CODEC_S.get(way, 0.0)
    )
    if isinstance(method, Rounds):
        factor = LARGE_VOCABULARY.get(way, 1.0)
        larger = [RoundSample(s.accepted, math.ceil(s.payload_bytes * factor)) for s in method.samples]
        step_s = setting.draft.step_s if draft_length else 0.0
        method = replace(method, samples=tuple(larger), draft_step_s=step_s)
    return Scenario(
        link=Cell(rate_up_bps, RTT_S, setting.temperature).link,
        method=method,
        pass_time=pass_time,
        tokens=setting.tokens,
        batching=taken,
        transport_s=fitted.transport_s,
    )


def points(
    fitted: Fit,
    setting: Setting,
    names: Sequence[str],
    *,
    edges: Sequence[int] = EDGES,
    rates_up_bps: Sequence[int] = RATES_UP_BPS,
    batchings: Sequence[str] = BATCHINGS,
) -> Iterator[Point]:
    """Every combination at the draft length that is fastest for one edge; a stream also without headers."""
    for batching, rate, name in itertools.product(batchings, rates_up_bps, names):
        tried = _every_length(fitted, setting, name, rate_up_bps=rate, batching=batching)
        best = min(tried, key=lambda scenario: mean_s(steady(scenario), 1))
        for headers in (True, False) if name in STREAMS else (True,):
            for count in edges:
                scenario = replace(best, headers=headers, edges=count)
                outcome = steady(scenario)
                window_s = outcome.until_s - outcome.since_s
                yield Point(
                    *(name, scenario.method.draft_length, headers, batching, rate, RTT_S),
                    temperature=setting.temperature,
                    edges=count,
                    p50_s=percentile(outcome.token_s, 0.5),
                    p95_s=percentile(outcome.token_s, 0.95),
                    mean_s=mean_s(outcome, count),
                    tokens_per_s=outcome.tokens / window_s,
                    passes_per_token=outcome.passes / outcome.tokens,
                    rows_per_token=outcome.rows / outcome.tokens,
                    rows_per_pass=outcome.rows / outcome.passes,
                    busy=min(1.0, outcome.busy_s / window_s),
                    up_bytes_per_token=outcome.wire_up_bytes / outcome.tokens,
                    down_bytes_per_token=outcome.wire_down_bytes / outcome.tokens,
                )


def capacities(
    fitted: Fit,
    setting: Setting,
    names: Sequence[str],
    target_s: float,
    *,
    rates_up_bps: Sequence[int] = RATES_UP_BPS,
    batchings: Sequence[str] = BATCHINGS,
) -> Iterator[Capacity]:
    """
    The most edges at which the seconds a token keep to `target_s`, by bisection, at the draft length that
    carries most.

    Raises:
        ConfigError: the target is no positive time.
    """
    check_real("target_s", target_s, "more than 0 seconds", target_s > 0)
    for batching, rate, name in itertools.product(batchings, rates_up_bps, names):
        carried: dict[str, dict[int, int]] = {statistic: {} for statistic in STATISTICS}
        for one in _every_length(fitted, setting, name, rate_up_bps=rate, batching=batching):
            for statistic, most in _carried(one, target_s).items():
                carried[statistic][one.method.draft_length] = most
        for statistic, by_length in carried.items():
            best = max(by_length, key=by_length.__getitem__)
            where = (name, best, batching, rate, RTT_S, setting.temperature)
            yield Capacity(*where, statistic, target_s, by_length[best])


def mean_s(outcome: Outcome, edges: int) -> float:
    """Seconds a token of each edge, over the window."""
    return edges * (outcome.until_s - outcome.since_s) / outcome.tokens


def most_edges(holds: Callable[[int], bool], limit: int = MOST_EDGES) -> int:
    """The largest number up to `limit` for which a falling predicate holds; 0 if it never does."""
    if not holds(1):
        return 0
    good, bad = 1, 2
    while bad <= limit and holds(bad):
        good, bad = bad, 2 * bad
    bad = min(bad, limit + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return good


def steady(scenario: Scenario) -> Outcome:
    """A window of whole rounds of every edge, after two rounds of warming up."""
    round_s = _round_s(scenario)
    window_s = round_s * max(2.0, LEAST_ROUNDS / scenario.edges)
    return run_window(scenario, warm_up_s=2 * round_s, window_s=window_s)


def _every_length(
    fitted: Fit, setting: Setting, name: str, *, rate_up_bps: int, batching: str
) -> list[Scenario]:
    return [
        scenario_for(fitted, setting, name, draft_length=length, rate_up_bps=rate_up_bps, batching=batching)
        for length in draft_lengths(fitted, name, setting.temperature)
    ]


def _carried(one: Scenario, target_s: float) -> dict[str, int]:
    """The most edges by each statistic."""

    @cache  # both searches ask for the same
    def seconds(edges: int) -> dict[str, float]:
        outcome = steady(replace(one, edges=edges))
        return {"p95": percentile(outcome.token_s, 0.95), "mean": mean_s(outcome, edges)}

    return {name: most_edges(lambda edges: seconds(edges)[name] <= target_s) for name in STATISTICS}  # noqa: B023


def _round_s(scenario: Scenario) -> float:
    """Seconds of a round of each edge, from above: the cloud's whole turn and the edge's own way."""
    method, length, batching = scenario.method, scenario.method.draft_length, scenario.batching
    rows = length + 1
    blocks = max(1, min(batching.max_blocks, batching.max_rows // rows, scenario.edges))
    turn_s = math.ceil(scenario.edges / blocks) * (
        scenario.pass_time.seconds(rows=blocks * rows, blocks=blocks) + blocks * method.block_s
    )
    if isinstance(method, Stream):
        return turn_s
    payload = max(sample.payload_bytes for sample in method.samples)
    drafting_s = method.edge_round_s + length * method.draft_step_s
    return turn_s + drafting_s + round_time.lines_s(scenario.link, payload + 200, 200) + scenario.transport_s
