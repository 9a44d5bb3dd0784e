"""
Runs schemes in process over texts of the target, for what has no time in it: Theorems 1 and 2, the frontier.

One task is one text: it is sampled and scored once, and every scheme of the plan runs over it.
Tasks share nothing, so as many run side by side as there are cores.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import transformers

from bench.grid.runner import Progress
from bench.paper.lines import RunKey, StepsRecord, StepsStore, run_key, theorem_2_bounds
from bench.paper.plan import DRAFT_LENGTH, STEP_PROMPTS, PaperPlan, scheme_fields
from bench.scheme_steps import Rows, Steps, make_rows, run_scheme
from thinwire.common.config import SamplingParameters
from thinwire.common.schemes import SchemeParameters

RUNNING_POINTS = 60
"""Points of a running mean that are kept, equally spaced on a logarithmic axis."""
TASK_TIMEOUT_S = 1800.0
STEP_S, TEXT_S = 0.0006, 0.5
"""Of the estimate: seconds of a step of a scheme, and of a sequence to sample and score."""


@dataclass(frozen=True, slots=True)
class Task:
    """One text and what runs over it."""

    temperature: float
    seed: int
    texts_each: int
    whole: tuple[SchemeParameters, ...]
    """Over all of the text."""
    head: tuple[SchemeParameters, ...]
    """Over its first sequences."""

    @property
    def seconds(self) -> float:
        """By arithmetic."""
        sequences = self.texts_each * STEP_PROMPTS
        runs = len(self.whole) * sequences + len(self.head) * STEP_PROMPTS
        return TEXT_S * sequences + STEP_S * 100 * runs


def make_tasks(plan: PaperPlan, done: set[RunKey]) -> list[Task]:
    """
    What is still to be run.

    Args:
        done: keys of runs that are there.
    """
    tasks = []
    for temperature in plan.step_temperatures:
        for seed in range(1, plan.step_seeds + 1):
            asked: dict[RunKey, SchemeParameters] = {}
            for texts, schemes in (
                (plan.texts, plan.theorem_schemes(temperature)),
                (STEP_PROMPTS, plan.frontier_schemes(temperature)),
            ):
                asked |= {run_key(temperature, seed, texts, scheme_fields(s)): s for s in schemes}
            missing = {key: scheme for key, scheme in asked.items() if key not in done}
            whole = tuple(scheme for key, scheme in missing.items() if key[2] == plan.texts)
            head = tuple(scheme for key, scheme in missing.items() if key[2] != plan.texts)
            if whole or head:
                tasks.append(Task(temperature, seed, plan.texts_each, whole, head))
    return tasks


def estimate_s(tasks: Sequence[Task], workers: int) -> float:
    """How long the tasks take."""
    return sum(task.seconds for task in tasks) / min(workers, max(1, len(tasks)))


def measure(plan: PaperPlan, store: StepsStore, progress: Progress, *, workers: int) -> None:
    """
    Run what is not there yet, and write each run's line.

    Raises:
        multiprocessing.TimeoutError: no task ended within `TASK_TIMEOUT_S`.
    """
    tasks = make_tasks(plan, store.done)
    if not tasks:
        return
    workers = min(workers, len(tasks))
    progress.say(f"in process: {len(tasks)} texts, {workers} at a time")
    # A pool's exit ends its processes at once, whatever made it exit.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        results = pool.imap_unordered(run_task, tasks)
        for number in range(1, len(tasks) + 1):
            task, records = results.next(timeout=TASK_TIMEOUT_S)
            for record in records:
                store.add(record)
            progress.advance(task.seconds / workers)
            progress.say(
                f"in process: text {number} of {len(tasks)}, temperature {task.temperature:g}, "
                f"seed {task.seed}: {len(records)} runs"
            )
        pool.close()
        pool.join()


def run_task(task: Task) -> tuple[Task, list[StepsRecord]]:
    """Everything over one text."""
    talk: Any = transformers.utils.logging
    talk.disable_progress_bar()
    rows = make_rows(
        SamplingParameters(temperature=task.temperature), seed=task.seed, texts_each=task.texts_each
    )
    return task, list(_records(task, rows))


def _records(task: Task, rows: Rows) -> Iterator[StepsRecord]:
    for text, schemes in ((rows, task.whole), (rows.head(STEP_PROMPTS), task.head)):
        for scheme in schemes:
            steps = run_scheme(text, scheme, seed=task.seed)
            yield steps_record(steps, temperature=task.temperature, seed=task.seed, texts=len(text.target))


def steps_record(steps: Steps, *, temperature: float, seed: int, texts: int) -> StepsRecord:
    """What is kept of one run."""
    scheme = scheme_fields(steps.scheme.parameters)
    count = len(steps.rejected)
    is_adaptive = scheme["scheme"] == "c-sqs" and not scheme["frozen_threshold"]
    at = running_points(count) if is_adaptive else []
    mean = np.cumsum(steps.dropped_mass) / np.arange(1, count + 1)
    last = float(steps.thresholds[-1])
    return StepsRecord(
        temperature=temperature,
        seed=seed,
        scheme=scheme,
        draft_length=DRAFT_LENGTH,
        texts=texts,
        steps=count,
        rejected=int(steps.rejected.sum()),
        draft_distance=float(steps.draft_distance.sum()),
        dropped_mass=float(steps.dropped_mass.sum()),
        lattice_term=float((steps.support_size / (4 * scheme["lattice_resolution"])).sum()),
        lattice_distance=float(steps.lattice_distance.sum()),
        payload_bits=8 * sum(len(block.payload) for block in steps.blocks),
        wire_support_size=int(steps.wire_support_size.sum()),
        cap_bound=int(steps.cap_binds.sum()),
        last_threshold=last if math.isfinite(last) else None,
        running_at=at,
        running_mean=[round(float(mean[number - 1]), 6) for number in at],
        largest_excess=_largest_excess(scheme, mean) if is_adaptive else None,
    )


def running_points(count: int) -> list[int]:
    """Numbers of steps from 1 to `count`, equally spaced on a logarithmic axis."""
    return sorted({int(number) for number in np.geomspace(1, count, RUNNING_POINTS).round()})


def _largest_excess(scheme: Mapping[str, Any], mean: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Over the smaller of the two bounds, at every T."""
    bounds = [np.fmin(*theorem_2_bounds(scheme, number)) for number in range(1, len(mean) + 1)]
    return float((mean - np.array(bounds)).max())
