"""
One line per run of a scheme over a text of the target, in process: Theorems 1 and 2 and the frontier.

The figures are made from these lines and the grid's, and from nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from bench.grid.methods import own_fields
from bench.grid.store import StoreError, drop_cut_line, keep_settings, read_lines

SCHEMA_VERSION = 1
"""Rises when a field changes its meaning or leaves; a new field with a default does not raise it."""


RunKey = tuple[float, int, int, str]
"""Temperature, seed, sequences, scheme as sorted JSON: what is run once."""


@dataclass(frozen=True, slots=True)
class StepsRecord:
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
    """The most by which the mean α of the first T steps exceeds Theorem 2's bound, over every T; at most 0
    where it stands."""
    schema: int = SCHEMA_VERSION
    kind: str = field(default="steps")

    @property
    def rejection_rate(self) -> float:
        """Rejected / tested."""
        return self.rejected / self.steps

    @property
    def acceptance_rate(self) -> float:
        """Accepted / tested."""
        return 1 - self.rejection_rate

    @property
    def bits(self) -> float:
        """Payload bits a drafted token."""
        return self.payload_bits / self.steps

    @property
    def cap_binding_rate(self) -> float:
        """Share of positions at which the cap bound."""
        return self.cap_bound / self.steps

    @property
    def key(self) -> RunKey:
        """What is run once."""
        return run_key(self.temperature, self.seed, self.texts, self.scheme)

    def to_json(self) -> str:
        """One line, without its newline."""
        return json.dumps(asdict(self), allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StepsRecord:
        """
        Inverse of `to_json`, parsed; fields of a later version are left out.

        Raises:
            StoreError: another schema, or a field missing.
        """
        if values.get("schema") != SCHEMA_VERSION or values.get("kind") != "steps":
            raise StoreError(
                f"schema {values.get('schema')!r}, kind {values.get('kind')!r}; "
                f"expected {SCHEMA_VERSION} and 'steps'."
            )
        known = {item.name for item in fields(cls)}
        try:
            given = {name: value for name, value in values.items() if name in known}
            return cls(**{**given, "scheme": own_fields(values["scheme"])})
        except (KeyError, TypeError) as error:
            raise StoreError(str(error)) from None


def run_key(temperature: float, seed: int, texts: int, scheme: Mapping[str, Any]) -> RunKey:
    """A run by what defines it."""
    return temperature, seed, texts, json.dumps(dict(sorted(scheme.items())))


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


def read_steps(folder: Path) -> list[StepsRecord]:
    """Every run of a folder; none if there is no such file."""
    by_key = {}
    for values in read_lines(folder / "steps.jsonl"):
        record = StepsRecord.from_dict(values)
        by_key[record.key] = record
    return list(by_key.values())


class StepsStore:
    """
    The folder of the runs in process, new or resumed: `settings.json` and `steps.jsonl`.

    Args:
        folder: made if missing.
        settings: what defines the runs; JSON values.
        volatile: names of settings that may differ between a run and its resumption.

    Raises:
        StoreError: the folder holds runs with other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, volatile: Iterable[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        keep_settings(folder, settings, volatile)
        self._path = folder / "steps.jsonl"
        drop_cut_line(self._path)
        self.done = {record.key for record in read_steps(folder)}
        """Runs that are there."""

    def add(self, record: StepsRecord) -> None:
        """Write a run's line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(record.to_json() + "\n")
        self.done.add(record.key)
