"""The free-running part of a simulation's page: what was fitted, how far off it is, what a crowd makes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench import charts
from bench.grid.cells import Cell, rate_text
from bench.markdown import table
from bench.simulation import extrapolate
from bench.simulation.check import worst
from bench.simulation.citations import TARGET
from bench.simulation.fit import STREAMS
from bench.simulation.free_crowd import PLAIN
from bench.simulation.free_fit import FIGURES, FreeFit

Line = dict[str, Any]
"""Of `simulation.jsonl`."""
_LOCK_STEP = "k-sqs"
FIGURE = "writing-by-itself.svg"


def fit_section(fits: Mapping[str, FreeFit], predictions: Mapping[str, Sequence[Line]], limit: float) -> str:
    """
    The parameters and the cells off the links of the fits.

    Args:
        fits, predictions: by what a run's passes were.
    """
    parts = [
        """\
## A cloud that writes by itself

The daemons' own sessions in virtual time; a row of the second table is a run of its own, fitted to one of its
links."""
    ]
    names = ("draft_s", "refeed_s", "hint_s", "turn_s", "prompt_row_s", "opening_s")
    head = (
        "passes",
        "fitted to",
        "a pass, ms",
        "a further row",
        *(name[:-2].replace("_", " ") for name in names),
    )
    rows = [
        [
            words,
            f"{rate_text(one.link[0])}, {one.link[1] * 1000:g} ms",
            f"{1000 * one.passes.seconds(rows=1, blocks=1):.2f}",
            f"{1000 * one.passes.per_row_s:.2f}",
            *(f"{1000 * getattr(one.times, name):.2f}" for name in names),
        ]
        for words, one in fits.items()
    ]
    parts.append(table(head, rows, left=2))
    rows, summary = [], []
    for words, lines in predictions.items():
        for figure, name in FIGURES.items():
            errors = [abs(one["error"][figure]) for one in lines]
            furthest = _cell(worst(lines, figure))
            within = f"{sum(error <= limit for error in errors)} of {len(errors)}"
            errors_words = (f"{statistics.median(errors):.1%}", f"{max(errors):.1%}")
            summary.append([words, name, furthest, within, *errors_words])
        for one in lines:
            compared = [[one[kind][name] for kind in ("measured", "predicted", "error")] for name in FIGURES]
            figures = ["{:.4g} → {:.4g} ({:+.1%})".format(*values) for values in compared]
            rows.append([words, _cell(one), str(one["texts"]), *figures])
    head = ("passes", "figure", "worst cell", f"within {limit:.0%}", "median error", "worst error")
    parts += [table(head, summary, left=3), "Measured → predicted (error):"]
    parts.append(table(("passes", "cell", "texts", *FIGURES.values()), rows, left=2))
    return "\n\n".join(parts)


def crowd_section(points: Sequence[Line]) -> str:
    """What free running earns and costs where passes are shared: lines of `free_crowd.crowds`."""
    rows = []
    for one in points:
        if one["method"] == PLAIN:
            continue
        theirs = _plain(one, points, PLAIN)
        ratios = [one[name] / theirs[name] for name in ("tokens_per_s", "passes_per_token", "rows_per_token")]
        rows.append(
            [
                *(one["batching"], f"{one['temperature']:g}", str(one["edges"])),
                *(f"{1000 * each['mean_s']:.1f} / {1000 * each['p95_s']:.1f}" for each in (one, theirs)),
                *(f"{ratio:.2f}" for ratio in ratios),
                *(f"{one['rows_per_pass']:.0f}", f"{one['busy']:.0%}", f"{one['up_bytes_per_token']:.0f}"),
            ]
        )
    first = points[0]
    head = ("one pass takes", "temperature", "edges", "ms a token, mean / p95", "plain stream's")
    more = ("tokens/s over its", "passes over its", "rows over its", "rows a pass", "busy", "bytes up")
    return f"""\
### Writing by itself, beside plain streams

Simulated, not measured: scheme `coupled`, drafts of up to {first["draft_length"]} tokens, the models above; \
{rate_text(first["rate_up_bps"])} up, RTT {extrapolate.RTT_S * 1000:g} ms; at most {extrapolate.MOST_ROWS} \
rows a pass by row, as many sessions by block.
The plain stream is of the same sessions, without draft and copies.
Above 1 in "tokens/s over its" is what hints earn, above 1 in "rows over its" what they cost.

![{FIGURE}]({FIGURE})

{table((*head, *more), rows, left=1)}"""


def draw(points: Sequence[Line], beside: Sequence[Line]) -> str:
    """
    Tokens/s over those of as many plain streams, a panel a batching, as an SVG document.

    Args:
        points: lines of `free_crowd.crowds`.
        beside: lines of `LargeModels.points`: lock-step, and the streams that it is held against.
    """
    steps = [one for one in beside if one["method"].startswith(_LOCK_STEP) and one["headers"]]
    steps = [one for one in steps if one["rate_up_bps"] == points[0]["rate_up_bps"]]
    batchings = dict.fromkeys(one["batching"] for one in points)
    steps = [one for one in steps if one["batching"] in batchings]
    shown = [*(one for one in points if one["method"] != PLAIN), *steps]
    theirs = [_plain(one, *((beside, STREAMS[0]) if one in steps else (points, PLAIN))) for one in shown]
    over = {
        id(one): one["tokens_per_s"] / other["tokens_per_s"] for one, other in zip(shown, theirs, strict=True)
    }
    names = dict.fromkeys((one["method"], one["temperature"]) for one in shown)
    edges = charts.logarithmic("edges", [one["edges"] for one in shown])
    upwards = charts.logarithmic("tokens/s over plain streams'", [1.0, *over.values()])
    panels = []
    for batching in batchings:
        series = []
        for key, colour in zip(names, (charts.BLUE, charts.GREEN, charts.BROWN, charts.VIOLET), strict=False):
            own = [
                one
                for one in shown
                if (one["batching"], one["method"], one["temperature"]) == (batching, *key)
            ]
            marks = tuple(charts.Mark(one["edges"], over[id(one)]) for one in own)
            series.append(charts.Series(f"{key[0]}, temperature {key[1]:g}", colour, marks))
        across = tuple(charts.Mark(end, 1.0) for end in (edges.low, edges.high))
        series.append(charts.Series("plain streams", charts.INK, across, line="dotted", dots=False))
        panels.append(charts.Panel(batching, edges, upwards, tuple(series)))
    title = "A cloud that writes by itself, and lock-step, over plain streams (simulated)"
    return charts.draw(title, panels, columns=len(panels), caption=f"Target: {TARGET.name}.")


def _plain(line: Line, among: Sequence[Line], method: str) -> Line:
    """The plain stream's line at the same place."""
    names = ("batching", "rate_up_bps", "temperature", "edges")
    wanted = [method, True, *(line[name] for name in names)]
    return next(one for one in among if [one[name] for name in ("method", "headers", *names)] == wanted)


def _cell(line: Line) -> str:
    return str(Cell(line["rate_up_bps"], line["rtt_s"], line["temperature"]))
