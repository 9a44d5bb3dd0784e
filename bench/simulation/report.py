"""Page and figures of a simulation: what was fitted, how far off it is, what it says of a thousand edges."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence

from bench import charts
from bench.grid.cells import rate_text
from bench.markdown import table
from bench.simulation.check import FIGURES, HEADLINE, Prediction, worst
from bench.simulation.citations import CHECK
from bench.simulation.extrapolate import CODEC_S, LARGE_VOCABULARY, RTT_S, Capacity, Point, Setting
from bench.simulation.fit import Fit

_COLOURS = (charts.GREY, charts.BROWN, charts.BLUE, charts.GREEN, charts.RED, charts.VIOLET)
_NAMES = {
    "tokens_per_s": "output tokens/s",
    "seconds_per_token": "seconds a token after the first",
    "wire_up_bytes": "bytes up a token",
    "wire_down_bytes": "bytes down a token",
    "target_passes": "target passes a token",
}


def fit_section(fitted: Fit) -> str:
    """The parameters."""
    links = "; ".join(f"{rate_text(rate)} up, RTT {rtt * 1000:g} ms" for rate, rtt in fitted.links)
    times = [
        [
            name,
            *(f"{1000 * seconds:.2f}" for seconds in (one.draft_step_s, one.edge_round_s, one.block_s)),
            *(f"{1000 * seconds:.1f}" for seconds in (one.ends.prompt_s, one.ends.opening_s)),
            f"{one.ends.opening_up_bytes} / {one.ends.opening_down_bytes}",
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


def check_section(predictions: Sequence[Prediction], left_out: Sequence[str], limit: float) -> str:
    """Measured, predicted, error of every cell off the links of the fit."""
    rows = [
        [
            *(str(one.cell), one.method, str(one.texts)),
            *(
                f"{one.measured[figure]:.4g} → {one.predicted[figure]:.4g} ({one.error(figure):+.1%})"
                for figure in FIGURES
            ),
        ]
        for one in predictions
    ]
    furthest = {figure: worst(predictions, figure) for figure in FIGURES}
    summary = [
        [
            _NAMES[figure],
            f"{one.method}; {one.cell}",
            f"{statistics.median(abs(one.error(figure)) for one in predictions):.1%}",
            f"{abs(one.error(figure)):.1%}",
        ]
        for figure, one in furthest.items()
    ]
    within = sum(abs(one.error(HEADLINE)) <= limit for one in predictions)
    reasons = "\n".join(f"- {reason}" for reason in left_out)
    return f"""\
## Against cells it was not fitted to

{len(predictions)} cells; {within} of them within {limit:.0%} of the measured {_NAMES[HEADLINE]}.

{table(("figure", "worst cell", "median error", "worst error"), summary, left=2)}

Measured → predicted (error):

{table(("cell", "method", "texts", *_NAMES.values()), rows, left=2)}""" + (
        f"\n\nNot predicted:\n\n{reasons}" if reasons else ""
    )


def extrapolation_section(
    setting: Setting, points: Sequence[Point], capacities: Sequence[Capacity], figures: Sequence[str]
) -> str:
    """A thousand edges."""
    target, draft, line = setting.target, setting.draft, setting.target.by_row
    factors = ", ".join(f"{factor:.2f} ({way})" for way, factor in LARGE_VOCABULARY.items())
    seconds = ", ".join(f"{seconds * 1e6:.0f} µs ({way})" for way, seconds in CODEC_S.items())
    images = "\n".join(f"![{name}]({name})" for name in figures)
    parts = [
        f"""\
## Large models, 1 to 1000 edges

Simulated, not measured; acceptance and payloads are the bundled pair's at temperature \
{setting.temperature:g}.

- Target: {target.name}; {target.address}. {target.remark}
  Pass = {line.fixed_s * 1000:.2f} ms + {line.per_row_s * 1000:.3f} ms a row; at most {target.max_rows} at \
once, the most that was published.
  {CHECK.name}; {CHECK.address}: {CHECK.step_ms[0][1]:.1f} ms a step, the line says \
{line.seconds(rows=64, blocks=64) * 1000:.1f} ms.
- Draft: {draft.name}; {draft.address}: {draft.tokens_per_s:g} tokens/s.
- Payloads times {factors} for a vocabulary of 151 936; decoding and testing {seconds} a drafted token at \
the cloud (bench/LOG.md).
- Every edge always busy, texts of {setting.tokens} tokens, RTT {RTT_S * 1000:g} ms, down four times up.

{images}

### Edges one cloud carries

At most {capacities[0].target_s * 1000:g} ms a token; first by the 95th percentile over tokens, then by the \
mean.

{_capacity_table(capacities)}

More clouds are multiplication."""
    ]
    for batching in dict.fromkeys(point.batching for point in points):
        chosen = [point for point in points if point.batching == batching]
        parts.append(f"### {batching[0].upper()}{batching[1:]}\n\n{_point_table(chosen)}")
    return "\n\n".join(parts)


def draw(points: Sequence[Point], setting: Setting, target_s: float) -> str:
    """
    Time a token over the edges of one batching, as an SVG document; a panel an uplink.

    Args:
        points: headers counted.
        setting: what was assumed.
        target_s: a token may take.
    """
    names = list(dict.fromkeys(point.method for point in points))
    edges = charts.logarithmic("edges", [point.edges for point in points])
    seconds = [target_s, *(value for point in points for value in (point.mean_s, point.p95_s))]
    upwards = charts.logarithmic("ms a token", [1000 * value for value in seconds])
    panels = []
    for rate in sorted({point.rate_up_bps for point in points}):
        series = []
        for name, colour in zip(names, itertools.cycle(_COLOURS), strict=False):
            own = [point for point in points if (point.rate_up_bps, point.method) == (rate, name)]
            mean = tuple(charts.Mark(point.edges, 1000 * point.mean_s) for point in own)
            tail = tuple(charts.Mark(point.edges, 1000 * point.p95_s) for point in own)
            # The legend names a method once.
            series.append(charts.Series(name, colour, mean))
            series.append(charts.Series("", colour, tail, line="dashed", dots=False))
        across = tuple(charts.Mark(end, 1000 * target_s) for end in (edges.low, edges.high))
        series.append(charts.Series("target", charts.INK, across, line="dotted", dots=False))
        panels.append(charts.Panel(f"{rate_text(rate)} up", edges, upwards, tuple(series)))
    title = f"Time a token over the edges on one cloud, {points[0].batching} (simulated)"
    caption = (
        "Solid: mean. Dashed: 95th percentile over tokens. Simulated, not measured. "
        f"Target: {setting.target.name}. Draft: {setting.draft.name}. Temperature {setting.temperature:g}, "
        f"texts of {setting.tokens} tokens, every edge always busy, RTT {RTT_S * 1000:g} ms, down "
        "four times up."
    )
    return charts.draw(title, panels, columns=len(panels), caption=caption)


def _capacity_table(capacities: Sequence[Capacity]) -> str:
    found: dict[tuple[str, str], dict[int, list[str]]] = {}
    for one in capacities:
        words = f"{one.edges} (γ {one.draft_length})" if one.draft_length and one.edges else str(one.edges)
        of_rate = found.setdefault((one.batching, one.method), {})
        of_rate.setdefault(one.rate_up_bps, []).append(words)
    rates = sorted({one.rate_up_bps for one in capacities})
    rows = [[*key, *(" / ".join(of_rate[rate]) for rate in rates)] for key, of_rate in found.items()]
    return table(("one pass takes", "method", *(f"{rate_text(rate)} up" for rate in rates)), rows, left=2)


def _point_table(points: Sequence[Point]) -> str:
    columns: dict[str, Callable[[Point], str]] = {
        "up": lambda p: rate_text(p.rate_up_bps),
        "method": lambda p: p.method if p.headers else f"{p.method}, messages alone",
        "γ": lambda p: str(p.draft_length),
        "edges": lambda p: str(p.edges),
        "p50, ms a token": lambda p: f"{p.p50_s * 1000:.1f}",
        "p95": lambda p: f"{p.p95_s * 1000:.1f}",
        "mean": lambda p: f"{p.mean_s * 1000:.1f}",
        "tokens/s, all": lambda p: f"{p.tokens_per_s:.0f}",
        "passes a token": lambda p: f"{p.passes_per_token:.3f}",
        "rows a pass": lambda p: f"{p.rows_per_pass:.1f}",
        "busy": lambda p: f"{p.busy:.0%}",
        "bytes up a token": lambda p: f"{p.up_bytes_per_token:.0f}",
        "down": lambda p: f"{p.down_bytes_per_token:.0f}",
    }
    return table(tuple(columns), [[text(p) for text in columns.values()] for p in points], left=2)
