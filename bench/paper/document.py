"""The page beside the figures: parameters, verdicts on the claims, guarantees; from lines alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from bench.grid.records import GenerationRecord
from bench.grid.store import read_lines, read_settings
from bench.markdown import NONE, table
from bench.paper.claims import Finding, estimate, findings, latency_ms, measured
from bench.paper.data import Data, is_adaptive, link_caption, steps_caption
from bench.paper.equal_bits import equal_bits_findings
from bench.paper.figures import LINK_FIGURES, STEP_FIGURES
from bench.paper.lines import StepsRecord, theorem_2_bounds
from bench.paper.plan import setting_name
from thinwire.edge.report import CAP_BINDING_LIMIT

R = TypeVar("R", GenerationRecord, StepsRecord)
STOOD, BROKEN, VOID, VACUOUS = "stood", "BROKEN", "void", "vacuous"
ROUNDING = 1e-6
"""q is float32: its sums are off by about 1e-7."""
_TITLES = {
    "paper-figure-2.svg": "Figure 2: latency and resampling rate against temperature",
    "paper-figure-4.svg": "Figure 4: latency against K and against β",
    "paper-figure-5.svg": "Figure 5: C-SQS, adaptive and frozen",
    "paper-theorem-1.svg": "Theorem 1: rejections beside the bound's parts",
    "paper-theorem-2.svg": "Theorem 2: running mean of the dropped mass",
    "paper-frontier.svg": "Bits a drafted token beside acceptance",
}


def render(data: Data, folder: Path, *, figures_at: str) -> str:
    """
    The page as Markdown.

    Args:
        folder: of the lines, for what they were measured on.
        figures_at: where the figures are, seen from the page.
    """
    parts = ["# The paper's figures with the bundled pair", _head(data, folder)]
    parts += [*_claims(findings(data.plan, data.texts, data.steps))]
    if data.steps:
        parts += [*_equal_bits(equal_bits_findings(data.plan, data.steps))]
    if measured(data.texts):
        parts += _section(LINK_FIGURES, link_caption(data), figures_at)
        parts += [_link_table(data), _link_guarantees(data)]
    if data.steps:
        parts += _section(list(STEP_FIGURES)[:2], steps_caption(data, of_theorems=True), figures_at)
        parts += [_theorem_table(data), _theorem_guarantees(data)]
        parts += _section(list(STEP_FIGURES)[2:], steps_caption(data, of_theorems=False), figures_at)
        parts += [_frontier_guarantees(data)]
    return "\n\n".join(part for part in parts if part) + "\n"


def text_status(record: GenerationRecord) -> str:
    """What became of Theorem 2's guarantee in one text."""
    bound, mean = record.dropped_mass_guarantee, record.mean_dropped_mass
    return _status(bound, mean, record.cap_binding_rate)


def steps_status(record: StepsRecord) -> str:
    """The same of a run in process; it stands only where it stood after every step."""
    if record.largest_excess is None:
        return NONE
    if record.cap_binding_rate >= CAP_BINDING_LIMIT:
        return VOID
    return STOOD if record.largest_excess <= ROUNDING else BROKEN


def _status(bound: float | None, mean: float | None, cap_binding_rate: float) -> str:
    if bound is None or mean is None:
        return NONE
    if cap_binding_rate >= CAP_BINDING_LIMIT:
        return VOID
    if bound > 1:
        return VACUOUS
    return STOOD if mean <= bound + ROUNDING else BROKEN


def _head(data: Data, folder: Path) -> str:
    lines = [
        "Written by `make figures` from measured lines, never by hand; "
        "`python -m bench.paper --redraw` writes it again without measuring.",
        f"Models: the bundled pair (demo-pair/thinwire_demo_pair/MODEL_CARD.md). Plan: {data.plan.name}.",
    ]
    for words, name in (("Over the link", "latency"), ("In process", "steps")):
        settings = read_settings(folder / name)
        if settings:
            versions = ", ".join(f"{key} {value}" for key, value in settings["versions"].items())
            lines.append(
                f"{words}: begun {settings['started_at']}, source {settings['revision']}; "
                f"{settings['machine']}; {versions}{_threads(settings)}."
            )
    late = [
        side["max_s"] or 0.0
        for line in read_lines(folder / "latency" / "links.jsonl")
        for side in line["lateness"].values()
    ]
    if late:
        lines.append(
            f"The link passed its self-test before every start; its latest packet was "
            f"{1000 * max(late):.1f} ms late."
        )
    failed = sum(bool(record.failure) for record in data.texts)
    if failed:
        lines.append(f"**{failed} texts failed and are in no figure.**")
    return "\n".join(lines)


def _threads(settings: Mapping[str, Any]) -> str:
    if "target_threads" not in settings:
        return ""
    return (
        f"; target on {settings['target_threads']} threads, draft model on {settings['draft_threads']}; "
        f"{settings['pacing']}, {settings['congestion_control']}"
    )


def _claims(found: Sequence[Finding]) -> Iterator[str]:
    if not found:
        return
    yield "## The paper's claims"
    yield (
        "A difference is taken seed by seed, then its mean ± standard error; positive speaks for the claim.\n"
        "Seen: the mean is above the 95 % interval of Student's t over the seeds; not seen: below it; within "
        "error: in it.\n"
        "In process, 'rejections' are those of every position of a long text, with the threshold carried on; "
        "over the link every text begins at β₁."
    )
    yield _verdicts(found)


def _equal_bits(found: Sequence[Finding]) -> Iterator[str]:
    yield "## Beside the claims: at the same bits"
    yield (
        "K = 2 and 3 send less than an adaptive threshold does at high temperature.\n"
        "Here K-SQS is read off at the bits that C-SQS sends, between the nearest K that were measured; "
        "'not measured' where no two K enclose them."
    )
    yield _verdicts(found)


def _verdicts(found: Iterable[Finding]) -> str:
    rows = [
        [
            f.claim,
            f.compared,
            str(f.difference),
            f.unit,
            f"± {f.margin:.2g}",
            str(f.difference.count),
            f"**{f.verdict}**",
        ]
        for f in found
    ]
    head = ("claim", "measured", "difference", "unit", "95 %", "seeds", "verdict")
    return table(head, rows, left=2)


def _section(names: Iterable[str], caption: str, figures_at: str) -> Iterator[str]:
    for name in names:
        yield f"## {_TITLES[name]}"
        yield f"![{_TITLES[name]}]({figures_at}/{name})"
    yield caption


def _link_table(data: Data) -> str:
    """Every point over the link."""

    def pooled(texts: Sequence[GenerationRecord], above: str, below: str) -> float:
        count = sum(getattr(text, below) for text in texts)
        return sum(getattr(text, above) for text in texts) / count if count else math.nan

    rows = []
    for (temperature, setting), texts in _grouped(measured(data.texts)):
        rows.append(
            [
                f"{temperature:g}",
                setting,
                str(estimate(map(latency_ms, texts))),
                str(estimate(text.resampling_rate for text in texts)),
                f"{pooled(texts, 'resampled_tokens', 'rounds'):.2f}",
                f"{pooled(texts, 'accepted_tokens', 'tested_tokens'):.3f}",
                f"{pooled(texts, 'output_tokens', 'rounds'):.2f}",
                f"{pooled(texts, 'uplink_payload_bits', 'drafted_tokens'):.0f}",
                f"{pooled(texts, 'wire_up_bytes', 'output_tokens'):.0f}",
            ]
        )
    head = (
        *("temperature", "setting", "latency, ms a token", "resampling rate", "resampled a round"),
        *("acceptance", "tokens a round", "payload bits a drafted token", "wire bytes up a token"),
    )
    return table(head, rows, left=2)


def _link_guarantees(data: Data) -> str:
    texts = [text for text in measured(data.texts) if text.scheme["scheme"] == "c-sqs"]
    rows = []
    for (temperature, setting), group in _grouped(texts):
        kept = sum(text.kept_positions for text in group)
        mean = sum((text.mean_dropped_mass or 0.0) * text.kept_positions for text in group) / max(1, kept)
        bound = sum(text.cap_binding_rate * text.kept_positions for text in group) / max(1, kept)
        limits = [text.dropped_mass_guarantee for text in group if text.dropped_mass_guarantee is not None]
        rows.append(
            [
                f"{temperature:g}",
                setting,
                f"{group[0].scheme['target_dropped_mass']:g}" if limits else NONE,
                str(kept),
                f"{mean:.3f}",
                f"{min(limits):.3f} to {max(limits):.3f}" if limits else NONE,
                f"{100 * bound:.2f} %",
                _counted(map(text_status, group)),
            ]
        )
    head = (
        "temperature",
        "setting",
        "α*",
        "kept steps",
        "mean α",
        "guaranteed, by text",
        "K_max bound",
        "guarantee",
    )
    return "### C-SQS over the link: K_max and the guarantee\n\n" + table(head, rows, left=2) if rows else ""


def _theorem_table(data: Data) -> str:
    rows = []
    for (temperature, setting), runs in _grouped(_theorem_runs(data)):
        distance, dropped, lattice, expected = (
            estimate(getattr(run, name) / run.steps for run in runs).mean
            for name in ("draft_distance", "dropped_mass", "lattice_term", "lattice_distance")
        )
        rows.append(
            [
                f"{temperature:g}",
                setting,
                str(estimate(run.rejection_rate for run in runs)),
                f"{expected:.3f}",
                f"{distance:.3f}",
                f"{dropped + lattice:.3f}",
                f"{distance + dropped + lattice:.3f}",
                f"{estimate(run.bits for run in runs).mean:.1f}",
            ]
        )
    head = (
        *("temperature", "setting", "rejected", "TV(p, q̂)", "TV(p, q)", "α + K/4ℓ", "bound"),
        "payload bits a drafted token",
    )
    return "All but the bits a tested token:\n\n" + table(head, rows, left=2)


def _theorem_guarantees(data: Data) -> str:
    rows = []
    adaptive = [run for run in _theorem_runs(data) if is_adaptive(run.scheme)]
    for (temperature, setting), runs in _grouped(adaptive):
        steps = min(run.steps for run in runs)
        paper, ours = theorem_2_bounds(runs[0].scheme, steps)
        rows.append(
            [
                f"{temperature:g}",
                setting,
                f"{runs[0].scheme['target_dropped_mass']:g}",
                f"{estimate(run.dropped_mass / run.steps for run in runs)}",
                f"{paper:.4f} / {ours:.4f}",
                f"{100 * max(run.cap_binding_rate for run in runs):.2f} %",
                f"{max(run.largest_excess or 0.0 for run in runs):.4f}",
                _counted(map(steps_status, runs)),
            ]
        )
    head = (
        *("temperature", "setting", "α*", "mean α", "bound, the paper's / ours", "K_max bound, at most"),
        *("mean α less the bound, at most over T", "guarantee"),
    )
    title = "### Adaptive C-SQS in process: K_max and the guarantee after every step"
    return f"{title}\n\n{table(head, rows, left=2)}" if rows else ""


def _frontier_guarantees(data: Data) -> str:
    """Every adaptive setting, a column per temperature."""
    temperatures = data.step_temperatures
    runs = [r for t in temperatures for r in data.runs(t, of_theorems=False) if is_adaptive(r.scheme)]
    cells: dict[tuple[float, ...], dict[float, str]] = {}
    for run in runs:
        names = ("initial_threshold", "threshold_step", "target_dropped_mass")
        key = tuple(run.scheme[name] for name in names)
        same = [r for r in runs if r.temperature == run.temperature and r.scheme == run.scheme]
        rate = max(other.cap_binding_rate for other in same)
        cells.setdefault(key, {})[run.temperature] = (
            f"{100 * rate:.1f} %, {_counted(map(steps_status, same))}"
        )
    rows = [
        [*(f"{value:g}" for value in key), *(cells[key].get(t, NONE) for t in temperatures)]
        for key in sorted(cells)
    ]
    head = ("β", "η", "α*", *(f"temperature {temperature:g}" for temperature in temperatures))
    title = "### Every adaptive setting: how often K_max bound at most, and the guarantee by seeds"
    return f"{title}\n\n{table(head, rows, left=0)}" if rows else ""


def _theorem_runs(data: Data) -> list[StepsRecord]:
    return [run for t in data.step_temperatures for run in data.runs(t, of_theorems=True)]


def _grouped(records: Iterable[R]) -> list[tuple[tuple[float, str], list[R]]]:
    """By temperature and setting; settings in the order in which they come first."""
    found: dict[tuple[float, str], list[R]] = {}
    for record in records:
        found.setdefault((record.temperature, setting_name(record.scheme)), []).append(record)
    order = list(dict.fromkeys(setting for _, setting in found))
    return sorted(found.items(), key=lambda item: (item[0][0], order.index(item[0][1])))


def _counted(statuses: Iterable[str]) -> str:
    """stood 3, void 1; a dash where there is no guarantee."""
    groups = [(status, len(list(group))) for status, group in groupby(sorted(statuses))]
    return ", ".join(status if status == NONE else f"{status} {count}" for status, count in groups)
