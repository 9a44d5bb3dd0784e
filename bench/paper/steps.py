"""
Runs schemes in process over texts of the target, for what has no time in it: Theorems 1 and 2, the frontier.

One task is one text: it is sampled and scored once, and every scheme of the plan runs over it.
Tasks share nothing, so as many run side by side as there are cores.
Each run is one line; the figures are made from these lines and the grid's, and from nothing else.
"""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import transformers

from bench.grid.methods import own_fields
from bench.grid.progress import RichProgress
from bench.grid.store import StoreError, drop_cut_line, read_lines
from bench.paper.plan import STEP_PROMPTS, PaperPlan, scheme_fields
from bench.scheme_steps import DRAFT_LENGTH, TOKENS_EACH, Rows, make_rows, run_scheme
from thinwire.common.config import SamplingParameters
from thinwire.common.schemes import SchemeParameters
from thinwire.common.schemes.c_sqs import CSqs, dropped_mass_guarantee

STEERING = ("initial_threshold", "threshold_step", "target_dropped_mass")
"""β_1, η and α* of c-sqs."""
RUNNING_POINTS = 60
"""Points of a running mean that are kept, equally spaced on a logarithmic axis."""
TASK_TIMEOUT_S = 1800.0
STEP_S, TEXT_S = 0.0006, 0.5
"""Of the estimate: seconds of a step of a scheme, and of a sequence to sample and score."""


class StepsRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One scheme over one text, every position drafted, coded and tested; sums are over its positions."""

    temperature: float
    seed: int
    """Of the text and of the draws."""
    scheme: dict[str, Any]
    """Every scheme parameter, defaults included."""
    draft_length: int
    """γ of the coded blocks."""
    texts: int
    """Sequences the text consists of; the threshold is carried on from one to the next."""
    steps: int
    """T, positions."""
    rejected: int
    draft_distance: float
    """Σ TV(p, q)."""
    dropped_mass: float
    """Σ α."""
    lattice_term: float
    """Σ K / 4ℓ."""
    lattice_distance: float
    """Σ TV(p, q̂), the rejections to expect."""
    payload_bits: int
    wire_support_size: int
    """Σ K⁺."""
    cap_bound: int
    """Positions at which K_max cut the support."""
    last_threshold: float | None
    """β_{T+1}; None where a scheme has none."""
    running_at: list[int]
    """Numbers of steps of `running_mean`; empty where Theorem 2 says nothing."""
    running_mean: list[float]
    """Mean α of the first so many steps."""
    largest_excess: float | None
    """The most by which the mean α of the first T steps exceeds Theorem 2's bound, over every T."""
    schema: Literal[1] = 1
    """Rises when a field changes its meaning or leaves; a new field with a default does not raise it."""
    kind: Literal["steps"] = "steps"

    @property
    def key(self) -> tuple[float, int, int, str]:
        """What is run once."""
        return self.temperature, self.seed, self.texts, scheme_key(self.scheme)


def scheme_key(scheme: Mapping[str, Any]) -> str:
    """Every parameter, in one order."""
    return json.dumps(scheme, sort_keys=True)


def read_steps(folder: Path) -> list[StepsRecord]:
    """
    Every run of a folder; none if there is no such file.

    Raises:
        StoreError: another schema, or a field missing; fields of a later version are left out.
    """
    path = folder / "steps.jsonl"
    try:
        found = [
            msgspec.convert({**values, "scheme": own_fields(values["scheme"])}, StepsRecord)
            for values in read_lines(path)
        ]
    except (KeyError, msgspec.ValidationError) as error:
        raise StoreError(f"{path}: {error}.") from None
    return list({record.key: record for record in found}.values())


def write_steps(folder: Path, records: Iterable[StepsRecord]) -> None:
    """Add a line a run, behind the last whole one."""
    path = folder / "steps.jsonl"
    drop_cut_line(path)
    with path.open("ab") as file:
        file.write(msgspec.json.Encoder().encode_lines(records))


def theorem_2_bounds(scheme: Mapping[str, Any], steps: int) -> tuple[float, float]:
    """
    What the mean dropped mass of T >= 1 steps of an adaptive c-sqs cannot exceed while K_max does not bind.

    Returns:
        Theorem 2's α* + (|β_1| + 1 + η α*) / (η T) as in arXiv 2510.09942, and the scheme's own bound, which
        is never larger (docs/schemes.md).
    """
    parameters = CSqs.Parameters(**{name: scheme[name] for name in STEERING})
    beta, eta, target = (float(scheme[name]) for name in STEERING)
    paper = target + (abs(beta) + 1 + eta * target) / (eta * steps)
    return paper, dropped_mass_guarantee(parameters, steps)


@dataclass(frozen=True, slots=True)
class Task:
    """One text and what runs over it."""

    temperature: float
    seed: int
    texts_each: int
    runs: tuple[tuple[int, SchemeParameters], ...]
    """(first sequences of the text, setting)."""

    @property
    def seconds(self) -> float:
        """By arithmetic."""
        sampled = TEXT_S * STEP_PROMPTS * self.texts_each
        return sampled + STEP_S * TOKENS_EACH * sum(texts for texts, _ in self.runs)


def make_tasks(plan: PaperPlan, done: Iterable[StepsRecord]) -> list[Task]:
    """What is still to be run."""
    keys, tasks = {record.key for record in done}, []
    for temperature, seed in product(plan.step_temperatures, range(1, plan.step_seeds + 1)):
        missing = tuple(
            (texts, scheme)
            for texts, scheme in plan.runs(temperature)
            if (temperature, seed, texts, scheme_key(scheme_fields(scheme))) not in keys
        )
        if missing:
            tasks.append(Task(temperature, seed, plan.texts_each, missing))
    return tasks


def measure(tasks: Sequence[Task], folder: Path, progress: RichProgress, *, workers: int) -> None:
    """Run the tasks and write each run's line; TimeoutError if no task ended within `TASK_TIMEOUT_S`."""
    if not tasks:
        return
    workers = min(workers, len(tasks))
    progress.say(f"in process: {len(tasks)} texts, {workers} at a time")
    # A pool's exit ends its processes at once, whatever made it exit.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        results = pool.imap_unordered(run_task, tasks)
        for number in range(1, len(tasks) + 1):
            task, records = results.next(timeout=TASK_TIMEOUT_S)
            write_steps(folder, records)
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
    sampling = SamplingParameters(temperature=task.temperature)
    rows = make_rows(sampling, seed=task.seed, texts_each=task.texts_each)
    return task, [
        run(rows.head(texts), scheme, temperature=task.temperature, seed=task.seed)
        for texts, scheme in task.runs
    ]


def run(rows: Rows, scheme: SchemeParameters, *, temperature: float, seed: int) -> StepsRecord:
    """One setting over one text; what is kept of it."""
    steps = run_scheme(rows, scheme, seed=seed)
    fields, count = scheme_fields(scheme), len(steps.rejected)
    mean = np.cumsum(steps.dropped_mass) / np.arange(1, count + 1)
    bounds = [steps.scheme.guarantee(number) for number in range(1, count + 1)]
    at, excess = [], None
    if None not in bounds:
        at = np.unique(np.geomspace(1, count, RUNNING_POINTS).round().astype(int)).tolist()
        excess = float((mean - np.array(bounds, dtype=float)).max())
    last = float(steps.thresholds[-1])
    return StepsRecord(
        temperature=temperature,
        seed=seed,
        scheme=fields,
        draft_length=DRAFT_LENGTH,
        texts=len(rows.target),
        steps=count,
        rejected=int(steps.rejected.sum()),
        draft_distance=float(steps.draft_distance.sum()),
        dropped_mass=float(steps.dropped_mass.sum()),
        lattice_term=float((steps.support_size / (4 * fields["lattice_resolution"])).sum()),
        lattice_distance=float(steps.lattice_distance.sum()),
        payload_bits=8 * sum(len(block.payload) for block in steps.blocks),
        wire_support_size=int(steps.wire_support_size.sum()),
        cap_bound=int(steps.cap_binds.sum()),
        last_threshold=last if math.isfinite(last) else None,
        running_at=at,
        running_mean=[round(float(mean[number - 1]), 6) for number in at],
        largest_excess=excess,
    )
