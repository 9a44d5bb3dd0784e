"""
A plan at several pass times: a run each, in a folder of its own, their links in turns.

Coarse first: whenever it is cut, what was run is spread over pass times, rates and round trips. First the
tuning link at each pass time, as the others wait for it; then always the link that is farthest from those
that were run. A few prompts everywhere come before the rest of them anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bench.grid import arithmetic
from bench.grid.arithmetic import Costs, Estimate
from bench.grid.cells import Cell, Plan
from bench.grid.methods import Method
from bench.grid.processes import RunSettings
from bench.grid.progress import RichProgress
from bench.grid.runner import Open, Runner
from bench.peers.pacing import Pacing

FIRST_PROMPTS = 2
"""Of the first time round; enough for a cell to have a spread."""


class Visit(NamedTuple):
    """One link at one pass time, with some of the prompts."""

    pacing: Pacing
    cells: tuple[Cell, ...]
    turns: range
    """Numbers of prompts, from 0."""


def visits(plan: Plan) -> Iterator[Visit]:
    """The plan's work in its order; see the module."""
    turns = range(plan.prompts)
    for some in filter(None, (turns[:FIRST_PROMPTS], turns[FIRST_PROMPTS:])):
        for pacing, link in coarse_first(len(plan.pacings), plan.links):
            yield Visit(plan.pacings[pacing], plan.links[link], some)


def coarse_first(pacings: int, links: Sequence[Sequence[Cell]]) -> list[tuple[int, int]]:
    """
    Every pacing with every link, as numbers: the first link with each, then always one that is farthest.

    Far is counted in steps of pass time, rate and round trip, each axis as long as any other.
    """
    lines = [cells[0].line for cells in links]
    axes = [sorted(set(values)) for values in zip(*lines, strict=True)]

    def place(point: tuple[int, int]) -> tuple[float, ...]:
        steps = [(point[0], pacings)]
        steps += [(axis.index(value), len(axis)) for value, axis in zip(lines[point[1]], axes, strict=True)]
        return tuple(step / max(1, count - 1) for step, count in steps)

    order = [(pacing, 0) for pacing in range(pacings)]
    left = [(pacing, link) for link in range(1, len(links)) for pacing in range(pacings)]

    def nearest(point: tuple[int, int]) -> float:
        here = place(point)
        return min(sum((a - b) ** 2 for a, b in zip(here, place(one), strict=True)) for one in order)

    while left:
        order.append(max(left, key=nearest))
        left.remove(order[-1])
    return order


def folder_name(pacing: Pacing) -> str:
    """Of the run with this pacing."""
    return f"paced-{pacing.base_s * 1000:g}" if pacing != Pacing() else "as-it-is"


def estimate(plan: Plan, methods: Sequence[Method]) -> Estimate:
    """Of all visits."""
    texts, tuning, links, seconds = (sum(part) for part in zip(*_estimates(plan, methods), strict=True))
    return Estimate(int(texts), int(tuning), int(links), seconds)


def _estimates(plan: Plan, methods: Sequence[Method]) -> Iterator[Estimate]:
    for pacing, cells, turns in visits(plan):
        part = replace(plan, prompts=len(turns))
        yield arithmetic.estimate(part, methods, Costs(pacing=pacing), [cells])


def run(
    plan: Plan,
    methods: Sequence[Method],
    settings: RunSettings,
    out: Path,
    progress: RichProgress,
    *,
    open_: Open | None = None,
) -> list[Path]:
    """
    Everything that is not there yet.

    Args:
        plan: with `pacings`.
        out: a folder for each of them is made in it.
        methods, settings, progress, open_: as of `Runner`.

    Returns:
        the folders, each that of a run.

    Raises:
        StoreError, LinkError, DaemonDiedError: as `Runner`.
    """
    runners = {
        pacing: Runner(
            *(replace(plan, pacings=()), methods, replace(settings, pacing=pacing)),
            *(out / folder_name(pacing), progress),
            open_=open_,
        )
        for pacing in plan.pacings
    }
    for pacing, cells, turns in visits(plan):
        progress.say(f"pass times: {pacing}")
        runners[pacing].run_link(cells, turns)
    return [out / folder_name(pacing) for pacing in plan.pacings]
