"""
All figures of the paper, from lines alone; points are means over seeds, bars standard errors.

Figures 2, 4 and 5 show real texts over a real link; the theorems and the frontier runs in process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import polars as pl

from bench import charts
from bench.charts import Bars, Colour, Line, Mark, Panel, Series, Shape
from bench.paper.data import (
    IS_ADAPTIVE,
    Data,
    Estimate,
    estimate,
    frontier_caption,
    groups,
    link_caption,
    steps_caption,
)
from bench.paper.steps import theorem_2_bounds
from thinwire.edge.report import CAP_BINDING_LIMIT

TITLES = {
    "paper-figure-2.svg": "Figure 2: latency and resampling rate against temperature",
    "paper-figure-4.svg": "Figure 4: latency against K and against β",
    "paper-figure-5.svg": "Figure 5: C-SQS, adaptive and frozen",
    "paper-theorem-1.svg": "Theorem 1: rejections beside the bound's parts",
    "paper-theorem-2.svg": "Theorem 2: running mean of the dropped mass",
    "paper-frontier.svg": "Bits a drafted token beside acceptance",
}
LINK_FIGURES, STEP_FIGURES = tuple(TITLES)[:3], tuple(TITLES)[3:]
LATENCY = "latency, ms a token"
_K_COLOURS = (charts.BLUE, charts.LIGHT_BLUE, charts.TEAL, charts.VIOLET)
_BETA_COLOURS = (charts.ORANGE, charts.AMBER, charts.RED, charts.BROWN)
_TEMPERATURE_COLOURS = (*_K_COLOURS[::2], charts.GREEN, *_BETA_COLOURS[::2], charts.VIOLET, charts.BROWN)
_PARTS = (
    ("TV(p, q): the models differ", Colour("#ccd3da", "#4b535c"), "draft_distance"),
    ("α: mass that is dropped", Colour("#e09b3d", "#d98f35"), "dropped_mass"),
    ("K/4ℓ: the lattice", Colour("#5b35a0", "#c3a6f0"), "lattice_term"),
)
"""Of Theorem 1's bound: the models' share, then sparsification's and quantisation's."""
_SHAPES: dict[Line, Shape] = {"dashed": "x", "none": "v"}
"""Of the frontier's points that share their line with others; those of a void guarantee are hollow."""
_HEADROOM = 8
"""How much higher than the mean and α* Theorem 2's panels reach, so that the bounds come into them."""


def figures(data: Data) -> dict[str, str]:
    """File name → SVG, of those figures that there are lines for."""
    drawn: list[str] = []
    if not data.texts.is_empty():
        drawn += [_figure_2(data), _figure_4(data), _figure_5(data)]
    names = [*(LINK_FIGURES if drawn else ())]
    if data.has_steps:
        drawn += [_theorem_1(data), _theorem_2(data), _frontier(data)]
        names += STEP_FIGURES
    return dict(zip(names, drawn, strict=True))


def _figure_2(data: Data) -> str:
    """Latency and resampling rate against temperature, K-SQS and C-SQS."""
    sparse = zip(data.plan.compared_support_sizes, _K_COLOURS, strict=False)
    adaptive = zip(data.plan.compared_thresholds, _BETA_COLOURS, strict=False)
    rows: list[_Row] = [(f"K = {size}", f"K-SQS, K = {size}", colour, "solid") for size, colour in sparse]
    rows += [(f"β = {beta:g}", f"C-SQS, β = {beta:g}", colour, "solid") for beta, colour in adaptive]
    return _against_temperature(data, TITLES["paper-figure-2.svg"], rows)


def _figure_5(data: Data) -> str:
    """C-SQS adaptive and frozen against temperature."""
    rows: list[_Row] = []
    for beta, colour in zip(data.plan.compared_thresholds, _BETA_COLOURS[::2], strict=False):
        rows.append((f"β = {beta:g}", f"β = {beta:g}, adaptive", colour, "solid"))
        rows.append((f"β = {beta:g}, frozen", f"β = {beta:g}, frozen", colour, "dashed"))
    return _against_temperature(data, TITLES["paper-figure-5.svg"], rows)


def _figure_4(data: Data) -> str:
    """Latency against K and against β, a line per temperature."""
    temperatures = sorted(set(data.texts["temperature"]))
    drawn = []
    for title, axis, values, letter in (
        ("K-SQS", "K", data.plan.support_sizes, "K"),
        ("C-SQS, adaptive", "initial threshold β", data.plan.thresholds, "β"),
    ):
        series = []
        for number, temperature in enumerate(temperatures):
            points = [_point(data, f"{letter} = {value:g}", temperature, "latency_ms") for value in values]
            colour = _TEMPERATURE_COLOURS[number % len(_TEMPERATURE_COLOURS)]
            marks = tuple(map(_mark, values, points))
            shift = _shift(number, len(temperatures))
            series.append(Series(f"temperature {temperature:g}", colour, marks, shift=shift))
        drawn.append((title, charts.at_values(axis, values, is_log=True), tuple(series)))
    y = charts.linear(LATENCY, _reach(entry for _, _, series in drawn for entry in series))
    panels = [Panel(title, x, y, series) for title, x, series in drawn]
    return charts.draw(TITLES["paper-figure-4.svg"], panels, columns=2, caption=link_caption(data))


_Row = tuple[str, str, Colour, Line]
"""A series against temperature: setting, name, colour, line."""


def _against_temperature(data: Data, title: str, rows: Sequence[_Row]) -> str:
    """Latency and resampling rate, a panel each; points on a dashed line are hollow."""
    temperatures = sorted(set(data.texts["temperature"]))
    panels = []
    for name, axis, column in (
        ("latency", LATENCY, "latency_ms"),
        ("resampling rate", "resampled / output tokens", "resampling_rate"),
    ):
        series = []
        for number, (setting, label, colour, line) in enumerate(rows):
            points = [(t, _point(data, setting, t, column)) for t in temperatures]
            marks = tuple(_mark(t, point, hollow=line == "dashed") for t, point in points)
            series.append(Series(label, colour, marks, line=line, shift=_shift(number, len(rows))))
        x = charts.at_values("temperature", temperatures)
        panels.append(Panel(name, x, charts.linear(axis, _reach(series)), tuple(series)))
    return charts.draw(title, panels, columns=2, caption=link_caption(data))


def _theorem_1(data: Data) -> str:
    """Measured rejections beside the bound's parts, a panel per temperature."""
    found = []
    for (temperature,), runs in _by_temperature(data.theorem_runs):
        settings = groups(runs)
        rates = [estimate(of_one["rejection_rate"]) for _, _, of_one in settings]
        tops, bars = [0.0] * len(settings), []
        for name, colour, column in _PARTS:
            highs = [
                low + estimate(of_one[column] / of_one["steps"]).mean
                for low, (_, _, of_one) in zip(tops, settings, strict=True)
            ]
            bars.append(Bars(name, colour, tuple(zip(range(len(tops)), tops, highs, strict=True))))
            tops = highs
        marks = tuple(_mark(at, rate) for at, rate in enumerate(rates))
        series = Series("rejections, measured", charts.INK, marks, line="none")
        found.append((temperature, [_short(name) for _, name, _ in settings], series, tuple(bars), tops))
    y = charts.linear("probability, a tested token", (top for *_, tops in found for top in tops))
    panels = [
        Panel(
            f"temperature {temperature:g}",
            charts.categories("", names),
            *(y, (series,), bars),
        )
        for temperature, names, series, bars, _ in found
    ]
    caption = f"K of K-SQS; β of C-SQS, * frozen. {steps_caption(data.theorem_runs)}"
    return charts.draw(TITLES["paper-theorem-1.svg"], panels, columns=3, caption=caption)


def _theorem_2(data: Data) -> str:
    """Running mean of the dropped mass under both guarantees, adaptive C-SQS."""
    panels = []
    found = {(setting, temperature): runs for temperature, setting, runs in groups(data.theorem_runs)}
    temperatures = sorted(set(data.theorem_runs["temperature"]))
    for beta, temperature in product(data.plan.compared_thresholds, temperatures):
        runs = found.get((f"β = {beta:g}", temperature))
        if runs is None:
            continue
        scheme = runs.row(0, named=True)
        target = scheme["target_dropped_mass"]
        at = max(runs["running_at"].to_list(), key=len)
        curves = list(runs.select("running_at", "running_mean").iter_rows())
        y = charts.linear(
            "mean dropped mass",
            [0.0, min(1.0, _HEADROOM * max(target, *(value for _, values in curves for value in values)))],
        )
        bounds = [theorem_2_bounds(scheme, number) for number in at]
        series = [
            Series("running mean of α, a line a seed", charts.BLUE, _marks(*curve), dots=False)
            for curve in curves
        ]
        lines: tuple[tuple[str, Colour, Line, tuple[Mark, ...]], ...] = (
            ("Theorem 2 of the paper", charts.RED, "dashed", _marks(at, (paper for paper, _ in bounds))),
            ("our tighter bound", charts.ORANGE, "dotted", _marks(at, (ours for _, ours in bounds))),
            ("α*", charts.GREY, "solid", _marks((at[0], at[-1]), (target, target))),
        )
        for name, colour, line, marks in lines:
            shown = tuple(mark for mark in marks if mark.y <= y.high)
            series.append(Series(name, colour, shown, line=line, dots=False))
        title = f"β = {beta:g}, temperature {temperature:g}, α* = {target:g}"
        x = charts.logarithmic("T, steps", [1.0, float(at[-1])])
        panels.append(Panel(title, x, y, tuple(series)))
    title = f"{TITLES['paper-theorem-2.svg']} under both guarantees"
    caption = steps_caption(data.theorem_runs, has_errors=False)
    return charts.draw(title, panels, columns=3, caption=caption)


def _frontier(data: Data) -> str:
    """A panel per temperature; the dotted line is what the unquantised draft would be accepted at."""
    k_sqs, bound = pl.col("scheme") == "k-sqs", pl.col("cap_binding_rate").max() >= CAP_BINDING_LIMIT
    resolutions = sorted(set(data.frontier_runs.filter(k_sqs)["lattice_resolution"]))
    families: list[tuple[str, Colour, Line, pl.Expr, bool]] = [
        ("dense-qs over ℓ", charts.GREY, "solid", pl.col("scheme") == "dense-qs", False)
    ]
    for number, ell in enumerate(resolutions):
        colour = (charts.LIGHT_BLUE, charts.BLUE, charts.TEAL, charts.VIOLET)[number % 4]
        holds = k_sqs & (pl.col("lattice_resolution") == ell)
        families.append((f"k-sqs over K, ℓ = {ell}", colour, "solid", holds, False))
    is_void = bound.over("temperature", "key")
    frozen = (pl.col("scheme") == "c-sqs") & pl.col("frozen_threshold")
    families += [
        ("c-sqs over β, frozen", charts.BROWN, "dashed", frozen, False),
        ("c-sqs over β, η, α*", charts.ORANGE, "none", IS_ADAPTIVE & ~pl.col("is_void"), False),
        ("the same, guarantee void", charts.RED, "none", IS_ADAPTIVE & pl.col("is_void"), True),
    ]
    panels = []
    for (temperature,), runs in _by_temperature(data.frontier_runs.with_columns(is_void=is_void)):
        series = []
        for name, colour, line, holds, hollow in families:
            settings = runs.filter(holds).partition_by("key", maintain_order=True)
            points = sorted(
                (
                    (estimate(of_one["bits"]).mean, estimate(1 - of_one["rejection_rate"]))
                    for of_one in settings
                ),
                key=lambda point: point[0],
            )
            marks = tuple(_mark(bits, rate, hollow=hollow) for bits, rate in points)
            if marks:
                series.append(Series(name, colour, marks, line=line, shape=_SHAPES.get(line)))
        limit = estimate(1 - runs["draft_distance"] / runs["steps"]).mean
        x = charts.logarithmic("payload bits a drafted token", (m.x for one in series for m in one.marks))
        rates = [*_reach(series), limit]
        y = charts.linear("acceptance rate", rates, from_zero=max(rates) > 3 * min(rates))
        ends = (Mark(x.low, limit), Mark(x.high, limit))
        name = "1 − TV(p, q): the draft as it is"
        series.append(Series(name, charts.INK, ends, line="dotted", dots=False))
        panels.append(Panel(f"temperature {temperature:g}", x, y, tuple(series)))
    title = f"{TITLES['paper-frontier.svg']}, every setting"
    return charts.draw(title, panels, columns=3, caption=frontier_caption(data.frontier_runs))


def _by_temperature(runs: pl.DataFrame) -> Iterable[tuple[tuple[float, ...], pl.DataFrame]]:
    parts = runs.sort("temperature", maintain_order=True)
    return parts.partition_by("temperature", as_dict=True).items()


def _point(data: Data, setting: str, temperature: float, column: str) -> Estimate:
    """A figure of merit of one setting, over seeds."""
    chosen = data.texts.filter(pl.col("setting") == setting, pl.col("temperature") == temperature)
    return estimate(chosen[column])


def _mark(x: float, point: Estimate, *, hollow: bool = False) -> Mark:
    return Mark(float(x), point.mean, point.error, hollow)


def _marks(x: Iterable[float], y: Iterable[float]) -> tuple[Mark, ...]:
    return tuple(Mark(float(at), value) for at, value in zip(x, y, strict=True))


def _shift(number: int, count: int) -> float:
    """Points between series that share their x."""
    return 5.0 * (number - (count - 1) / 2)


def _reach(series: Iterable[Series]) -> list[float]:
    """Values that an axis must show, error bars included."""
    marks = [mark for entry in series for mark in entry.marks]
    return [mark.y for mark in marks] + [end for mark in marks for end in mark.ends or ()]


def _short(setting: str) -> str:
    """K = 2 → K over 2; β = 0.05, frozen → β* over .05."""
    letter, _, value = setting.partition(" = ")
    number, _, frozen = value.partition(", ")
    return f"{letter}{'*' if frozen else ''}\n{number.removeprefix('0')}"
