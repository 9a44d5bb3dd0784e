"""
All figures of the paper, from lines alone; points are means over seeds, bars standard errors.

Figures 2, 4 and 5 show real texts over a real link; the theorems and the frontier runs in process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle, product
from typing import NamedTuple

import polars as pl

from bench import charts
from bench.charts import Bars, Colour, Line, Mark, Panel, Series, Shape
from bench.paper.data import ERROR_BARS, IS_ADAPTIVE, VOID, Data, by_temperature, estimate, groups
from bench.paper.steps import theorem_2_bounds

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
K_COLOURS = (charts.BLUE, charts.LIGHT_BLUE, charts.TEAL, charts.VIOLET)
BETA_COLOURS = (charts.ORANGE, charts.AMBER, charts.RED, charts.BROWN)
TEMPERATURE_COLOURS = (*K_COLOURS[::2], charts.GREEN, *BETA_COLOURS[::2], charts.VIOLET, charts.BROWN)
PARTS = (
    ("TV(p, q): the models differ", Colour("#ccd3da", "#4b535c"), "draft_distance"),
    ("α: mass that is dropped", Colour("#e09b3d", "#d98f35"), "dropped_mass"),
    ("K/4ℓ: the lattice", Colour("#5b35a0", "#c3a6f0"), "lattice_term"),
)
"""Of Theorem 1's bound: the models' share, then sparsification's and quantisation's."""
HEADROOM = 8
"""How much higher than the mean and α* Theorem 2's panels reach, so that the bounds come into them."""


class Look(NamedTuple):
    """A series, and the lines that it is made of."""

    name: str
    colour: Colour
    of: pl.Expr
    line: Line = "solid"
    hollow: bool = False
    shape: Shape | None = None


def figures(data: Data) -> dict[str, str]:
    """File name → SVG, of those figures that there are lines for."""
    drawers = (_figure_2, _figure_4, _figure_5, _theorem_1, _theorem_2, _frontier)
    lines = (*3 * (data.texts,), *2 * (data.theorem_runs,), data.frontier_runs)
    named = zip(TITLES.items(), drawers, lines, strict=True)
    return {name: draw(data, title) for (name, title), draw, of_it in named if not of_it.is_empty()}


def _figure_2(data: Data, title: str) -> str:
    plan = data.plan
    looks = [
        Look(f"{scheme}, {name}", colour, _is(name))
        for scheme, names, colours in (
            ("K-SQS", plan.sparse, K_COLOURS),
            ("C-SQS", plan.adaptive, BETA_COLOURS),
        )
        for name, colour in zip(names, colours, strict=False)
    ]
    return _against_temperature(data, title, looks)


def _figure_5(data: Data, title: str) -> str:
    looks = []
    for steered, held, colour in zip(data.plan.adaptive, data.plan.frozen, BETA_COLOURS[::2], strict=False):
        looks.append(Look(f"{steered}, adaptive", colour, _is(steered)))
        looks.append(Look(held, colour, _is(held), "dashed", hollow=True))
    return _against_temperature(data, title, looks)


def _against_temperature(data: Data, title: str, looks: Sequence[Look]) -> str:
    x, panels = charts.at_values("temperature", data.texts["temperature"]), []
    for name, axis, column in (
        ("latency", LATENCY, "latency_ms"),
        ("resampling rate", "resampled / output tokens", "resampling_rate"),
    ):
        series = _series(data.texts, looks, "temperature", column, shift=5.0)
        panels.append(Panel(name, x, charts.linear(axis, _reach(series)), series))
    return charts.draw(title, panels, columns=2, caption=data.link_caption)


def _figure_4(data: Data, title: str) -> str:
    temperatures = zip(sorted(set(data.texts["temperature"])), cycle(TEMPERATURE_COLOURS), strict=False)
    looks = [Look(f"temperature {t:g}", colour, pl.col("temperature") == t) for t, colour in temperatures]
    k_sqs, c_sqs = data.texts.filter(pl.col("scheme") == "k-sqs"), data.texts.filter(IS_ADAPTIVE)
    of_k = _series(k_sqs, looks, "support_size", "latency_ms", shift=5.0)
    of_beta = _series(c_sqs, looks, "initial_threshold", "latency_ms", shift=5.0)
    k = charts.at_values("K", k_sqs["support_size"], is_log=True)
    beta = charts.at_values("initial threshold β", c_sqs["initial_threshold"], is_log=True)
    y = charts.linear(LATENCY, _reach((*of_k, *of_beta)))
    panels = [Panel("K-SQS", k, y, of_k), Panel("C-SQS, adaptive", beta, y, of_beta)]
    return charts.draw(title, panels, columns=2, caption=data.link_caption)


def _theorem_1(data: Data, title: str) -> str:
    """Measured rejections beside the bound's parts, a panel per temperature."""
    panels, highest = [], []
    for temperature, runs in by_temperature(data.theorem_runs):
        names, settings = zip(*((_short(name), one) for _, name, one in groups(runs)), strict=True)
        tops, bars = [0.0] * len(settings), []
        for name, colour, column in PARTS:
            lows = tops
            tops = [low + estimate(one[column]).mean for low, one in zip(lows, settings, strict=True)]
            bars.append(Bars(name, colour, tuple(zip(range(len(tops)), lows, tops, strict=True))))
        marks = tuple(_mark(at, one["rejection_rate"]) for at, one in enumerate(settings))
        series = Series("rejections, measured", charts.INK, marks, line="none")
        panels.append((f"temperature {temperature:g}", charts.categories("", names), (series,), tuple(bars)))
        highest += tops
    y = charts.linear("probability, a tested token", highest)
    caption = f"K of K-SQS; β of C-SQS, * frozen. {data.theorem_caption} {ERROR_BARS}"
    drawn = [Panel(name, x, y, series, bars) for name, x, series, bars in panels]
    return charts.draw(title, drawn, columns=3, caption=caption)


def _theorem_2(data: Data, title: str) -> str:
    """Running mean of the dropped mass under both guarantees, adaptive C-SQS."""
    panels = []
    for setting, (temperature, part) in product(data.plan.adaptive, by_temperature(data.theorem_runs)):
        runs = part.filter(_is(setting))
        if runs.is_empty():
            continue
        scheme = runs.row(0, named=True)
        at, target = max(runs["running_at"].to_list(), key=len), scheme["target_dropped_mass"]
        paper, ours = zip(*(theorem_2_bounds(scheme, steps) for steps in at), strict=True)
        curves: list[tuple[str, Colour, Line, Sequence[float], Sequence[float]]] = [
            *(
                ("running mean of α, a line a seed", charts.BLUE, "solid", *curve)
                for curve in runs.select("running_at", "running_mean").iter_rows()
            ),
            ("Theorem 2 of the paper", charts.RED, "dashed", at, paper),
            ("our tighter bound", charts.ORANGE, "dotted", at, ours),
            ("α*", charts.GREY, "solid", (at[0], at[-1]), (target, target)),
        ]
        highest = max(target, *(max(means) for means in runs["running_mean"]))
        y = charts.linear("mean dropped mass", [0.0, min(1.0, HEADROOM * highest)])
        series = []
        for name, colour, line, steps, means in curves:
            shown = tuple(Mark(float(a), b) for a, b in zip(steps, means, strict=True) if b <= y.high)
            series.append(Series(name, colour, shown, line=line, dots=False))
        name = f"{setting}, temperature {temperature:g}, α* = {target:g}"
        x = charts.logarithmic("T, steps", [1.0, float(at[-1])])
        panels.append(Panel(name, x, y, tuple(series)))
    title = f"{title} under both guarantees"
    return charts.draw(title, panels, columns=3, caption=data.theorem_caption)


def _frontier(data: Data, title: str) -> str:
    """A panel per temperature; the dotted line is what the unquantised draft would be accepted at."""
    scheme, ell, frozen = pl.col("scheme"), pl.col("lattice_resolution"), pl.col("frozen_threshold")
    is_void = (pl.col("guarantee") == VOID).any().over("temperature", "key")
    every = data.frontier_runs.with_columns(is_void=is_void)
    resolutions = sorted(set(every.filter(scheme == "k-sqs")["lattice_resolution"]))
    colours = cycle((charts.LIGHT_BLUE, charts.BLUE, charts.TEAL, charts.VIOLET))
    adaptive, void = IS_ADAPTIVE & ~pl.col("is_void"), IS_ADAPTIVE & pl.col("is_void")
    looks = [
        Look("dense-qs over ℓ", charts.GREY, scheme == "dense-qs"),
        *(
            Look(f"k-sqs over K, ℓ = {value}", colour, (scheme == "k-sqs") & (ell == value))
            for value, colour in zip(resolutions, colours, strict=False)
        ),
        Look("c-sqs over β, frozen", charts.BROWN, (scheme == "c-sqs") & frozen, "dashed", shape="x"),
        Look("c-sqs over β, η, α*", charts.ORANGE, adaptive, "none", shape="v"),
        Look("the same, guarantee void", charts.RED, void, "none", hollow=True, shape="v"),
    ]
    panels = []
    for temperature, runs in by_temperature(every):
        series = [one for one in _series(runs, looks, "bits", "acceptance", by="key") if one.marks]
        limit = estimate(1 - runs["draft_distance"]).mean
        x = charts.logarithmic("payload bits a drafted token", (m.x for one in series for m in one.marks))
        rates = [*_reach(series), limit]
        y = charts.linear("acceptance rate", rates, from_zero=max(rates) > 3 * min(rates))
        ends = (Mark(x.low, limit), Mark(x.high, limit))
        name = "1 − TV(p, q): the draft as it is"
        series.append(Series(name, charts.INK, ends, line="dotted", dots=False))
        panels.append(Panel(f"temperature {temperature:g}", x, y, tuple(series)))
    title = f"{title}, every setting"
    return charts.draw(title, panels, columns=3, caption=data.frontier_caption)


def _series(
    lines: pl.DataFrame, looks: Sequence[Look], x: str, y: str, *, by: str | None = None, shift: float = 0.0
) -> tuple[Series, ...]:
    """A series a look, `shift` points apart: a mark a value of `by` (if None, of `x`), ascending in x."""
    series = []
    for number, look in enumerate(looks):
        parts = lines.filter(look.of).partition_by(by or x, maintain_order=True)
        marks = [_mark(estimate(part[x]).mean, part[y], hollow=look.hollow) for part in parts]
        marks.sort(key=lambda mark: mark.x)
        moved = shift * (number - (len(looks) - 1) / 2)
        series.append(Series(look.name, look.colour, tuple(marks), look.line, shift=moved, shape=look.shape))
    return tuple(series)


def _is(setting: str) -> pl.Expr:
    return pl.col("setting") == setting


def _mark(x: float, values: Iterable[float], *, hollow: bool = False) -> Mark:
    over_seeds = estimate(values)
    return Mark(float(x), over_seeds.mean, over_seeds.error, hollow)


def _reach(series: Iterable[Series]) -> list[float]:
    """Values that an axis must show, error bars included."""
    marks = [mark for entry in series for mark in entry.marks]
    return [mark.y for mark in marks] + [end for mark in marks for end in mark.ends or ()]


def _short(setting: str) -> str:
    """K = 2 → K over 2; β = 0.05, frozen → β* over .05."""
    letter, _, value = setting.partition(" = ")
    number, _, frozen = value.partition(", ")
    return f"{letter}{'*' if frozen else ''}\n{number.removeprefix('0')}"
