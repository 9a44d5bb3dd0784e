"""The frontier: payload bits a drafted token beside acceptance, over every setting that ran in process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import charts
from bench.charts import (
    BLUE,
    BROWN,
    GREY,
    INK,
    LIGHT_BLUE,
    ORANGE,
    RED,
    TEAL,
    VIOLET,
    Colour,
    Line,
    Mark,
    Panel,
    Series,
)
from bench.paper.claims import Estimate, estimate
from bench.paper.data import Data, is_adaptive, steps_caption
from bench.paper.lines import StepsRecord
from bench.paper.marks import reach
from thinwire.edge.report import CAP_BINDING_LIMIT

_K_COLOURS = (LIGHT_BLUE, BLUE, TEAL, VIOLET)


@dataclass(frozen=True, slots=True)
class Setting:
    """One point."""

    scheme: Mapping[str, Any]
    is_void: bool
    """K_max bound too often for Theorem 2."""
    bits: float
    """Payload bits a drafted token, mean over seeds."""
    acceptance: Estimate


@dataclass(frozen=True, slots=True)
class Family:
    """Settings that are drawn alike."""

    name: str
    colour: Colour
    line: Line
    holds: Callable[[Setting], bool]
    hollow: bool = False

    def series(self, settings: Sequence[Setting]) -> Series:
        """Its settings, by bits."""
        mine = sorted((s for s in settings if self.holds(s)), key=lambda s: s.bits)
        marks = tuple(Mark(s.bits, s.acceptance.mean, s.acceptance.error, self.hollow) for s in mine)
        return Series(self.name, self.colour, marks, line=self.line)


def frontier(data: Data) -> str:
    """A panel per temperature; the dotted line is what the unquantised draft would be accepted at."""
    settings = {t: settings_of(data.runs(t, of_theorems=False)) for t in data.step_temperatures}
    every = [setting for of_one in settings.values() for setting in of_one]
    panels = []
    for temperature, found in settings.items():
        series = [family.series(found) for family in _families(every)]
        limit = estimate(
            1 - r.draft_distance / r.steps for r in data.runs(temperature, of_theorems=False)
        ).mean
        x = charts.logarithmic("payload bits a drafted token", (setting.bits for setting in found))
        rates = [*reach(series), limit]
        y = charts.linear("acceptance rate", rates, from_zero=max(rates) > 3 * min(rates))
        ends = (Mark(x.low, limit), Mark(x.high, limit))
        series.append(Series("1 − TV(p, q): the draft as it is", INK, ends, line="dotted", dots=False))
        panels.append(Panel(f"temperature {temperature:g}", x, y, tuple(series)))
    caption = steps_caption(data, of_theorems=False)
    return charts.draw(
        "Bits a drafted token beside acceptance, every setting", panels, columns=3, caption=caption
    )


def settings_of(runs: Iterable[StepsRecord]) -> list[Setting]:
    """Runs of one temperature by setting."""
    by_setting: dict[str, list[StepsRecord]] = {}
    for record in runs:
        by_setting.setdefault(record.key[3], []).append(record)
    return [
        Setting(
            records[0].scheme,
            any(record.cap_binding_rate >= CAP_BINDING_LIMIT for record in records),
            estimate(record.bits for record in records).mean,
            estimate(record.acceptance_rate for record in records),
        )
        for records in by_setting.values()
    ]


def _families(settings: Iterable[Setting]) -> list[Family]:
    resolutions = sorted({s.scheme["lattice_resolution"] for s in settings if s.scheme["scheme"] == "k-sqs"})
    sparse = [
        Family(f"k-sqs over K, ℓ = {ell}", _K_COLOURS[number % len(_K_COLOURS)], "solid", _is_k_sqs(ell))
        for number, ell in enumerate(resolutions)
    ]
    return [
        Family("dense-qs over ℓ", GREY, "solid", lambda s: bool(s.scheme["scheme"] == "dense-qs")),
        *sparse,
        Family("c-sqs over β, frozen", BROWN, "dashed", lambda s: _is_frozen(s.scheme)),
        Family("c-sqs over β, η, α*", ORANGE, "none", lambda s: is_adaptive(s.scheme) and not s.is_void),
        Family(
            "the same, guarantee void",
            RED,
            "none",
            lambda s: is_adaptive(s.scheme) and s.is_void,
            hollow=True,
        ),
    ]


def _is_k_sqs(ell: int) -> Callable[[Setting], bool]:
    return lambda s: bool(s.scheme["scheme"] == "k-sqs" and s.scheme["lattice_resolution"] == ell)


def _is_frozen(scheme: Mapping[str, Any]) -> bool:
    return bool(scheme["scheme"] == "c-sqs" and scheme["frozen_threshold"])
