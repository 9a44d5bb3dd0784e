"""Runs a plan: link by link, cell by cell, the methods taking turns prompt by prompt."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from bench.grid import arithmetic
from bench.grid.arithmetic import Costs
from bench.grid.cells import Cell, Plan
from bench.grid.client import request_of
from bench.grid.dataset_prompts import read_prompts
from bench.grid.measure import ObservationError, finished_record, round_lines
from bench.grid.methods import Method, Parameters
from bench.grid.processes import LINK_KIND, RunSettings, Stage, open_stage
from bench.grid.progress import RichProgress
from bench.grid.provenance import describe_run, now
from bench.grid.records import MEASURED, TUNING, GenerationRecord
from bench.grid.store import Store
from bench.grid.transfer import Transfer, Trial, trial_name, trials

WARM_UP_TOKENS = 8

Open = Callable[[Cell], AbstractContextManager[Stage]]
"""A cell's link, tested, with its daemons, serving."""
Tuned = tuple[Parameters, str, float | None]
"""Parameters, where they come from, and the predicted seconds of an output token if there are any."""


class Runner:
    """
    One run.

    Args:
        plan: what is run.
        methods: in the order in which they take turns.
        settings: how.
        out: folder of the lines; what is there already is skipped.
        progress: told of every text.
        open_: makes links and daemons; the real ones when None.

    Raises:
        StoreError: the folder holds another run.
    """

    def __init__(
        self,
        plan: Plan,
        methods: Sequence[Method],
        settings: RunSettings,
        out: Path,
        progress: RichProgress,
        *,
        open_: Open | None = None,
    ) -> None:
        self._plan = plan
        self._methods = methods
        self._settings = settings
        self._store = Store(out, describe_run(plan, methods, settings))
        self._progress = progress
        self._open = open_ or (lambda cell: open_stage(cell, plan, settings, progress.say))
        self._costs = Costs(pacing=settings.pacing)
        self._transfers: dict[tuple[str, float], Transfer] = {}
        self._prompts, self._tuning_prompts = read_prompts(settings.prompts, plan)

    def run(self) -> None:
        """
        Everything that is not there yet.

        Raises:
            link.errors.LinkError: the link cannot be made, or is not what it says.
            DaemonDiedError: a daemon died.
        """
        for cells in self._plan.links:
            self.run_link(cells, range(len(self._prompts)))

    def run_link(self, cells: Sequence[Cell], turns: range) -> None:
        """
        What is not there yet of one link; errors of `run`.

        Args:
            cells: of the link.
            turns: numbers of the measured prompts to run, from 0.
        """
        plan, methods = self._plan, self._methods
        tunes = cells[0].line == plan.tuning_link
        shared = list(arithmetic.transfer_texts(plan, methods)) if tunes else []
        every = range(len(self._prompts))
        tuned = self._hold(plan.cells, every) or all(self._are_done(*setting) for setting in shared)
        if tuned and self._hold(cells, turns):
            self._progress.say(f"{cells[0]}: done before")
            spared = arithmetic.estimate(replace(plan, prompts=len(turns)), methods, self._costs, [cells])
            self._progress.advance(spared.seconds)
            return
        with self._open(cells[0]) as stage:
            self._progress.advance(arithmetic.START_S)
            self._describe(stage)
            self._warm_up(stage, cells[0])
            for setting in shared:
                self._trial(stage, *setting)
            for cell in cells:
                self._cell(stage, cell, turns)
            self._describe(stage)  # again, as its lateness is now that of the whole run

    def _hold(self, cells: Sequence[Cell], turns: range) -> bool:
        """Whether the measured texts of some cells and turns are there, of every method."""
        return all(self._are_done(cell, method, turns=turns) for cell in cells for method in self._methods)

    def _are_done(
        self, cell: Cell, method: Method, tried: Parameters | None = None, *, turns: range | None = None
    ) -> bool:
        """Whether the measured texts of some turns are there, or every tuning text with some parameters."""
        prompts = self._prompts if tried is None else self._tuning_prompts
        trial = "" if tried is None else trial_name(tried)
        keys = (
            (cell, method.name, prompts[turn].id, self._settings.seed + turn, trial)
            for turn in turns or range(len(prompts))
        )
        return all(key in self._store.done for key in keys)

    def _describe(self, stage: Stage) -> None:
        """Write what the link is; of two such lines with one run id the later one holds."""
        self._store.add_link({"at": now(), "revision": self._settings.revision, **stage.describe()})

    def _warm_up(self, stage: Stage, cell: Cell) -> None:
        """One short text each way round every daemon, not recorded: caches, connections, code paths."""
        for method in self._methods:
            if method.way == "dense-f16":
                continue  # its daemons are warm by the others, and its text may take long
            self._progress.say(f"{cell}: warm-up, {method.name}")
            stage.text(
                request_of(cell, method, method.defaults(), self._prompts[0].prompt, 0, WARM_UP_TOKENS)
            )

    def _cell(self, stage: Stage, cell: Cell, turns: range) -> None:
        chosen = [(method, *self._tuned(stage, cell, method)) for method in self._methods]
        for turn in turns:
            # Each prompt begins with another method, so that none always comes first.
            start = turn % len(chosen)
            for method, parameters, tuned_by, predicted_s in (*chosen[start:], *chosen[:start]):
                tuning = {"tuned_by": tuned_by, "predicted_token_s": predicted_s}
                self._text(stage, cell, method, parameters, turn, **tuning)

    def _tuned(self, stage: Stage, cell: Cell, method: Method) -> Tuned:
        """What an earlier run has measured with, or what tuning finds now."""
        for record in self._store.done.values():
            if (record.cell, record.method, record.purpose) == (cell, method.name, MEASURED):
                return record.parameters, record.tuned_by, record.predicted_token_s
        if self._plan.tuning_link is not None:
            return self._transferred(stage, cell, method)

        def run(parameters: Parameters) -> float | None:
            seconds = [1 / record.tokens_per_s for record in self._trial(stage, cell, method, parameters)]
            return mean(seconds) if seconds else None

        return (*arithmetic.tune(cell, method, self._plan, self._costs, run), None)

    def _transferred(self, stage: Stage, cell: Cell, method: Method) -> Tuned:
        """What the trials on the tuning link say; where it is checked, every draft length is run too."""
        fallback = arithmetic.by_arithmetic(cell, method, self._plan.tuned, self._costs)
        if not trials(method, self._plan):
            return fallback, "name", None
        choice = self._transfer(method, cell.temperature).best(cell)
        parameters = fallback if choice is None else choice.parameters
        for length in arithmetic.checked_lengths(cell, method, self._plan):
            self._trial(stage, cell, method, {**parameters, "draft_length": length})
        return parameters, *(("arithmetic", None) if choice is None else ("transfer", choice.token_s))

    def _transfer(self, method: Method, temperature: float) -> Transfer:
        """From the trials' lines; made once."""
        key = method.name, temperature
        if key not in self._transfers:
            by_trial: dict[str, list[GenerationRecord]] = {}
            for record in self._store.done.values():
                here = record.trial and record.cell.line == self._plan.tuning_link
                if here and (record.method, record.temperature) == key:
                    by_trial.setdefault(record.trial, []).append(record)
            rounds = self._store.rounds_of(r.attempt for records in by_trial.values() for r in records)
            done = [
                Trial(parameters, tuple((record, rounds[record.attempt]) for record in by_trial[name]))
                for parameters in trials(method, self._plan)
                if (name := trial_name(parameters)) in by_trial
            ]
            self._transfers[key] = Transfer(method, done, method.axes.get("draft_length", ()))
        return self._transfers[key]

    def _trial(
        self, stage: Stage, cell: Cell, method: Method, parameters: Parameters
    ) -> list[GenerationRecord]:
        """The tuning prompts with some parameters, run or found; those that failed left out."""
        setting, trial = (stage, cell, method, parameters), trial_name(parameters)
        found = [self._text(*setting, turn, trial=trial) for turn in range(len(self._tuning_prompts))]
        return [record for record in found if not record.failure]

    def _text(
        self, stage: Stage, cell: Cell, method: Method, parameters: Parameters, turn: int, **more: Any
    ) -> GenerationRecord:
        """Run one text and write it, or find it; `more` are fields of its record."""
        plan, pacing = self._plan, self._settings.pacing
        if trial := more.get("trial", ""):
            prompt, tokens = self._tuning_prompts[turn], plan.tuning_tokens
            words = f"tuning {method.name}, {trial}"
        else:
            prompt, words = self._prompts[turn], f"prompt {turn + 1}, {method.name}"
            tokens = arithmetic.tokens_to_run(cell, method, parameters, plan, self._costs)
        start = GenerationRecord(
            *(cell.rate_up_bps, cell.rtt_s, cell.temperature),
            method=method.name,
            prompt=prompt.id,
            seed=self._settings.seed + turn,
            purpose=TUNING if trial else MEASURED,
            attempt=secrets.token_hex(6),
            way=method.way,
            is_peer=method.is_peer,
            parameters=dict(parameters),
            short=not trial and tokens < plan.tokens,
            pacing_base_s=pacing.base_s,
            pacing_per_token_s=pacing.per_token_s,
            link_kind=LINK_KIND,
            began_at=now(),
            requested_tokens=tokens,
            scheme=method.scheme_fields(cell.temperature, parameters),
            **{"trial": "", "tuned_by": "name", **more},
        )
        record = self._store.done.get(start.key)
        if record is None:
            self._progress.say(f"{cell}: {words}")
            observed = stage.text(request_of(cell, method, parameters, prompt.prompt, start.seed, tokens))
            try:
                record, rounds = finished_record(start, observed), round_lines(start.attempt, observed)
            except ObservationError as error:
                record, rounds = replace(start, failure=str(error)), []
                self._progress.say(f"{cell}: {method.name} FAILED: {error}")
            self._store.add(record, rounds)
        self._progress.advance(arithmetic.text_s(cell, method, parameters, tokens, self._costs))
        return record
