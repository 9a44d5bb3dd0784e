"""Theorems 1 and 2 and the frontier: runs in process; points are means over seeds, bars standard errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product

from bench import charts
from bench.charts import BLUE, GREY, INK, ORANGE, RED, Bars, Colour, Line, Mark, Panel, Series
from bench.paper.claims import estimate
from bench.paper.data import Data, steps_caption
from bench.paper.lines import StepsRecord, theorem_2_bounds
from bench.paper.marks import mark
from bench.paper.plan import setting_name

Part = tuple[str, Colour, Callable[[StepsRecord], float]]
PARTS: tuple[Part, ...] = (
    (
        "TV(p, q): the models differ",
        Colour("#ccd3da", "#4b535c"),
        lambda record: record.draft_distance,
    ),
    ("α: mass that is dropped", Colour("#e09b3d", "#d98f35"), lambda record: record.dropped_mass),
    ("K/4ℓ: the lattice", Colour("#5b35a0", "#c3a6f0"), lambda record: record.lattice_term),
)
"""Of Theorem 1's bound: the models' share, then sparsification's and quantisation's."""
_HEADROOM = 8
"""How much higher than the mean and α* Theorem 2's panels reach, so that the bounds come into them."""


def theorem_1(data: Data) -> str:
    """Measured rejections beside the bound's parts, a panel per temperature."""
    temperatures = data.step_temperatures
    y = charts.linear(
        "probability, a tested token", (top for t in temperatures for top in _stacked(data, t)[1])
    )
    panels = []
    for temperature in temperatures:
        of = _by_setting(data, temperature)
        rates = [estimate(record.rejection_rate for record in runs) for runs in of.values()]
        marks = tuple(mark(float(at), rate) for at, rate in enumerate(rates))
        panels.append(
            Panel(
                f"temperature {temperature:g}",
                charts.categories("K of K-SQS; β of C-SQS, * frozen", [_short(name) for name in of]),
                y,
                (Series("rejections, measured", INK, marks, line="none"),),
                _stacked(data, temperature)[0],
            )
        )
    caption = steps_caption(data, of_theorems=True)
    return charts.draw("Theorem 1: rejections beside the bound's parts", panels, columns=3, caption=caption)


def _by_setting(data: Data, temperature: float) -> dict[str, list[StepsRecord]]:
    """Theorem 1's runs by setting, in the plan's order."""
    found: dict[str, list[StepsRecord]] = {}
    for record in data.runs(temperature, of_theorems=True):
        found.setdefault(setting_name(record.scheme), []).append(record)
    return found


def _stacked(data: Data, temperature: float) -> tuple[tuple[Bars, ...], list[float]]:
    """The bound's parts one upon the other, and their tops."""
    of = _by_setting(data, temperature)
    tops = [0.0] * len(of)
    bars = []
    for name, colour, value in PARTS:
        heights = [estimate(value(record) / record.steps for record in runs).mean for runs in of.values()]
        spans = [
            (float(at), low, low + height) for at, (low, height) in enumerate(zip(tops, heights, strict=True))
        ]
        tops = [high for _, _, high in spans]
        bars.append(Bars(name, colour, tuple(spans)))
    return tuple(bars), tops


def theorem_2(data: Data) -> str:
    """Running mean of the dropped mass under both guarantees, adaptive C-SQS."""
    panels = []
    for beta, temperature in product(data.plan.compared_thresholds, data.step_temperatures):
        runs = [
            record
            for record in data.runs(temperature, of_theorems=True)
            if setting_name(record.scheme) == f"β = {beta:g}"
        ]
        if not runs:
            continue
        target = runs[0].scheme["target_dropped_mass"]
        at = max((record.running_at for record in runs), key=len)
        reached = max(mean for record in runs for mean in record.running_mean)
        top = min(1.0, _HEADROOM * max(target, reached))
        y = charts.linear("mean dropped mass", [0.0, top])
        bounds = [(number, theorem_2_bounds(runs[0].scheme, number)) for number in at]
        series = [
            Series(
                "running mean of α, a line a seed",
                BLUE,
                tuple(Mark(float(n), mean) for n, mean in zip(r.running_at, r.running_mean, strict=True)),
                dots=False,
            )
            for r in runs
        ]
        series += [
            _bound("Theorem 2 of the paper", RED, "dashed", ((n, both[0]) for n, both in bounds), y.high),
            _bound("our tighter bound", ORANGE, "dotted", ((n, both[1]) for n, both in bounds), y.high),
            _bound("α*", GREY, "solid", ((n, target) for n in (at[0], at[-1])), y.high),
        ]
        panels.append(
            Panel(
                f"β = {beta:g}, temperature {temperature:g}, α* = {target:g}",
                charts.logarithmic("T, steps", [1.0, float(at[-1])]),
                y,
                tuple(series),
            )
        )
    return charts.draw(
        "Theorem 2: running mean of the dropped mass under both guarantees",
        panels,
        columns=3,
        caption=steps_caption(data, of_theorems=True, has_errors=False),
    )


def _short(setting: str) -> str:
    """K = 2 → K2; β = 0.05, frozen → β.05*."""
    letter, _, value = setting.partition(" = ")
    number, _, frozen = value.partition(", ")
    return f"{letter}{number.removeprefix('0')}{'*' if frozen else ''}"


def _bound(
    name: str, colour: Colour, line: Line, points: Iterable[tuple[float, float]], top: float
) -> Series:
    """A line without dots, cut off above the axis."""
    marks = tuple(Mark(float(x), y) for x, y in points if y <= top)
    return Series(name, colour, marks, line=line, dots=False)
