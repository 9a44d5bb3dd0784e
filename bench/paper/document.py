"""The page beside the figures: parameters, verdicts on the claims, guarantees; from lines alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from bench.grid.store import read_lines, read_settings
from bench.markdown import NONE, table
from bench.paper.claims import Finding, equal_bits_findings, findings
from bench.paper.data import (
    IS_ADAPTIVE,
    LATENCY,
    STEPS,
    Data,
    estimate,
    frontier_caption,
    groups,
    link_caption,
    steps_caption,
)
from bench.paper.figures import LINK_FIGURES, STEP_FIGURES, TITLES
from bench.paper.steps import theorem_2_bounds

_CLAIMS = """\
A difference is taken seed by seed, then its mean ± standard error; positive speaks for the claim.
Seen: the mean is above the 95 % interval of Student's t over the seeds; not seen: below it; within error: \
in it.
In process, 'rejections' are those of every position of a long text, with the threshold carried on; \
over the link every text begins at β₁."""
_EQUAL_BITS = """\
K = 2 and 3 send less than an adaptive threshold does at high temperature.
Here K-SQS is read off at the bits that C-SQS sends, between the nearest K that were measured; \
'not measured' where no two K enclose them."""


def render(data: Data, folder: Path, *, figures_at: str) -> str:
    """
    The page as Markdown.

    Args:
        folder: of the lines, for what they were measured on.
        figures_at: where the figures are, seen from the page.
    """

    def shown(names: Iterable[str], caption: str) -> list[str]:
        pairs = [(f"## {TITLES[name]}", f"![{TITLES[name]}]({figures_at}/{name})") for name in names]
        return [*(part for pair in pairs for part in pair), caption]

    parts = ["# The paper's figures with the bundled pair", _head(data, folder)]
    if found := findings(data):
        parts += ["## The paper's claims", _CLAIMS, _verdicts(found)]
    if data.has_steps:
        parts += ["## Beside the claims: at the same bits", _EQUAL_BITS, _verdicts(equal_bits_findings(data))]
    if not data.texts.is_empty():
        parts += shown(LINK_FIGURES, link_caption(data))
        parts += [_link_table(data.texts), _link_guarantees(data.texts)]
    if data.has_steps:
        parts += shown(STEP_FIGURES[:2], steps_caption(data.theorem_runs))
        parts += [_theorem_table(data.theorem_runs), _theorem_guarantees(data.theorem_runs)]
        parts += shown(STEP_FIGURES[2:], frontier_caption(data.frontier_runs))
        parts += [_frontier_guarantees(data.frontier_runs)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(data: Data, folder: Path) -> str:
    lines = [
        "Written by `make figures` from measured lines, never by hand; "
        "`python -m bench.paper --redraw` writes it again without measuring.",
        f"Models: the bundled pair (demo-pair/thinwire_demo_pair/MODEL_CARD.md). Plan: {data.plan.name}.",
    ]
    for words, name in (("Over the link", LATENCY), ("In process", STEPS)):
        settings = read_settings(folder / name)
        if settings:
            versions = ", ".join(f"{key} {value}" for key, value in settings["versions"].items())
            lines.append(
                f"{words}: begun {settings['started_at']}, source {settings['revision']}; "
                f"{settings['machine']}; {versions}{_threads(settings)}."
            )
    links = read_lines(folder / LATENCY / "links.jsonl")
    late = [side["max_s"] or 0.0 for line in links for side in line["lateness"].values()]
    if late:
        lines.append(
            f"The link passed its self-test before every start; its latest packet was "
            f"{1000 * max(late):.1f} ms late."
        )
    if data.failed:
        lines.append(f"**{data.failed} texts failed and are in no figure.**")
    return "\n".join(lines)


def _threads(settings: dict[str, Any]) -> str:
    if "target_threads" not in settings:
        return ""
    return (
        f"; target on {settings['target_threads']} threads, draft model on {settings['draft_threads']}; "
        f"{settings['pacing']}, {settings['congestion_control']}"
    )


def _verdicts(found: Iterable[Finding]) -> str:
    rows = [
        [
            *(f.claim, f.compared, str(f.difference), f.unit, f"± {f.margin:.2g}", str(f.difference.count)),
            f"**{f.verdict}**",
        ]
        for f in found
    ]
    head = ("claim", "measured", "difference", "unit", "95 %", "seeds", "verdict")
    return table(head, rows, left=2)


def _link_table(texts: pl.DataFrame) -> str:
    """Every point over the link."""
    pooled = (
        *(("resampled_tokens", "rounds", 2), ("accepted_tokens", "tested_tokens", 3)),
        *(("output_tokens", "rounds", 2), ("uplink_payload_bits", "drafted_tokens", 0)),
        ("wire_up_bytes", "output_tokens", 0),
    )
    rows = []
    for temperature, setting, group in groups(texts):
        sums = group.sum().row(0, named=True)
        ratios = [(sums[a] / sums[b] if sums[b] else math.nan, digits) for a, b, digits in pooled]
        rows.append(
            [
                *(f"{temperature:g}", setting),
                *(str(estimate(group[name])) for name in ("latency_ms", "resampling_rate")),
                *(f"{ratio:.{digits}f}" for ratio, digits in ratios),
            ]
        )
    head = (
        *("temperature", "setting", "latency, ms a token", "resampling rate", "resampled a round"),
        *("acceptance", "tokens a round", "payload bits a drafted token", "wire bytes up a token"),
    )
    return table(head, rows, left=2)


def _link_guarantees(texts: pl.DataFrame) -> str:
    rows = []
    for temperature, setting, group in groups(texts.filter(pl.col("scheme") == "c-sqs")):
        kept = max(1, sum(group["kept_positions"]))
        dropped = sum(group["mean_dropped_mass"].fill_null(0.0) * group["kept_positions"])
        bound = sum(group["cap_binding_rate"] * group["kept_positions"])
        limits = group["dropped_mass_guarantee"].drop_nulls().to_list()
        rows.append(
            [
                *(f"{temperature:g}", setting),
                f"{group['target_dropped_mass'][0]:g}" if limits else NONE,
                str(sum(group["kept_positions"])),
                f"{dropped / kept:.3f}",
                f"{min(limits):.3f} to {max(limits):.3f}" if limits else NONE,
                f"{100 * bound / kept:.2f} %",
                _counted(group["guarantee"]),
            ]
        )
    head = (
        *("temperature", "setting", "α*", "kept steps", "mean α", "guaranteed, by text", "K_max bound"),
        "guarantee",
    )
    return _titled("C-SQS over the link: K_max and the guarantee", table(head, rows, left=2), rows)


def _theorem_table(runs: pl.DataFrame) -> str:
    rows = []
    for temperature, setting, group in groups(runs):
        distance, dropped, lattice, expected = (
            estimate(group[name] / group["steps"]).mean
            for name in ("draft_distance", "dropped_mass", "lattice_term", "lattice_distance")
        )
        means = (expected, distance, dropped + lattice, distance + dropped + lattice)
        rows.append(
            [
                *(f"{temperature:g}", setting, str(estimate(group["rejection_rate"]))),
                *(f"{mean:.3f}" for mean in means),
                f"{estimate(group['bits']).mean:.1f}",
            ]
        )
    head = (
        *("temperature", "setting", "rejected", "TV(p, q̂)", "TV(p, q)", "α + K/4ℓ", "bound"),
        "payload bits a drafted token",
    )
    return "All but the bits a tested token:\n\n" + table(head, rows, left=2)


def _theorem_guarantees(runs: pl.DataFrame) -> str:
    rows = []
    for temperature, setting, group in groups(runs.filter(IS_ADAPTIVE)):
        paper, ours = theorem_2_bounds(group.row(0, named=True), min(group["steps"]))
        rows.append(
            [
                *(f"{temperature:g}", setting, f"{group['target_dropped_mass'][0]:g}"),
                str(estimate(group["dropped_mass"] / group["steps"])),
                f"{paper:.4f} / {ours:.4f}",
                f"{100 * max(group['cap_binding_rate']):.2f} %",
                f"{max(group['excess']):.4f}",
                _counted(group["guarantee"]),
            ]
        )
    head = (
        *("temperature", "setting", "α*", "mean α", "bound, the paper's / ours", "K_max bound, at most"),
        *("mean α less the bound, at most over T", "guarantee"),
    )
    title = "Adaptive C-SQS in process: K_max and the guarantee after every step"
    return _titled(title, table(head, rows, left=2), rows)


def _frontier_guarantees(runs: pl.DataFrame) -> str:
    """Every adaptive setting, a column per temperature."""
    names = ("initial_threshold", "threshold_step", "target_dropped_mass")
    temperatures = sorted(set(runs["temperature"]))
    cells: dict[tuple[float, ...], dict[float, str]] = {}
    parts = runs.filter(IS_ADAPTIVE).partition_by(*names, "temperature", as_dict=True)
    for (*key, temperature), group in parts.items():
        words = f"{100 * max(group['cap_binding_rate']):.1f} %, {_counted(group['guarantee'])}"
        cells.setdefault(tuple(key), {})[temperature] = words
    rows = [
        [*(f"{value:g}" for value in key), *(cells[key].get(t, NONE) for t in temperatures)]
        for key in sorted(cells)
    ]
    head = ("β", "η", "α*", *(f"temperature {temperature:g}" for temperature in temperatures))
    title = "Every adaptive setting: how often K_max bound at most, and the guarantee by seeds"
    return _titled(title, table(head, rows, left=0), rows)


def _titled(title: str, text: str, rows: list[list[str]]) -> str:
    return f"### {title}\n\n{text}" if rows else ""


def _counted(statuses: Iterable[str]) -> str:
    """stood 3, void 1; a dash where there is no guarantee."""
    counts = sorted(Counter(statuses).items())
    return ", ".join(status if status == NONE else f"{status} {count}" for status, count in counts)
