"""What the figures are made of: the lines of both kinds as frames, and the words for their parameters."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from bench.grid.cells import DOWN_PER_UP
from bench.grid.records import MEASURED, GenerationRecord
from bench.grid.store import StoreError, read_generations, read_settings
from bench.markdown import NONE
from bench.paper.plan import PLANS, STEP_PROMPTS, PaperPlan, setting_name
from bench.paper.steps import StepsRecord, read_steps
from thinwire.edge.report import CAP_BINDING_LIMIT

LATENCY, STEPS = "latency", "steps"
"""Folders of the lines inside a run's folder, and the parts of a run."""
STOOD, BROKEN, VOID, VACUOUS = "stood", "BROKEN", "void", "vacuous"
ROUNDING = 1e-6
"""q is float32: its sums are off by about 1e-7."""
_PARAMETERS = (
    *("lattice_resolution", "support_size", "max_support_size", "initial_threshold", "threshold_step"),
    *("target_dropped_mass", "frozen_threshold"),
)
"""Of some scheme or other: columns that are there whatever ran."""
IS_ADAPTIVE = (pl.col("scheme") == "c-sqs") & pl.col("frozen_threshold").not_()
"""Whether Theorem 2 speaks of a row."""


@dataclass(frozen=True, slots=True)
class Data:
    """A column for each field of a line and each parameter of its scheme, `setting` and `guarantee`."""

    plan: PaperPlan
    texts: pl.DataFrame
    """Over the link: measured and whole, with `latency_ms` and `resampling_rate`."""
    theorem_runs: pl.DataFrame
    """In process, over whole texts with Theorem 1's settings."""
    frontier_runs: pl.DataFrame
    """In process, over the texts that all settings share."""
    failed: int = 0
    """Texts over the link that failed."""

    @property
    def has_steps(self) -> bool:
        """Whether anything ran in process."""
        return not (self.theorem_runs.is_empty() and self.frontier_runs.is_empty())


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
    """
    Every line of a run.

    Raises:
        StoreError: there are none.
    """
    settings = read_settings(out)
    if settings.get("plan") not in PLANS:
        raise StoreError(f"{out} holds no settings.json of bench.paper; expected a folder that it made.")
    chosen = {name: settings[name] for name in ("seeds", "step_seeds", "tokens")}
    has_texts = any((out / LATENCY).glob("generations.jsonl*"))
    plan = replace(PLANS[settings["plan"]], **chosen)
    return make_data(plan, read_generations(out / LATENCY) if has_texts else [], read_steps(out / STEPS))


def make_data(plan: PaperPlan, texts: Sequence[GenerationRecord], steps: Sequence[StepsRecord]) -> Data:
    """
    The frames of records of both kinds.

    Raises:
        StoreError: there are neither.
    """
    if not texts and not steps:
        raise StoreError("the folder holds no line yet; expected some.")
    whole = [record for record in texts if record.purpose == MEASURED and not record.failure]
    on_link = _frame(
        [{**asdict(record), "draft_length": record.parameters.get("draft_length")} for record in whole],
        latency_ms=1000 * pl.col("last_token_s") / pl.col("output_tokens"),
        resampling_rate=pl.col("resampled_tokens") / pl.col("output_tokens"),
        excess=pl.col("mean_dropped_mass").cast(float) - pl.col("dropped_mass_guarantee").cast(float),
        bound=pl.col("dropped_mass_guarantee").cast(float),
    )
    runs = [
        {
            **msgspec.structs.asdict(record),
            "key": record.key[3],
            "is_theorem": plan.is_theorem_run(record.temperature, record.texts, record.scheme),
        }
        for record in sorted(steps, key=lambda record: record.temperature)
    ]
    in_process = _frame(
        runs,
        rejection_rate=pl.col("rejected") / pl.col("steps"),
        bits=pl.col("payload_bits") / pl.col("steps"),
        cap_binding_rate=pl.col("cap_bound") / pl.col("steps"),
        excess=pl.col("largest_excess").cast(float),
        bound=pl.lit(0.0),
    )
    parts = (pl.col("is_theorem"), pl.col("texts") == STEP_PROMPTS)
    of_theorems, of_frontier = (in_process.filter(part) if runs else in_process for part in parts)
    return Data(plan, on_link, of_theorems, of_frontier, sum(bool(record.failure) for record in texts))


def groups(frame: pl.DataFrame) -> list[tuple[float, str, pl.DataFrame]]:
    """By temperature and setting; settings in the order in which they come first."""
    order = frame["setting"].unique(maintain_order=True).to_list()
    parts = frame.partition_by("temperature", "setting", as_dict=True).items()
    found = [(float(temperature), str(setting), part) for (temperature, setting), part in parts]
    return sorted(found, key=lambda group: (group[0], order.index(group[1])))


def link_caption(data: Data) -> str:
    """Everything that the figures with time in them were measured under."""
    texts = data.texts
    rate_up_bps, rtt_s = texts["rate_up_bps"][0], texts["rtt_s"][0]
    return (
        f"Real texts over a real link: {rate_up_bps / 1000:g} kbit/s up, "
        f"{DOWN_PER_UP * rate_up_bps / 1000:g} down, RTT {rtt_s * 1000:g} ms. "
        f"γ = {distinct(texts['draft_length'])}, ℓ = {distinct(texts['lattice_resolution'])}. "
        f"{_c_sqs_text(texts)} {texts['seed'].n_unique()} seeds a point, each with a prompt of its own; "
        f"{distinct(texts['requested_tokens'])} tokens a text.\n"
        "Latency: arrival of the last token over the number of tokens. Error bars: standard error over seeds."
    )


def steps_caption(runs: pl.DataFrame, *, has_errors: bool = True) -> str:
    """Everything that the figures of the theorems were measured under."""
    errors = " Error bars: standard error over seeds." if has_errors else ""
    return f"{_steps_text(runs)}ℓ = {distinct(runs['lattice_resolution'])}. {_c_sqs_text(runs)}{errors}"


def frontier_caption(runs: pl.DataFrame) -> str:
    """The same of the frontier."""
    adaptive = runs.filter(IS_ADAPTIVE).sort("temperature")
    swept = (("β", "initial_threshold"), ("η", "threshold_step"), ("α*", "target_dropped_mass"))
    listed = ", ".join(f"{letter} {{{distinct(adaptive[name])}}}" for letter, name in swept)
    caps = adaptive.unique("temperature", maintain_order=True).select("max_support_size", "temperature")
    frozen = distinct(runs.filter("frozen_threshold")["initial_threshold"])
    sizes = distinct(runs.filter(pl.col("scheme") == "k-sqs")["support_size"])
    return (
        f"{_steps_text(runs)}k-sqs: K {{{sizes}}}. c-sqs: frozen β {{{frozen}}}; {listed}, "
        f"K_max {', '.join(f'{cap} at {at:g}' for cap, at in caps.iter_rows())}; hollow: "
        f"K_max bound on {100 * CAP_BINDING_LIMIT:g} % of the steps or more. "
        "Error bars: standard error over seeds. Each panel has axes of its own."
    )


def distinct(values: Iterable[float]) -> str:
    """Different values, ascending."""
    return ", ".join(f"{value:g}" for value in sorted(set(values)))


def _steps_text(runs: pl.DataFrame) -> str:
    return (
        f"In process, every position of the target's own text tested; blocks of γ = "
        f"{distinct(runs['draft_length'])}; {distinct(runs['steps'])} steps a run; "
        f"{runs['seed'].n_unique()} seeds of text and draws. "
    )


def _c_sqs_text(frame: pl.DataFrame) -> str:
    """η, and α* and K_max of each temperature."""
    found = frame.filter(pl.col("scheme") == "c-sqs").unique("temperature").sort("temperature")
    if found.is_empty():
        return ""
    by = found.select("target_dropped_mass", "max_support_size", "temperature").iter_rows()
    targets = "; ".join(f"α* = {target:g}, K_max = {cap} at {at:g}" for target, cap, at in by)
    return f"C-SQS: η = {distinct(found['threshold_step'])}; by temperature {targets}."


def _frame(rows: Sequence[dict[str, Any]], **columns: pl.Expr) -> pl.DataFrame:
    """
    Rows with their scheme's parameters as columns, the setting's name and what became of the guarantee.

    Args:
        columns: to add; `excess` of the dropped mass over its guarantee, null without one, and its `bound`.
    """
    if not rows:
        return pl.DataFrame()
    own = dict.fromkeys(_PARAMETERS)
    flat = [{**own, **row, **row["scheme"], "setting": setting_name(row["scheme"])} for row in rows]
    guarantee = (
        pl.when(pl.col("excess").is_null())
        .then(pl.lit(NONE))
        .when(pl.col("cap_binding_rate") >= CAP_BINDING_LIMIT)
        .then(pl.lit(VOID))
        .when(pl.col("bound") > 1)
        .then(pl.lit(VACUOUS))
        .when(pl.col("excess") <= ROUNDING)
        .then(pl.lit(STOOD))
        .otherwise(pl.lit(BROKEN))
    )
    frozen = pl.col("frozen_threshold").cast(pl.Boolean).fill_null(value=False)
    frame = pl.from_dicts(flat, infer_schema_length=None).with_columns(frozen, **columns)
    return frame.with_columns(guarantee=guarantee)
