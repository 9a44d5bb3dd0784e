"""
From one edge to a thousand on one cloud with large models.

Measured: acceptance and payloads (the bundled pair's), the edge's and the transport's seconds of a round.
Cited: the target's pass and the draft's step (`citations`).
Scaled: payloads, from the bundled vocabulary to that of large models, by what `make bench-core` measured.
"""

from __future__ import annotations

import bisect
import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from operator import itemgetter
from typing import Any

from bench import round_time
from bench.grid.cells import Cell
from bench.grid.summaries import percentile
from bench.simulation.citations import TARGET, Cited
from bench.simulation.fit import STREAMS, Fit
from bench.simulation.model import run_window
from bench.simulation.scenario import MethodTimes, Outcome, Passes, Rounds, Scenario
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
LINE = statistics.linear_regression(*zip(*TARGET.step_ms.items(), strict=True))
"""Least squares through the figures cited: milliseconds over rows."""
FIXED_S, FURTHER_S = LINE.intercept / 1000, LINE.slope / 1000
MOST_ROWS = max(TARGET.step_ms)
"""The most rows a figure was published for; no pass of ours takes more."""
ONE, BY_ROW, BY_BLOCK = "one block a pass", "batched, by row", "batched, by block"
BATCHINGS = {
    ONE: Passes(FIXED_S, per_row_s=FURTHER_S),
    BY_ROW: Passes(FIXED_S, per_row_s=FURTHER_S, max_blocks=MOST_EDGES, max_rows=MOST_ROWS),
    BY_BLOCK: Passes(FIXED_S, per_block_s=FURTHER_S, max_blocks=MOST_ROWS),
}
"""
What one pass takes, and what it costs: a further row of the same block as much as one of a further stream
(`BY_ROW`), or nothing (`BY_BLOCK`). The figures cited do not say which; the truth lies between.
"""
STATISTICS = ("p95", "mean")


@dataclass(frozen=True, slots=True)
class LargeModels:
    """
    What was measured at one temperature, with the cited target in the cloud and a cited draft at the edge.

    Lines are those of `simulation.jsonl`.
    """

    fitted: Fit
    temperature: float
    draft: Cited
    rates_up_bps: Sequence[int] = RATES_UP_BPS
    batchings: Sequence[str] = tuple(BATCHINGS)

    def methods(self) -> list[str]:
        """
        One method of the fit for each way, the first in the run's order.

        Raises:
            ConfigError: none has rounds at that temperature.
        """
        chosen: dict[str, str] = {}
        for name in self.fitted.times:
            if name in STREAMS or (name, self.temperature) in self.fitted.rounds:
                chosen.setdefault(_way(name), name)
        if not set(chosen) & set(WAYS) - set(STREAMS):
            there = sorted({measured for _, measured in self.fitted.rounds})
            raise ConfigError(
                f"temperature is {self.temperature:g}; expected one of {there}, which were measured."
            )
        return [chosen[way] for way in WAYS if way in chosen]

    def draft_lengths(self, name: str) -> list[int]:
        """What can be simulated of a method; [0] without a draft."""
        if name in STREAMS:
            return [0]
        longest = max(self.fitted.rounds[name, self.temperature]["draft_length"])
        return sorted({longest, *(length for length in DRAFT_LENGTHS if length <= longest)})

    def scenario(self, name: str, draft_length: int, cell: Cell, batching: str) -> Scenario:
        """
        One edge: measured acceptance, scaled payloads and cited times.

        Raises:
            ConfigError: no blocks so long were measured.
        """
        measured, way = self.fitted.scenario(cell, name, draft_length, TEXT_TOKENS), _way(name)
        rounds, factor = measured.rounds, LARGE_VOCABULARY.get(way, 1.0)
        if rounds:
            larger = [(accepted, math.ceil(size * factor)) for accepted, size in rounds.samples]
            rounds = Rounds(draft_length, tuple(larger))
        times = MethodTimes(
            draft_step_s=self.draft.step_ms[1] / 1000 if draft_length else 0.0,
            edge_round_s=measured.times.edge_round_s,
            block_s=draft_length * CODEC_S.get(way, 0.0),
        )
        return replace(measured, rounds=rounds, times=times, passes=BATCHINGS[batching])

    def points(self, names: Sequence[str], edges: Sequence[int] = EDGES) -> Iterator[dict[str, Any]]:
        """
        A line for every combination at the draft length that is fastest for one edge; a stream also without
        headers. `busy` is the share of the time in which the cloud is in a pass, `rows` are positions scored.
        """
        for name, where, tried in self._combinations(names):
            best = min(tried, key=lambda one: mean_s(steady(one), 1))
            for headers in (True, False) if best.rounds is None else (True,):
                for count in edges:
                    outcome = steady(replace(best, headers=headers, edges=count))
                    yield {
                        "method": name,
                        "draft_length": best.draft_length,
                        "headers": headers,
                        **where,
                        "edges": count,
                        **figures(outcome, count),
                    }

    def capacities(self, names: Sequence[str], target_s: float) -> Iterator[dict[str, Any]]:
        """
        The most edges at which a statistic of the seconds a token keeps to `target_s`, by bisection, at the
        draft length that carries most; 0 is not even one, `MOST_EDGES` that or more.

        Raises:
            ConfigError: the target is no positive time.
        """
        check_real("target_s", target_s, "more than 0 seconds", target_s > 0)
        for name, where, tried in self._combinations(names):
            carried = {one.draft_length: _carried(one, target_s) for one in tried}
            for statistic in STATISTICS:
                best, most = max(
                    ((length, found[statistic]) for length, found in carried.items()), key=itemgetter(1)
                )
                head = {"method": name, "draft_length": best}
                yield {**head, **where, "statistic": statistic, "target_s": target_s, "edges": most}

    def _combinations(self, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any], list[Scenario]]]:
        """A method, where it is, and its scenario at every draft length."""
        for batching, rate, name in itertools.product(self.batchings, self.rates_up_bps, names):
            cell = Cell(rate, RTT_S, self.temperature)
            tried = [self.scenario(name, length, cell, batching) for length in self.draft_lengths(name)]
            yield name, {"batching": batching, **asdict(cell)}, tried


def mean_s(outcome: Outcome, edges: int) -> float:
    """Seconds a token of each edge over the window, first ones included."""
    return edges * (outcome.until_s - outcome.since_s) / outcome.tokens


def figures(outcome: Outcome, edges: int) -> dict[str, float]:
    """Of a line: what a window came to."""
    window_s = outcome.until_s - outcome.since_s
    return {
        "p50_s": percentile(outcome.token_s, 0.5),
        "p95_s": percentile(outcome.token_s, 0.95),
        "mean_s": mean_s(outcome, edges),
        "tokens_per_s": outcome.tokens / window_s,
        "passes_per_token": outcome.passes / outcome.tokens,
        "rows_per_token": outcome.rows / outcome.tokens,
        "rows_per_pass": outcome.rows / outcome.passes,
        "busy": min(1.0, outcome.busy_s / window_s),
        "up_bytes_per_token": outcome.wire_up_bytes / outcome.tokens,
        "down_bytes_per_token": outcome.wire_down_bytes / outcome.tokens,
    }


def most_edges(holds: Callable[[int], bool], limit: int = MOST_EDGES) -> int:
    """The largest number up to `limit` for which a falling predicate holds; 0 if it never does."""
    bad = 1
    while bad <= limit and holds(bad):
        bad *= 2
    between = range(bad // 2 + 1, min(bad, limit + 1))
    return bad // 2 + bisect.bisect_left(between, True, key=lambda edges: not holds(edges))


def steady(scenario: Scenario) -> Outcome:
    """A window of whole rounds of every edge, after two rounds of warming up."""
    round_s = _round_s(scenario)
    window_s = round_s * max(2.0, LEAST_ROUNDS / scenario.edges)
    return run_window(scenario, warm_up_s=2 * round_s, window_s=window_s)


def _way(name: str) -> str:
    """Scheme or stream of a method's name."""
    return name.partition(":")[0]


def _carried(one: Scenario, target_s: float) -> dict[str, int]:
    """The most edges by each statistic."""

    @cache  # both searches ask for the same
    def seconds(edges: int) -> dict[str, float]:
        outcome = steady(replace(one, edges=edges))
        return {"p95": percentile(outcome.token_s, 0.95), "mean": mean_s(outcome, edges)}

    return {name: most_edges(lambda edges: seconds(edges)[name] <= target_s) for name in STATISTICS}  # noqa: B023


def _round_s(scenario: Scenario) -> float:
    """Seconds of a round of each edge, from above: the cloud's whole turn and the edge's own way."""
    times, passes, rows = scenario.times, scenario.passes, scenario.draft_length + 1
    blocks = max(1, min(passes.max_blocks, passes.max_rows // rows, scenario.edges))
    turn_s = math.ceil(scenario.edges / blocks) * (
        passes.seconds(rows=blocks * rows, blocks=blocks) + blocks * times.block_s
    )
    if scenario.rounds is None:
        return turn_s
    payload = max(payload_bytes for _, payload_bytes in scenario.rounds.samples)
    drafting_s = times.edge_round_s + scenario.draft_length * times.draft_step_s
    return turn_s + drafting_s + round_time.lines_s(scenario.link, payload + 200, 200) + scenario.transport_s
