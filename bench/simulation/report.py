"""Page and figures of a simulation: what was fitted, how far off it is, what it says of a thousand edges."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import Any

from bench import charts
from bench.grid.cells import Cell, rate_text
from bench.markdown import table
from bench.simulation import extrapolate
from bench.simulation.check import FIGURES, HEADLINE, worst
from bench.simulation.citations import CHECK, TARGET, TARGET_REMARK
from bench.simulation.extrapolate import LargeModels
from bench.simulation.fit import Fit

Line = dict[str, Any]
"""Of `simulation.jsonl`."""
_COLOURS = (charts.GREY, charts.BROWN, charts.BLUE, charts.GREEN, charts.RED, charts.VIOLET)
_TEXTS = f"texts of {extrapolate.TEXT_TOKENS} tokens"
_LINKS = f"RTT {extrapolate.RTT_S * 1000:g} ms, down four times up"
_POINT_COLUMNS = {
    "up": "{up}",
    "method": "{name}",
    "γ": "{draft_length}",
    "edges": "{edges}",
    "p50, ms a token": "{p50_ms:.1f}",
    "p95": "{p95_ms:.1f}",
    "mean": "{mean_ms:.1f}",
    "tokens/s, all": "{tokens_per_s:.0f}",
    "passes a token": "{passes_per_token:.3f}",
    "rows a pass": "{rows_per_pass:.1f}",
    "busy": "{busy:.0%}",
    "bytes up a token": "{up_bytes_per_token:.0f}",
    "down": "{down_bytes_per_token:.0f}",
}


def fit_section(fitted: Fit) -> str:
    """The parameters."""
    links = "; ".join(f"{rate_text(rate)} up, RTT {rtt * 1000:g} ms" for rate, rtt in fitted.links)
    times = [
        [
            name,
            *(f"{1000 * seconds:.2f}" for seconds in (one.draft_step_s, one.edge_round_s, one.block_s)),
            *(f"{1000 * seconds:.1f}" for seconds in (one.prompt_s, one.opening_s)),
            f"{one.opening_up_bytes} / {one.opening_down_bytes}",
        ]
        for name, one in fitted.times.items()
    ]
    head = ("draft step, ms", "edge, ms a round", "cloud, ms a block", "prompt, ms", "opening, ms")
    rounds = [
        [
            *(name, f"{temperature:g}", str(len(lines))),
            f"{sum(lines['accepted']) / len(lines):.2f}",
            f"{sum(lines['uplink_payload_bits']) / len(lines) / 8:.1f}",
        ]
        for (name, temperature), lines in fitted.rounds.items()
    ]
    return f"""\
## What was fitted

From the texts on: {links}. Nothing below was fitted to any other link.
A further row of a pass costs {fitted.per_row_s * 1000:.2f} ms, both ends' network stacks \
{fitted.transport_s * 1000:.2f} ms a round.

{table(("method", *head, "opening, bytes up / down"), times, left=1)}

{table(("method", "temperature", "rounds", "accepted a round", "payload, bytes"), rounds, left=1)}"""


def check_section(predictions: Sequence[Line], left_out: Sequence[str], limit: float) -> str:
    """Measured, predicted, error of every cell off the links of the fit."""
    rows, summary = [], []
    for one in predictions:
        compared = [[one[kind][figure] for kind in ("measured", "predicted", "error")] for figure in FIGURES]
        words = ["{:.4g} → {:.4g} ({:+.1%})".format(*values) for values in compared]
        rows.append([_cell(one), one["method"], str(one["texts"]), *words])
    for figure, name in FIGURES.items():
        furthest = worst(predictions, figure)
        errors = [abs(one["error"][figure]) for one in predictions]
        where = f"{furthest['method']}; {_cell(furthest)}"
        summary.append([name, where, f"{statistics.median(errors):.1%}", f"{max(errors):.1%}"])
    within = sum(abs(one["error"][HEADLINE]) <= limit for one in predictions)
    reasons = "\n".join(f"- {reason}" for reason in left_out)
    return f"""\
## Against cells it was not fitted to

{len(predictions)} cells; {within} of them within {limit:.0%} of the measured {FIGURES[HEADLINE]}.

{table(("figure", "worst cell", "median error", "worst error"), summary, left=2)}

Measured → predicted (error):

{table(("cell", "method", "texts", *FIGURES.values()), rows, left=2)}""" + (
        f"\n\nNot predicted:\n\n{reasons}" if reasons else ""
    )


def extrapolation_section(
    models: LargeModels, points: Sequence[Line], capacities: Sequence[Line], figures: Sequence[str]
) -> str:
    """A thousand edges: the lines of `LargeModels.points` and `LargeModels.capacities` as tables."""
    draft, line, ((check_rows, check_ms),) = (
        models.draft,
        extrapolate.BATCHINGS[extrapolate.BY_ROW],
        CHECK.step_ms.items(),
    )
    target_ms = 1000 * capacities[0]["target_s"]
    factors = ", ".join(f"{factor:.2f} ({way})" for way, factor in extrapolate.LARGE_VOCABULARY.items())
    seconds = ", ".join(f"{seconds * 1e6:.0f} µs ({way})" for way, seconds in extrapolate.CODEC_S.items())
    images = "\n".join(f"![{name}]({name})" for name in figures)
    parts = [
        f"""\
## Large models, 1 to 1000 edges

Simulated, not measured; acceptance and payloads are the bundled pair's at temperature {models.temperature:g}.

- Target: {TARGET.name}; {TARGET.address}. {TARGET_REMARK}
  Pass = {line.fixed_s * 1000:.2f} ms + {line.per_row_s * 1000:.3f} ms a row; at most \
{extrapolate.MOST_ROWS} at once, the most that was published.
  {CHECK.name}; {CHECK.address}: {check_ms:.1f} ms a step, the line says \
{line.seconds(rows=check_rows, blocks=check_rows) * 1000:.1f} ms.
- Draft: {draft.name}; {draft.address}: {1000 / draft.step_ms[1]:g} tokens/s.
- Payloads times {factors} for a vocabulary of 151 936; decoding and testing {seconds} a drafted token at \
the cloud (bench/LOG.md).
- Every edge always busy, {_TEXTS}, {_LINKS}.

{images}

### Edges one cloud carries

At most {target_ms:g} ms a token; first by the 95th percentile over tokens, then by the mean.

{_capacity_table(capacities)}

More clouds are multiplication."""
    ]
    for batching in dict.fromkeys(point["batching"] for point in points):
        rows = [_point_row(point) for point in points if point["batching"] == batching]
        title = f"{batching[0].upper()}{batching[1:]}"
        parts.append(f"### {title}\n\n{table(tuple(_POINT_COLUMNS), rows, left=2)}")
    return "\n\n".join(parts)


def draw(points: Sequence[Line], models: LargeModels, target_s: float) -> str:
    """
    Time a token over the edges of one batching, as an SVG document; a panel an uplink.

    Args:
        points: lines of `LargeModels.points`; those without headers are left out.
        models: what was assumed.
        target_s: a token may take.
    """
    shown = [point for point in points if point["headers"]]
    names = list(dict.fromkeys(point["method"] for point in shown))
    edges = charts.logarithmic("edges", [point["edges"] for point in shown])
    seconds = [target_s, *(point[name] for point in shown for name in ("mean_s", "p95_s"))]
    upwards = charts.logarithmic("ms a token", [1000 * value for value in seconds])
    panels = []
    for rate in sorted({point["rate_up_bps"] for point in shown}):
        series = []
        for name, colour in zip(names, itertools.cycle(_COLOURS), strict=False):
            own = [point for point in shown if (point["rate_up_bps"], point["method"]) == (rate, name)]
            mean, tail = (
                tuple(charts.Mark(point["edges"], 1000 * point[statistic]) for point in own)
                for statistic in ("mean_s", "p95_s")
            )
            # The legend names a method once.
            series.append(charts.Series(name, colour, mean))
            series.append(charts.Series("", colour, tail, line="dashed", dots=False))
        across = tuple(charts.Mark(end, 1000 * target_s) for end in (edges.low, edges.high))
        series.append(charts.Series("target", charts.INK, across, line="dotted", dots=False))
        panels.append(charts.Panel(f"{rate_text(rate)} up", edges, upwards, tuple(series)))
    title = f"Time a token over the edges on one cloud, {shown[0]['batching']} (simulated)"
    caption = (
        "Solid: mean. Dashed: 95th percentile over tokens. Simulated, not measured. "
        f"Target: {TARGET.name}. Draft: {models.draft.name}. Temperature {models.temperature:g}, "
        f"{_TEXTS}, every edge always busy, {_LINKS}."
    )
    return charts.draw(title, panels, columns=len(panels), caption=caption)


def _capacity_table(capacities: Sequence[Line]) -> str:
    found: dict[tuple[str, str], dict[int, list[str]]] = {}
    for one in capacities:
        edges, length = one["edges"], one["draft_length"]
        words = f"{edges} (γ {length})" if length and edges else str(edges)
        of_rate = found.setdefault((one["batching"], one["method"]), {})
        of_rate.setdefault(one["rate_up_bps"], []).append(words)
    rates = sorted({one["rate_up_bps"] for one in capacities})
    rows = [[*key, *(" / ".join(of_rate[rate]) for rate in rates)] for key, of_rate in found.items()]
    return table(("one pass takes", "method", *(f"{rate_text(rate)} up" for rate in rates)), rows, left=2)


def _point_row(point: Line) -> list[str]:
    values = {
        **point,
        **{f"{name}_ms": 1000 * point[f"{name}_s"] for name in ("p50", "p95", "mean")},
        "up": rate_text(point["rate_up_bps"]),
        "name": point["method"] + ("" if point["headers"] else ", messages alone"),
    }
    return [text.format_map(values) for text in _POINT_COLUMNS.values()]


def _cell(line: Line) -> str:
    return str(Cell(line["rate_up_bps"], line["rtt_s"], line["temperature"]))
