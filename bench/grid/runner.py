"""Runs a plan: link by link, cell by cell, the methods taking turns prompt by prompt."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from bench.grid import arithmetic
from bench.grid.arithmetic import Costs
from bench.grid.cells import Cell, Plan
from bench.grid.measure import ObservationError, Observed, finished_record, round_lines
from bench.grid.methods import Method, Parameters
from bench.grid.provenance import now
from bench.grid.records import MEASURED, TUNING, GenerationRecord
from bench.grid.stages import Daemons, OnLink, Open, RunSettings, link_with_daemons
from bench.grid.store import Store
from bench.grid.texts import Prompt, command_for, read_prompts
from bench.grid.transfer import Transfer, Trial, trial_name, trials
from link.carrier import LinkCounters

QUIET_S = 0.12
"""Beside the round trip: how long the counters must stand still; a separate ACK comes within 40 ms."""
_POLL_S = 0.02
_QUIET_TIMEOUT_S = 60.0
WARM_UP_TOKENS = 8

On = tuple[OnLink, Daemons]
"""A link and what runs on it."""
Tuned = tuple[dict[str, Any], str, float | None]
"""Parameters, where they come from, and the predicted seconds of an output token if there are any."""


class Progress(Protocol):
    """What a run tells of itself."""

    def advance(self, seconds: float) -> None:
        """So many seconds of the estimate are done, or were done before."""

    def say(self, line: str) -> None:
        """What runs now."""


class Runner:
    """
    One run.

    Args:
        plan: what is run.
        methods: in the order in which they take turns.
        settings: how.
        store: where to; what is there already is skipped.
        progress: told of every text.
        open_: makes links and daemons; the real ones when None.
        quiet_s: beside the round trip, how long a link must be still before a text's bytes are counted.
    """

    def __init__(
        self,
        plan: Plan,
        methods: Sequence[Method],
        settings: RunSettings,
        store: Store,
        progress: Progress,
        *,
        open_: Open | None = None,
        quiet_s: float = QUIET_S,
    ) -> None:
        self._plan = plan
        self._methods = methods
        self._settings = settings
        self._store = store
        self._progress = progress
        self._open = open_ or (lambda cell: link_with_daemons(cell, plan, settings, progress.say))
        self._quiet_s = quiet_s
        self._costs = Costs(pacing=settings.stage.pacing)
        self._transfers: dict[tuple[str, float], Transfer] = {}
        self._prompts, self._tuning_prompts = read_prompts(settings.prompts, plan)

    def run(self) -> None:
        """
        Everything that is not there yet.

        Raises:
            link.errors.LinkError: the link cannot be made, or is not what it says.
            DaemonError: a daemon died.
        """
        unfinished = {cell for cell in self._plan.cells if not self._is_done(cell)}
        for cells in self._plan.links:
            tunes = (cells[0].rate_up_bps, cells[0].rtt_s) == self._plan.tuning_link
            if not unfinished & set(cells) and not (tunes and unfinished and not self._has_trials()):
                self._progress.say(f"{cells[0]}: done before")
                self._skip(cells)
                continue
            with self._open(cells[0]) as on:
                self._progress.advance(arithmetic.START_S)
                self._describe(on)
                self._warm_up(on, cells[0])
                if tunes:
                    for cell, method, parameters in self._transfer_texts():
                        self._trial(on, cell, method, parameters)
                for cell in cells:
                    self._cell(on, cell)
                self._describe(on)  # again, as its lateness is now that of the whole run

    # --- a link --------------------------------------------------------------------------------------------

    def _describe(self, on: On) -> None:
        """Write what the link is; of two such lines with one run id the later one holds."""
        self._store.add_link({"at": now(), "revision": self._settings.revision, **on[0].describe()})

    def _skip(self, cells: Sequence[Cell]) -> None:
        """A link whose texts are all there."""
        done = arithmetic.estimate(self._plan, self._methods, self._costs, [cells])
        self._progress.advance(done.seconds)

    def _warm_up(self, on: On, cell: Cell) -> None:
        """One short text each way round every daemon, not recorded: caches, connections, code paths."""
        link, stage = on
        for method in self._methods:
            if method.way == "dense-f16":
                continue  # its daemons are warm by the others, and its text may take long
            self._progress.say(f"{cell}: warm-up, {method.name}")
            stage.ask(command_for(cell, method, method.defaults(), self._prompts[0], 0, WARM_UP_TOKENS))
        self._quiet(link)
        stage.fresh()

    # --- a cell --------------------------------------------------------------------------------------------

    def _cell(self, on: On, cell: Cell) -> None:
        chosen = {method.name: self._tuned(on, cell, method) for method in self._methods}
        for turn, prompt in enumerate(self._prompts):
            # Each prompt begins with another method, so that none always comes first.
            start = turn % len(self._methods)
            for method in (*self._methods[start:], *self._methods[:start]):
                parameters, tuned_by, predicted_s = chosen[method.name]
                tokens = arithmetic.tokens_to_run(cell, method, parameters, self._plan, self._costs)
                record = replace(
                    self._start_record(cell, method, parameters, prompt, turn, tokens),
                    tuned_by=tuned_by,
                    short=tokens < self._plan.tokens,
                    predicted_token_s=predicted_s,
                )
                self._text(on, method, record, prompt, f"prompt {turn + 1}, {method.name}")

    def _tuned(self, on: On, cell: Cell, method: Method) -> Tuned:
        """What an earlier run has measured with, or what tuning finds now."""
        for record in self._store.done.values():
            if (record.cell, record.method, record.purpose) == (cell, method.name, MEASURED):
                return record.parameters, record.tuned_by, record.predicted_token_s
        if self._plan.tuning_link is not None:
            return self._transferred(on, cell, method)

        def run(parameters: Parameters) -> float | None:
            seconds = [1 / record.tokens_per_s for record in self._trial(on, cell, method, parameters)]
            return sum(seconds) / len(seconds) if seconds else None

        return (*arithmetic.tune(cell, method, self._plan, self._costs, run), None)

    def _trial(self, on: On, cell: Cell, method: Method, parameters: Parameters) -> list[GenerationRecord]:
        """The tuning prompts with some parameters, run or found; those that failed left out."""
        name, tokens = trial_name(parameters), self._plan.tuning_tokens
        found = []
        for turn, prompt in enumerate(self._tuning_prompts):
            start = self._start_record(cell, method, parameters, prompt, turn, tokens)
            start = replace(start, purpose=TUNING, trial=name)
            found.append(self._text(on, method, start, prompt, f"tuning {method.name}, {name}"))
        return [record for record in found if not record.failure]

    # --- tuning by transfer --------------------------------------------------------------------------------

    def _transfer_texts(self) -> Iterator[tuple[Cell, Method, Parameters]]:
        return arithmetic.transfer_texts(self._plan, self._methods)

    def _has_trials(self) -> bool:
        """Whether every trial is there; a failed one is not."""
        names = {(r.cell, r.method, r.trial, r.prompt) for r in self._store.done.values() if r.trial}
        return all(
            (cell, method.name, trial_name(parameters), prompt.id) in names
            for cell, method, parameters in self._transfer_texts()
            for prompt in self._tuning_prompts
        )

    def _transferred(self, on: On, cell: Cell, method: Method) -> Tuned:
        fallback = arithmetic.by_arithmetic(cell, method, self._plan.tuned, self._costs)
        if not trials(method, self._plan):
            return fallback, "name", None
        choice = self._transfer(method, cell.temperature).best(cell)
        parameters = choice.parameters if choice is not None else fallback
        for length in arithmetic.checked_lengths(cell, method, self._plan):
            self._trial(on, cell, method, {**parameters, "draft_length": length})
        return (
            (parameters, "arithmetic", None) if choice is None else (parameters, "transfer", choice.token_s)
        )

    def _transfer(self, method: Method, temperature: float) -> Transfer:
        """From the trials' lines; made once."""
        key = method.name, temperature
        if key not in self._transfers:
            by_trial: dict[str, list[GenerationRecord]] = {}
            for record in self._store.done.values():
                at_home = (record.rate_up_bps, record.rtt_s) == self._plan.tuning_link
                if at_home and record.purpose == TUNING and (record.method, record.temperature) == key:
                    by_trial.setdefault(record.trial, []).append(record)
            rounds = self._store.rounds_of(r.attempt for records in by_trial.values() for r in records)
            done = [
                Trial(parameters, tuple((record, rounds[record.attempt]) for record in by_trial[name]))
                for parameters in trials(method, self._plan)
                if (name := trial_name(parameters)) in by_trial
            ]
            self._transfers[key] = Transfer(method, done, method.axes.get("draft_length", ()))
        return self._transfers[key]

    # --- a text --------------------------------------------------------------------------------------------

    def _text(
        self, on: On, method: Method, start: GenerationRecord, prompt: Prompt, words: str
    ) -> GenerationRecord:
        """Run one text and write it, or find it."""
        record = self._store.done.get(start.key)
        if record is None:
            self._progress.say(f"{start.cell}: {words}")
            record = self._run_text(on, method, start, prompt)
        self._progress.advance(
            arithmetic.text_s(start.cell, method, start.parameters, start.requested_tokens, self._costs)
        )
        return record

    def _run_text(self, on: On, method: Method, start: GenerationRecord, prompt: Prompt) -> GenerationRecord:
        link, stage = on
        before = link.counters()
        answer = stage.ask(
            command_for(start.cell, method, start.parameters, prompt, start.seed, start.requested_tokens)
        )
        after = self._quiet(link)
        logs = stage.fresh()
        passes = logs["peers" if method.is_peer else "cloud"]
        observed = Observed(answer, before, after, passes, logs["edge"])
        try:
            if answer.get("failure"):
                raise ObservationError(answer["failure"])
            if observed.tokens != start.requested_tokens:
                raise ObservationError(
                    f"{observed.tokens} tokens arrived instead of {start.requested_tokens}"
                )
            record = finished_record(start, observed)
        except ObservationError as error:
            record = replace(start, failure=str(error))
            self._store.add(record)
            self._progress.say(f"{start.cell}: {method.name} FAILED: {error}")
        else:
            self._store.add(record, round_lines(record, observed))
        return record

    def _quiet(self, link: OnLink) -> LinkCounters:
        """The counters once nothing has crossed the link for a round trip and a bit."""
        still_s = link.description.rtt_s + self._quiet_s
        give_up_at_s = time.monotonic() + _QUIET_TIMEOUT_S
        last, since_s = link.counters(), time.monotonic()
        while time.monotonic() - since_s < still_s and time.monotonic() < give_up_at_s:
            time.sleep(_POLL_S)
            now = link.counters()
            if _crossed(now) != _crossed(last):
                last, since_s = now, time.monotonic()
        return last

    # --- data ----------------------------------------------------------------------------------------------

    def _is_done(self, cell: Cell) -> bool:
        measured = {
            (record.method, record.prompt)
            for record in self._store.done.values()
            if record.cell == cell and record.purpose == MEASURED
        }
        return all(
            (method.name, prompt.id) in measured for method in self._methods for prompt in self._prompts
        )

    def _start_record(
        self, cell: Cell, method: Method, parameters: Parameters, prompt: Prompt, turn: int, tokens: int
    ) -> GenerationRecord:
        """A measured text before it runs."""
        pacing = self._settings.stage.pacing
        return GenerationRecord(
            cell.rate_up_bps,
            cell.rtt_s,
            cell.temperature,
            method=method.name,
            prompt=prompt.id,
            seed=self._settings.seed + turn,
            purpose=MEASURED,
            trial="",
            attempt=secrets.token_hex(6),
            way=method.way,
            is_peer=method.is_peer,
            parameters=dict(parameters),
            tuned_by="name",
            short=False,
            pacing_base_s=pacing.base_s,
            pacing_per_token_s=pacing.per_token_s,
            link_kind=self._settings.link_kind,
            began_at=now(),
            requested_tokens=tokens,
            scheme=method.scheme_fields(cell.temperature, parameters),
        )


def _crossed(counters: LinkCounters) -> tuple[int, int]:
    return counters.up.carried_packets, counters.down.carried_packets
