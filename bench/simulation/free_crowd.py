"""One to a thousand edges on a cloud that writes by itself, with the cited models of `extrapolate`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.grid.cells import Cell
from bench.simulation.extrapolate import (
    BATCHINGS,
    BY_BLOCK,
    BY_ROW,
    EDGES,
    MOST_EDGES,
    MOST_ROWS,
    RTT_S,
    figures,
)
from bench.simulation.free_fit import METHOD, FreeFit
from bench.simulation.free_sessions import plain, run_crowd
from bench.simulation.matches import Matches, recorded
from bench.simulation.scenario import FreeOutcome, FreeScenario
from thinwire.common.session.generation import GenerationRequest

LEAST_TOKENS, TOKENS_AN_EDGE = 1000, 12
"""In a window; an edge writes so many before it, too."""


PLAIN = "coupled, no draft"
"""What hints are held against: the same sessions, which stream."""
TEMPERATURES = (0.3, 1.0)
RATE_UP_BPS = 512_000
PROMPTS, TOKENS = 8, 96
"""Recorded; the texts that edges write in turn."""


def crowds(fitted: FreeFit, kept: Path, draft_s: float) -> Iterator[dict[str, Any]]:
    """
    A line for each batching, temperature and number of edges, as those of `LargeModels.points`.

    Args:
        kept: folder of recorded texts.
        draft_s: cited seconds of a drafted token.
    """
    for batching, temperature in itertools.product((BY_ROW, BY_BLOCK), TEMPERATURES):
        yield from crowd(fitted, recorded(kept, temperature, PROMPTS, TOKENS), draft_s, batching)


def crowd_scenario(fitted: FreeFit, cell: Cell, batching: str, draft_s: float) -> FreeScenario:
    """One edge with cited times; a prompt and the event loop cost nothing, as in `extrapolate`."""
    times = replace(fitted.times, draft_s=draft_s, refeed_s=0.0, prompt_row_s=0.0, opening_s=0.0, turn_s=0.0)
    passes = BATCHINGS[batching]
    return FreeScenario(
        link=cell.link,
        passes=replace(
            passes, max_blocks=MOST_ROWS, max_rows=MOST_ROWS if passes.per_row_s else MOST_EDGES * MOST_ROWS
        ),
        times=times,
        draft_length=GenerationRequest("").draft_length,
    )


def crowd(
    fitted: FreeFit,
    matches: Sequence[Matches],
    draft_s: float,
    batching: str,
    edges: Sequence[int] = EDGES,
) -> Iterator[dict[str, Any]]:
    """Lines of one batching, over recorded texts of one temperature."""
    cell = Cell(RATE_UP_BPS, RTT_S, matches[0].temperature)
    free = crowd_scenario(fitted, cell, batching, draft_s)
    for (name, one), count in itertools.product(((METHOD, free), (PLAIN, plain(free))), edges):
        outcome = steady(replace(one, edges=count), matches)
        length = one.draft_length if one.drafts else 0
        head = {"method": name, "draft_length": length, "headers": True, "batching": batching}
        yield {**head, **asdict(cell), "edges": count, **figures(outcome, count)}


def steady(scenario: FreeScenario, matches: Sequence[Matches]) -> FreeOutcome:
    """A window in which every edge writes some tokens, after as many."""
    blocks = min(scenario.edges, scenario.passes.max_blocks)
    turn_s = math.ceil(scenario.edges / blocks) * scenario.passes.seconds(rows=blocks, blocks=blocks)
    tokens = max(TOKENS_AN_EDGE, LEAST_TOKENS // scenario.edges)
    return run_crowd(scenario, matches, warm_up_s=TOKENS_AN_EDGE * turn_s, window_s=tokens * turn_s)
