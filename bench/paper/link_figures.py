"""Figures 2, 4 and 5: real texts over a real link; points are means over seeds, bars standard errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench import charts
from bench.charts import (
    AMBER,
    BLUE,
    BROWN,
    GREEN,
    LIGHT_BLUE,
    ORANGE,
    RED,
    TEAL,
    VIOLET,
    Colour,
    Panel,
    Series,
)
from bench.paper.claims import latency_ms
from bench.paper.data import Data, Value, link_caption
from bench.paper.marks import mark, reach

LATENCY = "latency, ms a token"
RESAMPLING = "resampled / output tokens"
_K_COLOURS = (BLUE, LIGHT_BLUE, TEAL, VIOLET)
_BETA_COLOURS = (ORANGE, AMBER, RED, BROWN)
_TEMPERATURE_COLOURS = (
    BLUE,
    TEAL,
    GREEN,
    ORANGE,
    RED,
    VIOLET,
    BROWN,
)
_SHIFT = 5.0
"""Pixels between series that share their x."""


def figure_2(data: Data) -> str:
    """Latency and resampling rate against temperature, K-SQS and C-SQS."""
    plan = data.plan
    rows = [
        (f"K = {size}", f"K-SQS, K = {size}", _K_COLOURS[n]) for n, size in _few(plan.compared_support_sizes)
    ]
    rows += [(f"β = {b:g}", f"C-SQS, β = {b:g}", _BETA_COLOURS[n]) for n, b in _few(plan.compared_thresholds)]
    series = [(setting, name, colour, "solid") for setting, name, colour in rows]
    return charts.draw(
        "Figure 2: latency and resampling rate against temperature",
        _against_temperature(data, series),
        columns=2,
        caption=link_caption(data),
    )


def figure_5(data: Data) -> str:
    """C-SQS adaptive and frozen against temperature."""
    series = []
    for number, beta in _few(data.plan.compared_thresholds):
        for suffix, line in (("", "solid"), (", frozen", "dashed")):
            name = f"β = {beta:g}{suffix or ', adaptive'}"
            series.append((f"β = {beta:g}{suffix}", name, _BETA_COLOURS[2 * number % 4], line))
    return charts.draw(
        "Figure 5: C-SQS, adaptive and frozen",
        _against_temperature(data, series),
        columns=2,
        caption=link_caption(data),
    )


def figure_4(data: Data) -> str:
    """Latency against K and against β, a line per temperature."""
    plan = data.plan
    columns: list[tuple[str, str, Sequence[float], str]] = [
        ("K-SQS", "K", plan.support_sizes, "K = {:g}"),
        ("C-SQS, adaptive", "initial threshold β", plan.thresholds, "β = {:g}"),
    ]
    panels, every = [], []
    for title, axis, values, setting in columns:
        series = []
        for number, temperature in enumerate(data.temperatures):
            points = [(v, data.point(setting.format(v), temperature, latency_ms)) for v in values]
            series.append(
                Series(
                    f"temperature {temperature:g}",
                    _TEMPERATURE_COLOURS[number % len(_TEMPERATURE_COLOURS)],
                    tuple(mark(float(x), point) for x, point in points),
                    shift=_SHIFT * (number - (len(data.temperatures) - 1) / 2),
                )
            )
        every += series
        panels.append((title, charts.at_values(axis, map(float, values), is_log=True), series))
    y = charts.linear(LATENCY, reach(every))
    return charts.draw(
        "Figure 4: latency against K and against β",
        [Panel(title, x, y, tuple(series)) for title, x, series in panels],
        columns=2,
        caption=link_caption(data),
    )


def _against_temperature(data: Data, rows: Sequence[tuple[str, str, Colour, Any]]) -> list[Panel]:
    temperatures = data.temperatures
    panels = []
    values: tuple[tuple[str, str, Value], ...] = (
        ("latency", LATENCY, latency_ms),
        ("resampling rate", RESAMPLING, lambda record: record.resampling_rate),
    )
    for title, axis, value in values:
        series = [
            Series(
                name,
                colour,
                tuple(mark(t, data.point(setting, t, value), hollow=line == "dashed") for t in temperatures),
                line=line,
                shift=_SHIFT * (number - (len(rows) - 1) / 2),
            )
            for number, (setting, name, colour, line) in enumerate(rows)
        ]
        x = charts.at_values("temperature", temperatures)
        panels.append(Panel(title, x, charts.linear(axis, reach(series)), tuple(series)))
    return panels


def _few(values: Sequence[Any]) -> list[tuple[int, Any]]:
    """Numbered, as many as there are colours."""
    return list(enumerate(values))[: len(_K_COLOURS)]
