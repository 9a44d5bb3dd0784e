"""What the figures are made of: the lines of both kinds, and the words for their parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.grid.records import GenerationRecord
from bench.paper.claims import Estimate, estimate, measured
from bench.paper.lines import StepsRecord
from bench.paper.plan import STEP_PROMPTS, PaperPlan, setting_name
from thinwire.edge.report import CAP_BINDING_LIMIT

Value = Callable[[GenerationRecord], float]


@dataclass(frozen=True, slots=True)
class Data:
    """What the figures are made of."""

    plan: PaperPlan
    texts: tuple[GenerationRecord, ...]
    """Over the link."""
    steps: tuple[StepsRecord, ...]
    """In process."""

    def point(self, setting: str, temperature: float, value: Value) -> Estimate:
        """A figure of merit of one setting, over seeds."""
        return estimate(
            value(record)
            for record in measured(self.texts)
            if record.temperature == temperature and setting_name(record.scheme) == setting
        )

    def runs(self, temperature: float, *, of_theorems: bool) -> list[StepsRecord]:
        """Runs in process at one temperature: the theorems', or the frontier's, which share one text."""
        plan = self.plan
        return [
            record
            for record in self.steps
            if record.temperature == temperature
            and (
                plan.is_theorem_run(temperature, record.texts, record.scheme)
                if of_theorems
                else record.texts == STEP_PROMPTS
            )
        ]

    @property
    def temperatures(self) -> list[float]:
        """Of the texts over the link, ascending."""
        return sorted({record.temperature for record in measured(self.texts)})

    @property
    def step_temperatures(self) -> list[float]:
        """Of the runs in process, ascending."""
        return sorted({record.temperature for record in self.steps})


def link_caption(data: Data) -> str:
    """Everything that the figures with time in them were measured under."""
    texts = measured(data.texts)
    cell = texts[0].cell
    lengths = distinct(record.parameters["draft_length"] for record in texts)
    resolutions = distinct(record.scheme["lattice_resolution"] for record in texts)
    return (
        f"Real texts over a real link: {cell.rate_up_bps / 1000:g} kbit/s up, "
        f"{cell.rate_down_bps / 1000:g} down, RTT {cell.rtt_s * 1000:g} ms. "
        f"γ = {lengths}, ℓ = {resolutions}. {c_sqs_text(texts)} "
        f"{len({record.seed for record in texts})} seeds a point, each with a prompt of its own; "
        f"{distinct(record.requested_tokens for record in texts)} tokens a text.\n"
        "Latency: arrival of the last token over the number of tokens. Error bars: standard error over seeds."
    )


def steps_caption(data: Data, *, of_theorems: bool, has_errors: bool = True) -> str:
    """Everything that the figures without time in them were measured under."""
    runs = [r for t in data.step_temperatures for r in data.runs(t, of_theorems=of_theorems)]
    text = (
        f"In process, every position of the target's own text tested; blocks of γ = "
        f"{distinct(record.draft_length for record in runs)}; {distinct(record.steps for record in runs)} "
        f"steps a run; {len({record.seed for record in runs})} seeds of text and draws. "
    )
    if of_theorems:
        resolutions = distinct(record.scheme["lattice_resolution"] for record in runs)
        errors = " Error bars: standard error over seeds." if has_errors else ""
        return f"{text}ℓ = {resolutions}. {c_sqs_text(runs)}{errors}"
    adaptive = [r.scheme for r in runs if is_adaptive(r.scheme)]
    swept = (("β", "initial_threshold"), ("η", "threshold_step"), ("α*", "target_dropped_mass"))
    listed = ", ".join(f"{letter} {{{distinct(s[name] for s in adaptive)}}}" for letter, name in swept)
    frozen = distinct(r.scheme["initial_threshold"] for r in runs if r.scheme.get("frozen_threshold"))
    of = {r.temperature: r.scheme["max_support_size"] for r in runs if is_adaptive(r.scheme)}
    caps = ", ".join(f"{of[temperature]} at {temperature:g}" for temperature in sorted(of))
    sizes = distinct(r.scheme["support_size"] for r in runs if r.scheme["scheme"] == "k-sqs")
    return (
        f"{text}k-sqs: K {{{sizes}}}. c-sqs: frozen β {{{frozen}}}; {listed}, K_max {caps}; hollow: "
        f"K_max bound on {100 * CAP_BINDING_LIMIT:g} % of the steps or more. "
        "Error bars: standard error over seeds. Each panel has axes of its own."
    )


def c_sqs_text(records: Sequence[GenerationRecord] | Sequence[StepsRecord]) -> str:
    """η, and α* and K_max of each temperature."""
    found = {r.temperature: r.scheme for r in records if r.scheme["scheme"] == "c-sqs"}
    if not found:
        return ""
    etas = distinct(scheme["threshold_step"] for scheme in found.values())
    targets = "; ".join(
        f"α* = {found[t]['target_dropped_mass']:g}, K_max = {found[t]['max_support_size']} at {t:g}"
        for t in sorted(found)
    )
    return f"C-SQS: η = {etas}; by temperature {targets}."


def is_adaptive(scheme: Mapping[str, Any]) -> bool:
    """Whether Theorem 2 speaks of it."""
    return bool(scheme["scheme"] == "c-sqs" and not scheme["frozen_threshold"])


def distinct(values: Iterable[float]) -> str:
    """Different values, ascending."""
    return ", ".join(f"{value:g}" for value in sorted(set(values)))
