"""A run as frames: a row for each measured text, and a row for each method in a cell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import polars as pl
import polars.selectors as cs
from polars import col

from bench.grid.cells import Cell
from bench.grid.records import MEASURED, GenerationRecord
from bench.grid.store import read_generations, read_settings
from bench.markdown import NONE

BASELINE_SCHEMES = ("cloud-ar", "dense-f16")
"""Schemes that are here to be compared with; everything else that is no peer is ours."""
BASELINES = ("cloud-ar", "cloud-stream", "cloud-assisted")
"""Methods that one scheme of ours is shown beside."""
SHOWN = ("k-sqs:K=8", "k-sqs", "")
"""How the shown scheme's name begins: Thinwire's default; where a run lacks it, the first of ours."""
LETTERS = {"draft_length": "γ", "lattice_resolution": "ℓ", "support_size": "K", "initial_threshold": "β"}

_KINDS = {int: pl.Float64, float: pl.Float64, float | None: pl.Float64, bool: pl.Boolean, str: pl.String}
_FIELDS = {name: _KINDS[kind] for name, kind in get_type_hints(GenerationRecord).items() if kind in _KINDS}
_RATES = {"tokens_per_s": pl.Float64, "seconds_per_token": pl.Float64}
_WORDS = {"cell": pl.String, "settings": pl.String, "is_ours": pl.Boolean}


@dataclass(frozen=True, slots=True)
class Run:
    """A benchmark's folder, read."""

    settings: Mapping[str, Any]
    records: tuple[GenerationRecord, ...]
    """All, those of tuning and failed ones too."""
    texts: pl.DataFrame
    """Measured texts that did not fail, sorted by cell: `_texts`."""
    methods: pl.DataFrame
    """The same by cell and method, in the order in which they ran first: `_methods`."""

    @property
    def paced(self) -> str:
        """Behind a title: " (paced)" or nothing."""
        return " (paced)" if any(r.is_paced for r in self.records if r.purpose == MEASURED) else ""

    @property
    def names(self) -> list[str]:
        """Of all methods, in the order in which they ran first."""
        return list(dict.fromkeys(self.methods["method"]))


def read_run(folder: Path) -> Run:
    """Raises StoreError where a folder has no lines."""
    records = tuple(read_generations(folder))
    texts = _texts(chain.from_iterable(by_method(records).values()))
    return Run(read_settings(folder), records, texts, _methods(texts))


def by_method(records: Iterable[GenerationRecord]) -> dict[tuple[Cell, str], list[GenerationRecord]]:
    """Measured texts that did not fail, by cell and method: cells sorted, methods as they ran first."""
    found: dict[tuple[Cell, str], list[GenerationRecord]] = {}
    for record in records:
        if record.purpose == MEASURED and not record.failure:
            found.setdefault((record.cell, record.method), []).append(record)
    return dict(sorted(found.items(), key=lambda pair: pair[0][0]))


def pooled(above: str, below: str = "output_tokens") -> pl.Expr:
    """Of summed texts: one figure over another; null over nothing."""
    return pl.when(col(below) > 0).then(col(above) / col(below))


def percentile(values: Iterable[float], share: float = 0.5) -> float:
    """Linear interpolation between order statistics, NaN left out; `share` is 0 to 1; NaN without values."""
    kept = [value for value in values if not math.isnan(value)]
    return float(np.quantile(kept, share)) if kept else math.nan


def is_lost(value: float) -> bool:
    """Whether a ratio is below 1 as it is printed: 0.995 and more is 1.00."""
    return round(value, 2) < 1


def _texts(records: Iterable[GenerationRecord]) -> pl.DataFrame:
    """
    Fields of the records that are no tables, with ratios to the same text of other methods.

    best_stream, best_of_ours, shown: methods of the cell, null where there is none. The one that is shown is
    not the fastest: a choice made on the texts that are shown would flatter.
    over:NAME, over:best_stream: tokens/s over that method's, null where it lacks the text.
    """
    rows = [
        {name: getattr(record, name) for name in (*_FIELDS, *_RATES)}
        | {"cell": str(record.cell), "settings": _settings_text(record)}
        | {"is_ours": not record.is_peer and record.way not in BASELINE_SCHEMES}
        for record in records
    ]
    texts = pl.DataFrame(rows, schema=_FIELDS | _RATES | _WORDS)
    starts = (pl.when(col("method").str.starts_with(start)).then(n) for n, start in enumerate(SHOWN))

    def least(key: str, of: str) -> pl.Expr:
        kind = col("method").filter(of).sort_by(col(key).filter(of), maintain_order=True)
        return kind.first().over("cell")

    def over(other: pl.Expr) -> pl.Expr:
        theirs = col("tokens_per_s").filter(col("method") == other).first().over("cell", "prompt", "seed")
        return col("tokens_per_s") / theirs

    return (
        texts.with_columns(cs.float().fill_nan(None))
        .with_columns(slowness=-col("tokens_per_s").median().over("cell", "method"), rank=pl.coalesce(starts))
        .with_columns(
            best_stream=least("slowness", of="is_peer"),
            best_of_ours=least("slowness", of="is_ours"),
            shown=least("rank", of="is_ours"),
        )
        .with_columns(over(col("best_stream")).alias("over:best_stream"))
        .with_columns(over(pl.lit(name)).alias(f"over:{name}") for name in BASELINES)
    )


def _methods(texts: pl.DataFrame) -> pl.DataFrame:
    """
    Numbers are sums over the texts, ratios medians; words and flags are the first text's.

    Beside them `texts`, their number; medians of tokens/s and of the first token's seconds; percentiles of
    the seconds of an output token; the largest gap; and whether any was cut short.
    """
    ratios, same = cs.starts_with("over:"), ("cell", "method", "rate_up_bps", "rtt_s", "temperature")
    return texts.group_by(same, maintain_order=True).agg(
        (cs.string() | cs.boolean() | cs.by_name("predicted_token_s")).first(),
        (cs.float() - ratios - cs.by_name("predicted_token_s")).sum(),
        ratios.median(),
        texts=pl.len(),
        speed=col("tokens_per_s").median(),
        first_s=col("first_token_s").median(),
        gap_s=col("largest_gap_s").max(),
        any_short=col("short").any(),
        **{f"p{n}": col("seconds_per_token").quantile(n / 100, "linear") for n in (50, 95, 99)},
    )


def _number(value: Any) -> str:
    """A parameter's value; words as they are."""
    return value if isinstance(value, str) else f"{value:g}"


def _settings_text(record: GenerationRecord) -> str:
    words = [
        f"{LETTERS.get(name, name)} "
        + ("own schedule" if name == "draft_length" and value == 0 else _number(value))
        for name, value in record.parameters.items()
    ]
    by = " (by arithmetic)" if record.tuned_by == "arithmetic" else ""
    return ", ".join(words) + by if words else NONE
