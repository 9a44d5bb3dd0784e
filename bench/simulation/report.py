"""Markdown of a simulation: what was fitted, how far off it is, what it says of a thousand edges."""

from __future__ import annotations

from collections.abc import Sequence

from bench.grid.cells import rate_text
from bench.simulation.check import FIGURES, HEADLINE, Prediction, median_error, worst
from bench.simulation.citations import CHECK
from bench.simulation.extrapolate import CODEC_S, LARGE_VOCABULARY, RTT_S, Capacity, Point, Setting
from bench.simulation.fit import Fit

_NAMES = {
    "tokens_per_s": "output tokens/s",
    "seconds_per_token": "seconds a token behind the first",
    "wire_up_bytes": "bytes up a token",
    "wire_down_bytes": "bytes down a token",
    "target_passes": "target passes a token",
}


def fit_section(fitted: Fit) -> str:
    """The parameters."""
    links = "; ".join(f"{rate_text(rate)} up, RTT {rtt * 1000:g} ms" for rate, rtt in fitted.links)
    rows = [
        f"| {name} | {times.draft_step_s * 1000:.2f} | {times.edge_round_s * 1000:.2f} "
        f"| {times.block_s * 1000:.2f} | {times.prompt_s * 1000:.1f} | {times.opening_s * 1000:.1f} "
        f"| {times.opening_up_bytes} / {times.opening_down_bytes} |"
        for name, times in fitted.times.items()
    ]
    samples = [
        f"| {name} | {temperature:g} | {len(lines)} "
        f"| {sum(line['accepted'] for line in lines) / len(lines):.2f} "
        f"| {sum(line['uplink_payload_bits'] for line in lines) / len(lines) / 8:.1f} |"
        for (name, temperature), lines in fitted.rounds.items()
    ]
    return "\n".join(
        [
            "## What was fitted",
            "",
            f"From the texts on: {links}. Nothing below was fitted to any other link.",
            f"A further row of a pass costs {fitted.per_row_s * 1000:.2f} ms, both ends' network stacks "
            f"{fitted.transport_s * 1000:.2f} ms a round.",
            "",
            "| method | draft step, ms | edge, ms a round | cloud, ms a block | prompt, ms "
            "| opening, ms | opening, bytes up / down |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *rows,
            "",
            "| method | temperature | rounds | accepted a round | payload, bytes |",
            "|---|---:|---:|---:|---:|",
            *samples,
        ]
    )


def check_section(predictions: Sequence[Prediction], left_out: Sequence[str], limit: float) -> str:
    """Measured, predicted, error of every cell off the links of the fit."""
    rows = [
        f"| {one.cell} | {one.method} | {one.texts} | "
        + " | ".join(
            f"{one.measured[figure]:.4g} → {one.predicted[figure]:.4g} ({one.error(figure):+.1%})"
            for figure in FIGURES
        )
        + " |"
        for one in predictions
    ]
    summary = [
        f"| {_NAMES[figure]} | {median_error(predictions, figure):.1%} "
        f"| {abs(worst(predictions, figure).error(figure)):.1%} "
        f"| {worst(predictions, figure).method}; {worst(predictions, figure).cell} |"
        for figure in FIGURES
    ]
    within = sum(abs(one.error(HEADLINE)) <= limit for one in predictions)
    return "\n".join(
        [
            "## Against cells it was not fitted to",
            "",
            f"{len(predictions)} cells; {within} of them within {limit:.0%} of the measured "
            f"{_NAMES[HEADLINE]}.",
            "",
            "| figure | median error | worst error | worst cell |",
            "|---|---:|---:|---|",
            *summary,
            "",
            "Measured → predicted (error):",
            "",
            "| cell | method | texts | " + " | ".join(_NAMES[figure] for figure in FIGURES) + " |",
            "|---|---|---:|" + "---:|" * len(FIGURES),
            *rows,
            *(["", "Not predicted:", "", *(f"- {reason}" for reason in left_out)] if left_out else []),
        ]
    )


def extrapolation_section(
    setting: Setting, points: Sequence[Point], capacities: Sequence[Capacity], figures: Sequence[str]
) -> str:
    """A thousand edges."""
    by_row = setting.target.by_row
    parts = [
        "## Large models, 1 to 1000 edges",
        "",
        "Simulated, not measured; acceptance and payloads are the bundled pair's at temperature "
        f"{setting.temperature:g}.",
        "",
        f"- Target: {setting.target.name}; {setting.target.address}. {setting.target.remark}",
        f"  Pass = {by_row.fixed_s * 1000:.2f} ms + {by_row.per_row_s * 1000:.3f} ms a row; at most "
        f"{setting.target.max_rows} at once, the most that was published.",
        f"  {CHECK.name}; {CHECK.address}: {CHECK.step_ms[0][1]:.1f} ms a step, the line says "
        f"{by_row.seconds(rows=64, blocks=64) * 1000:.1f} ms.",
        f"- Draft: {setting.draft.name}; {setting.draft.address}: {setting.draft.tokens_per_s:g} tokens/s.",
        "- Payloads times "
        + ", ".join(f"{factor:.2f} ({way})" for way, factor in LARGE_VOCABULARY.items())
        + " for a vocabulary of 151 936; decoding and testing "
        + ", ".join(f"{seconds * 1e6:.0f} µs ({way})" for way, seconds in CODEC_S.items())
        + " a drafted token at the cloud (bench/LOG.md).",
        f"- Every edge always busy, texts of {setting.tokens} tokens, RTT {RTT_S * 1000:g} ms, down four "
        "times up.",
        "",
        *(f"![{name}]({name})" for name in figures),
        "",
        "### Edges one cloud carries",
        "",
        f"At most {capacities[0].target_s * 1000:g} ms a token; first by the 95th percentile over tokens, "
        "then by the mean."
        if capacities
        else "",
        "",
        *_capacity_table(capacities),
        "",
        "More clouds are multiplication.",
    ]
    for batching in dict.fromkeys(point.batching for point in points):
        chosen = [point for point in points if point.batching == batching]
        parts += ["", f"### {batching[0].upper()}{batching[1:]}", "", *_point_table(chosen)]
    return "\n".join(parts)


def assumed(setting: Setting) -> str:
    """What an extrapolation's figure stands on, for its caption."""
    return (
        f"Target: {setting.target.name}. Draft: {setting.draft.name}. Temperature {setting.temperature:g}, "
        f"texts of {setting.tokens} tokens, every edge always busy, RTT {RTT_S * 1000:g} ms, down "
        "four times up."
    )


def _capacity_table(capacities: Sequence[Capacity]) -> list[str]:
    rates = sorted({one.rate_up_bps for one in capacities})
    found = {(one.batching, one.method, one.rate_up_bps, one.statistic): _carried(one) for one in capacities}
    rows = [
        f"| {batching} | {method} | "
        + " | ".join(
            f"{found[batching, method, rate, 'p95']} / {found[batching, method, rate, 'mean']}"
            for rate in rates
        )
        + " |"
        for batching, method in dict.fromkeys((one.batching, one.method) for one in capacities)
    ]
    head = "| one pass takes | method | " + " | ".join(f"{rate_text(rate)} up" for rate in rates) + " |"
    return [head, "|---|---|" + "---:|" * len(rates), *rows]


def _carried(one: Capacity) -> str:
    return f"{one.edges} (γ {one.draft_length})" if one.draft_length and one.edges else str(one.edges)


def _point_table(points: Sequence[Point]) -> list[str]:
    head = [
        "| up | method | γ | edges | p50, ms a token | p95 | mean | tokens/s, all | passes a token "
        "| rows a pass | busy | bytes up a token | down |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    return head + [
        f"| {rate_text(p.rate_up_bps)} | {p.method}{'' if p.headers else ', messages alone'} "
        f"| {p.draft_length} | {p.edges} | {p.p50_s * 1000:.1f} | {p.p95_s * 1000:.1f} "
        f"| {p.mean_s * 1000:.1f} | {p.tokens_per_s:.0f} | {p.passes_per_token:.3f} "
        f"| {p.rows_per_pass:.1f} | {p.busy:.0%} | {p.up_bytes_per_token:.0f} "
        f"| {p.down_bytes_per_token:.0f} |"
        for p in points
    ]
