"""What the figures are made of: the lines of both kinds as frames, and the words for their parameters."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from bench.grid.cells import DOWN_PER_UP
from bench.grid.records import MEASURED, GenerationRecord
from bench.grid.store import StoreError, read_generations, read_settings
from bench.markdown import NONE
from bench.paper.plan import PLANS, STEP_PROMPTS, PaperPlan, scheme_fields, setting_name
from bench.paper.steps import STEERING, StepsRecord, read_steps
from thinwire.common.schemes import SCHEMES
from thinwire.edge.report import CAP_BINDING_LIMIT

LATENCY, STEPS = "latency", "steps"
"""Folders of the lines inside a run's folder, and the parts of a run."""
STOOD, BROKEN, VOID, VACUOUS = "stood", "BROKEN", "void", "vacuous"
ROUNDING = 1e-6
"""q is float32: its sums are off by about 1e-7."""
ERROR_BARS = "Error bars: standard error over seeds."
IS_ADAPTIVE = (pl.col("scheme") == "c-sqs") & pl.col("frozen_threshold").not_()
"""Whether Theorem 2 speaks of a row."""
_NULLABLE = {
    **dict.fromkeys(("mean_dropped_mass", "dropped_mass_guarantee", "largest_excess"), pl.Float64),
    "frozen_threshold": pl.Boolean,
}
"""Columns that may be without any value."""
_GUARANTEE = (
    pl.when(pl.col("excess").is_null())
    .then(pl.lit(NONE))
    .when(pl.col("cap_binding_rate") >= CAP_BINDING_LIMIT)
    .then(pl.lit(VOID))
    .when(pl.col("dropped_mass_guarantee") > 1)
    .then(pl.lit(VACUOUS))
    .when(pl.col("excess") <= ROUNDING)
    .then(pl.lit(STOOD))
    .otherwise(pl.lit(BROKEN))
)
_PER_STEP = {"rejected": "rejection_rate", "payload_bits": "bits", "cap_bound": "cap_binding_rate"}
"""Sum over the steps → its mean; of those that are not here the mean has the sum's name."""


@dataclass(frozen=True, slots=True)
class Data:
    """
    A row a line: its fields, its scheme's parameters, `setting`; `excess` of the dropped mass, `guarantee`.

    Each frame is empty, without columns, where there are no such lines.
    """

    plan: PaperPlan
    texts: pl.DataFrame
    """Over the link: measured and whole, with `latency_ms` and `resampling_rate`."""
    theorem_runs: pl.DataFrame
    """In process, over whole texts with Theorem 1's settings; sums are means over the steps."""
    frontier_runs: pl.DataFrame
    """The same over the texts that all settings share."""
    failed: int
    """Texts over the link that failed."""

    @property
    def link_caption(self) -> str:
        """What the figures with time in them were measured under."""
        texts = self.texts
        rate_up_bps, rtt_s = texts["rate_up_bps"][0], texts["rtt_s"][0]
        return (
            f"Real texts over a real link: {rate_up_bps / 1000:g} kbit/s up, "
            f"{DOWN_PER_UP * rate_up_bps / 1000:g} down, RTT {rtt_s * 1000:g} ms. "
            f"γ = {distinct(texts['draft_length'])}, ℓ = {distinct(texts['lattice_resolution'])}. "
            f"{_c_sqs_text(texts)} {texts['seed'].n_unique()} seeds a point, each with a prompt of its own; "
            f"{distinct(texts['requested_tokens'])} tokens a text.\n"
            f"Latency: arrival of the last token over the number of tokens. {ERROR_BARS}"
        )

    @property
    def theorem_caption(self) -> str:
        """The same of the theorems; without the words for error bars."""
        runs = self.theorem_runs
        return f"{_steps_text(runs)} ℓ = {distinct(runs['lattice_resolution'])}. {_c_sqs_text(runs)}"

    @property
    def frontier_caption(self) -> str:
        """The same of the frontier."""
        runs = self.frontier_runs
        adaptive = runs.filter(IS_ADAPTIVE).sort("temperature")
        swept = ", ".join(
            f"{letter} {{{distinct(adaptive[name])}}}"
            for letter, name in zip(("β", "η", "α*"), STEERING, strict=True)
        )
        caps = adaptive.unique("temperature", maintain_order=True).select("max_support_size", "temperature")
        frozen = distinct(runs.filter("frozen_threshold")["initial_threshold"])
        sizes = distinct(runs.filter(pl.col("scheme") == "k-sqs")["support_size"])
        return (
            f"{_steps_text(runs)} k-sqs: K {{{sizes}}}. c-sqs: frozen β {{{frozen}}}; {swept}, "
            f"K_max {', '.join(f'{cap} at {at:g}' for cap, at in caps.iter_rows())}; hollow: "
            f"K_max bound on {100 * CAP_BINDING_LIMIT:g} % of the steps or more. "
            f"{ERROR_BARS} Each panel has axes of its own."
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds."""

    mean: float
    error: float
    """Standard error over the seeds; NaN of one."""
    count: int

    def __str__(self) -> str:
        return NONE if not self.count else f"{self.mean:.3g} ± {self.error:.2g}"


def estimate(values: Iterable[float]) -> Estimate:
    """Mean and standard error; NaN values are left out."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return Estimate(math.nan, math.nan, 0)
    error = statistics.stdev(finite) / math.sqrt(len(finite)) if len(finite) > 1 else math.nan
    return Estimate(statistics.fmean(finite), error, len(finite))


def read_data(out: Path) -> Data:
    """Every line of a run; StoreError where there are none."""
    plan = PLANS.get(read_settings(out).get("plan", ""))
    if plan is None:
        raise StoreError(f"{out} holds no settings.json of bench.paper; expected a folder that it made.")
    has_texts = any((out / LATENCY).glob("generations.jsonl*"))
    return make_data(plan, read_generations(out / LATENCY) if has_texts else [], read_steps(out / STEPS))


def make_data(plan: PaperPlan, texts: Sequence[GenerationRecord], steps: Sequence[StepsRecord]) -> Data:
    """The frames of records of both kinds; StoreError where there are neither."""
    if not texts and not steps:
        raise StoreError("the folder holds no line yet; expected some.")
    on_link = _frame(
        [
            {**asdict(record), "draft_length": record.parameters.get("draft_length")}
            for record in texts
            if record.purpose == MEASURED and not record.failure
        ],
        latency_ms=1000 * pl.col("last_token_s") / pl.col("output_tokens"),
        resampling_rate=pl.col("resampled_tokens") / pl.col("output_tokens"),
        excess=pl.col("mean_dropped_mass") - pl.col("dropped_mass_guarantee"),
    )
    theorem = {t: list(map(scheme_fields, plan.theorem_schemes(t))) for t in {r.temperature for r in steps}}
    whole = [r for r in steps if r.texts == plan.texts and r.scheme in theorem[r.temperature]]
    head = [record for record in steps if record.texts == STEP_PROMPTS]
    failed = sum(bool(record.failure) for record in texts)
    return Data(plan, on_link, _steps_frame(whole), _steps_frame(head), failed)


def _steps_frame(records: Sequence[StepsRecord]) -> pl.DataFrame:
    sums = (*_PER_STEP, "draft_distance", "dropped_mass", "lattice_term", "lattice_distance")
    return _frame(
        [
            {**msgspec.structs.asdict(r), "key": r.key[3]}
            for r in sorted(records, key=lambda r: r.temperature)
        ],
        **{_PER_STEP.get(name, name): pl.col(name) / pl.col("steps") for name in sums},
        acceptance=1 - pl.col("rejected") / pl.col("steps"),
        excess=pl.col("largest_excess"),
    )


def _frame(rows: Sequence[dict[str, Any]], **columns: pl.Expr) -> pl.DataFrame:
    """Rows with their scheme's parameters as columns, those of other schemes empty."""
    if not rows:
        return pl.DataFrame()
    empty = dict.fromkeys((*(name for s in SCHEMES.values() for name in s.Parameters.specs()), *_NULLABLE))
    flat = [{**empty, **row, **row["scheme"], "setting": setting_name(row["scheme"])} for row in rows]
    frame = pl.from_dicts(flat, infer_schema_length=None, schema_overrides=_NULLABLE)
    frozen = pl.col("frozen_threshold").fill_null(value=False)
    return frame.with_columns(frozen, **columns).with_columns(guarantee=_GUARANTEE)


def by_temperature(lines: pl.DataFrame) -> list[tuple[float, pl.DataFrame]]:
    """Ascending."""
    return [(t, lines.filter(pl.col("temperature") == t)) for t in sorted(set(lines["temperature"]))]


def groups(lines: pl.DataFrame) -> list[tuple[float, str, pl.DataFrame]]:
    """By temperature and setting; settings in the order in which they come first."""
    parts = {
        (t, setting): part.filter(pl.col("setting") == setting)
        for t, part in by_temperature(lines)
        for setting in lines["setting"].unique(maintain_order=True)
    }
    return [(t, setting, part) for (t, setting), part in parts.items() if not part.is_empty()]


def distinct(values: Iterable[float]) -> str:
    """Different values, ascending."""
    return ", ".join(f"{value:g}" for value in sorted(set(values)))


def _steps_text(runs: pl.DataFrame) -> str:
    return (
        f"In process, every position of the target's own text tested; blocks of γ = "
        f"{distinct(runs['draft_length'])}; {distinct(runs['steps'])} steps a run; "
        f"{runs['seed'].n_unique()} seeds of text and draws."
    )


def _c_sqs_text(frame: pl.DataFrame) -> str:
    """η, and α* and K_max of each temperature."""
    found = frame.filter(pl.col("scheme") == "c-sqs").unique("temperature").sort("temperature")
    if found.is_empty():
        return ""
    by = found.select("target_dropped_mass", "max_support_size", "temperature").iter_rows()
    targets = "; ".join(f"α* = {target:g}, K_max = {cap} at {at:g}" for target, cap, at in by)
    return f"C-SQS: η = {distinct(found['threshold_step'])}; by temperature {targets}."
