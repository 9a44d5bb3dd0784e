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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import transformers

from bench.grid.methods import own_fields
from bench.grid.progress import RichProgress
from bench.grid.store import StoreError, open_folder, read_lines
from bench.paper.plan import DRAFT_LENGTH, STEP_PROMPTS, PaperPlan, scheme_fields
from bench.scheme_steps import Rows, Steps, make_rows, run_scheme
from thinwire.common.config import SamplingParameters
from thinwire.common.schemes import SchemeParameters

RUNNING_POINTS = 60
"""Points of a running mean that are kept, equally spaced on a logarithmic axis."""
TASK_TIMEOUT_S = 1800.0
STEP_S, TEXT_S = 0.0006, 0.5
"""Of the estimate: seconds of a step of a scheme, and of a sequence to sample and score."""

RunKey = tuple[float, int, int, str]
"""Temperature, seed, sequences, scheme as sorted JSON: what is run once."""


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
    def rejection_rate(self) -> float:
        """Rejected / tested."""
        return self.rejected / self.steps

    @property
    def key(self) -> RunKey:
        """What is run once."""
        return run_key(self.temperature, self.seed, self.texts, self.scheme)


def run_key(temperature: float, seed: int, texts: int, scheme: Mapping[str, Any]) -> RunKey:
    """A run by what defines it."""
    return temperature, seed, texts, json.dumps(dict(sorted(scheme.items())))


def read_steps(folder: Path) -> list[StepsRecord]:
    """
    Every run of a folder; none if there is no such file.

    Raises:
        StoreError: another schema, or a field missing; fields of a later version are left out.
    """
    try:
        found = [
            msgspec.convert({**values, "scheme": own_fields(values["scheme"])}, StepsRecord)
            for values in read_lines(folder / "steps.jsonl")
        ]
    except (KeyError, msgspec.ValidationError) as error:
        raise StoreError(f"{folder / 'steps.jsonl'}: {error}.") from None
    return list({record.key: record for record in found}.values())


class StepsStore:
    """
    The folder of the runs in process, new or resumed: `settings.json` and `steps.jsonl`.

    Args:
        folder: made if missing.
        settings: what defines the runs; JSON values.

    Raises:
        StoreError: the folder holds runs with other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._path = folder / "steps.jsonl"
        open_folder(folder, settings, self._path.name)
        self.done = {record.key for record in read_steps(folder)}
        """Runs that are there."""

    def add(self, record: StepsRecord) -> None:
        """Write a run's line."""
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(record) + b"\n")
        self.done.add(record.key)


def theorem_2_bounds(scheme: Mapping[str, Any], steps: int) -> tuple[float, float]:
    """
    Theorem 2: what the mean dropped mass of T steps cannot exceed while K_max does not bind.

    Args:
        scheme: β_1, η and α* of an adaptive c-sqs.
        steps: T >= 1.

    Returns:
        the paper's α* + (|β_1| + 1 + η α*) / (η T), and ours, α* + (max(β_1, 0) + η (1 - α*)) / (η T), which
        needs η (1 - 2 α*) <= 1 and is NaN elsewhere.

    Reference: arXiv 2510.09942, Theorem 2; docs/schemes.md.
    """
    beta, eta, target = (
        float(scheme[name]) for name in ("initial_threshold", "threshold_step", "target_dropped_mass")
    )
    paper = target + (abs(beta) + 1 + eta * target) / (eta * steps)
    ours = target + (max(beta, 0.0) + eta * (1 - target)) / (eta * steps)
    return paper, ours if eta * (1 - 2 * target) <= 1 else math.nan


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
            if missing:
                tasks.append(Task(temperature, seed, plan.texts_each, whole, head))
    return tasks


def estimate_s(tasks: Sequence[Task], workers: int) -> float:
    """How long the tasks take."""
    return sum(task.seconds for task in tasks) / min(workers, max(1, len(tasks)))


def measure(plan: PaperPlan, store: StepsStore, progress: RichProgress, *, workers: int) -> None:
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
    sampling = SamplingParameters(temperature=task.temperature)
    rows = make_rows(sampling, seed=task.seed, texts_each=task.texts_each)
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
    mean = np.cumsum(steps.dropped_mass) / np.arange(1, count + 1)
    at, excess = [], None
    if is_adaptive:
        at = np.unique(np.geomspace(1, count, RUNNING_POINTS).round().astype(int)).tolist()
        # Over the smaller of the two bounds, at every T.
        excess = float(
            (mean - [np.fmin(*theorem_2_bounds(scheme, number)) for number in range(1, count + 1)]).max()
        )
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
        largest_excess=excess,
    )
