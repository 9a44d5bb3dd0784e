"""
`python -m bench.grid.report DIR`: Markdown tables of a run, from its lines alone.

Rates and ratios are medians over texts; counts are pooled over texts before they are divided.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import command
from bench.grid import conditions, tuning_report
from bench.grid.cells import Cell
from bench.grid.records import MEASURED, GenerationRecord
from bench.grid.store import read_generations, read_lines, read_settings

BASELINE_SCHEMES = ("cloud-ar", "dense-f16")
"""Schemes that are here to be compared with; everything else that is no peer is ours."""
TAIL_FROM = 200
"""Texts from which on a 99th percentile means anything."""


def percentile(values: Iterable[float], share: float) -> float:
    """
    Linear interpolation between order statistics.

    Args:
        share: 0 to 1.

    Returns:
        NaN without values.
    """
    ordered = sorted(value for value in values if not math.isnan(value))
    if not ordered:
        return math.nan
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


@dataclass(frozen=True, slots=True)
class Summary:
    """One method in one cell."""

    cell: Cell
    method: str
    texts: tuple[GenerationRecord, ...]
    """At least one, none failed."""

    @property
    def first(self) -> GenerationRecord:
        """For what all texts share."""
        return self.texts[0]

    @property
    def is_ours(self) -> bool:
        """Neither a streamed nor a naive baseline."""
        return not self.first.is_peer and self.first.way not in BASELINE_SCHEMES

    @property
    def tokens_per_s(self) -> float:
        """Median over texts."""
        return statistics.median(text.tokens_per_s for text in self.texts)

    def over(self, value: Callable[[GenerationRecord], float], share: float = 0.5) -> float:
        """A percentile over texts."""
        return percentile((value(text) for text in self.texts), share)

    def pooled(self, above: str, below: str) -> float:
        """Σ of one field / Σ of another; NaN for nothing."""
        count = sum(getattr(text, below) for text in self.texts)
        return sum(getattr(text, above) for text in self.texts) / count if count else math.nan

    def ratio_to(self, other: Summary) -> float:
        """Median over the texts both have of tokens/s over tokens/s; NaN without any."""
        theirs = {(text.prompt, text.seed): text.tokens_per_s for text in other.texts}
        ratios = [
            text.tokens_per_s / theirs[text.prompt, text.seed]
            for text in self.texts
            if (text.prompt, text.seed) in theirs
        ]
        return statistics.median(ratios) if ratios else math.nan


@dataclass(frozen=True, slots=True)
class CellSummary:
    """All methods in one cell, in the order in which they ran first."""

    cell: Cell
    methods: tuple[Summary, ...]

    @property
    def best_streamed(self) -> Summary | None:
        """The fastest of what streams from the cloud."""
        return max((m for m in self.methods if m.first.is_peer), key=lambda m: m.tokens_per_s, default=None)

    @property
    def best_of_ours(self) -> Summary | None:
        """Our fastest scheme."""
        return max((m for m in self.methods if m.is_ours), key=lambda m: m.tokens_per_s, default=None)

    @property
    def verdict(self) -> float:
        """Our fastest over the fastest streamed; NaN where one is missing."""
        ours, theirs = self.best_of_ours, self.best_streamed
        return ours.ratio_to(theirs) if ours is not None and theirs is not None else math.nan


def summarise(records: Iterable[GenerationRecord]) -> list[CellSummary]:
    """Measured texts that did not fail, by cell and method."""
    by_cell: dict[Cell, dict[str, list[GenerationRecord]]] = {}
    for record in records:
        if record.purpose == MEASURED and not record.failure:
            by_cell.setdefault(record.cell, {}).setdefault(record.method, []).append(record)
    return [
        CellSummary(cell, tuple(Summary(cell, name, tuple(texts)) for name, texts in methods.items()))
        for cell, methods in sorted(by_cell.items())
    ]


def render(folder: Path, *, head: str = "", images: str = "") -> str:
    """
    The whole report.

    Args:
        folder: of the run.
        head: a line under the title.
        images: Markdown of its figures, under what they were measured under.

    Raises:
        StoreError: no lines there.
    """
    records = read_generations(folder)
    cells = summarise(records)
    settings = read_settings(folder)
    measured = [record for record in records if record.purpose == MEASURED]
    paced = " (paced)" if any(record.is_paced for record in measured) else ""
    parts = [f"# Benchmark: {settings.get('plan', {}).get('name', folder.name)}{paced}"]
    parts += [head, conditions.conditions(settings, measured), images]
    parts.append(conditions.links(read_lines(folder / "links.jsonl")))
    parts.append(_verdicts(cells, paced))
    parts.append(_lost(cells))
    parts.append(_matrix(cells, paced))
    tuning_link = settings.get("plan", {}).get("tuning_link")
    parts.append(tuning_report.section(records, tuple(tuning_link) if tuning_link else None))
    for summary in cells:
        parts += [_speed(summary, paced), _account(summary, paced)]
    parts.append(_failures(records))
    parts.append(GLOSSARY)
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdicts(cells: Sequence[CellSummary], paced: str) -> str:
    rows = []
    for cell in cells:
        ours, theirs = cell.best_of_ours, cell.best_streamed
        if ours is None or theirs is None:
            continue
        passes = [m.pooled("target_passes", "output_tokens") for m in (ours, theirs)]
        rows.append(
            f"| {cell.cell} | {ours.method}{_mark(ours)} {ours.tokens_per_s:.1f} "
            f"| {theirs.method}{_mark(theirs)} {theirs.tokens_per_s:.1f} "
            f"| {_bold(cell.verdict)} | {passes[0]:.2f} / {passes[1]:.2f} |"
        )
    head = [
        f"## Our fastest against the fastest stream{paced}",
        "",
        "| cell | ours, tokens/s | streamed from the cloud, tokens/s | ratio | target passes a token |",
        "|---|---|---|---:|---:|",
    ]
    return "\n".join(head + rows) if rows else ""


def _lost(cells: Sequence[CellSummary]) -> str:
    judged = [cell for cell in cells if not math.isnan(cell.verdict)]
    if not judged:
        return ""
    lost = [cell for cell in judged if cell.verdict < 1]
    rows = []
    for cell in lost:
        ours, theirs = cell.best_of_ours, cell.best_streamed
        assert ours is not None, "a verdict takes both"
        assert theirs is not None, "a verdict takes both"
        rows.append(f"- {cell.cell}: {cell.verdict:.2f} ({ours.method} against {theirs.method})")
    flattered = (
        "Ours is the fastest of our schemes on these very texts, which flatters it; of one scheme alone the "
        "losses are more, as the figure over each baseline shows."
    )
    head = [f"## Cells we lose: {len(lost)} of {len(judged)}", "", flattered, ""]
    return "\n".join([*head, *(rows or ["None."])])


def _matrix(cells: Sequence[CellSummary], paced: str) -> str:
    names = list(dict.fromkeys(m.method for cell in cells for m in cell.methods))
    judged = [(cell, best) for cell in cells if (best := cell.best_streamed) is not None]
    if not judged:
        return ""
    rows = []
    for cell, best in judged:
        by_name = {m.method: m for m in cell.methods}
        values = [
            f"{_bold(by_name[name].ratio_to(best))}{_mark(by_name[name])}" if name in by_name else "–"
            for name in names
        ]
        rows.append(f"| {cell.cell} | {' | '.join(values)} |")
    head = [
        f"## tokens/s over the fastest stream's{paced}",
        "",
        f"| cell | {' | '.join(names)} |",
        f"|---|{'---:|' * len(names)}",
    ]
    return "\n".join(head + rows)


def _speed(summary: CellSummary, paced: str) -> str:
    best = summary.best_streamed
    most = max(len(m.texts) for m in summary.methods)
    tail = most >= TAIL_FROM
    columns = ["method", "settings", "tokens/s", "/ best stream", "s/token p50", "p95"]
    columns += (["p99"] if tail else []) + ["first token, s", "largest gap, s", "wire B up a token", "down"]
    rows = []
    for m in summary.methods:
        values = [
            m.method + _mark(m),
            _settings_text(m),
            _number(m.tokens_per_s, 1),
            _bold(m.ratio_to(best)) if best is not None else "–",
            _number(m.over(lambda t: t.seconds_per_token), 4),
            _number(m.over(lambda t: t.seconds_per_token, 0.95), 4),
        ]
        if tail:
            enough = len(m.texts) >= TAIL_FROM
            values.append(_number(m.over(lambda t: t.seconds_per_token, 0.99), 4) if enough else "–")
        values += [
            _number(m.over(lambda t: t.first_token_s), 3),
            _number(max(t.largest_gap_s for t in m.texts), 3),
            _number(m.pooled("wire_up_bytes", "output_tokens"), 0),
            _number(m.pooled("wire_down_bytes", "output_tokens"), 0),
        ]
        rows.append(f"| {' | '.join(values)} |")
    head = [
        f"## {summary.cell}{paced}",
        "",
        f"{most} texts a method.",
        "",
        f"| {' | '.join(columns)} |",
        f"|---|---|{'---:|' * (len(columns) - 2)}",
    ]
    return "\n".join(head + rows)


def _account(summary: CellSummary, paced: str) -> str:
    head = [
        f"Where it goes{paced}:",
        "",
        "| method | payload bits a drafted token | an output token | acceptance | resampling "
        "| tokens a round | target passes a token | target s a token | draft s a token | network s a token "
        "| dropped packets |",
        f"|---|{'---:|' * 10}",
    ]
    rows = []
    for m in summary.methods:
        drafts = any(t.drafted_tokens for t in m.texts)
        values = [
            _number(m.pooled("uplink_payload_bits", "drafted_tokens"), 1) if not m.first.is_peer else "–",
            _number(m.pooled("uplink_payload_bits", "output_tokens"), 1) if not m.first.is_peer else "–",
            _number(m.pooled("accepted_tokens", "tested_tokens"), 3),
            _number(m.pooled("resampled_tokens", "output_tokens"), 3) if drafts else "–",
            _number(m.pooled("output_tokens", "rounds"), 2),
            _number(m.pooled("target_passes", "output_tokens"), 3),
            _number(m.pooled("target_s", "output_tokens"), 4),
            _number(m.pooled("draft_s", "output_tokens"), 4) if drafts else "–",
            _number(m.pooled("network_s", "output_tokens"), 4),
            str(sum(t.dropped_packets for t in m.texts)),
        ]
        rows.append(f"| {m.method}{_mark(m)} | {' | '.join(values)} |")
    return "\n".join(head + rows)


def _failures(records: Iterable[GenerationRecord]) -> str:
    rows = [
        f"- {r.cell}, {r.method}, prompt {r.prompt} ({r.purpose}): {r.failure}" for r in records if r.failure
    ]
    return "\n".join([f"## Failed: {len(rows)}", "", *rows]) if rows else ""


def _settings_text(summary: Summary) -> str:
    letters = {"draft_length": "γ", "lattice_resolution": "ℓ", "support_size": "K", "initial_threshold": "β"}
    texts = []
    for name, value in summary.first.parameters.items():
        shown = "own schedule" if name == "draft_length" and value == 0 else f"{value:g}"
        texts.append(f"{letters.get(name, name)} {shown}")
    by = {"arithmetic": " (by arithmetic)"}.get(summary.first.tuned_by, "")
    return ", ".join(texts) + by if texts else "–"


def _mark(summary: Summary) -> str:
    return " *short*" if any(text.short for text in summary.texts) else ""


def _bold(ratio: float) -> str:
    return "–" if math.isnan(ratio) else f"**{ratio:.2f}**" if ratio >= 1 else f"{ratio:.2f}"


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


GLOSSARY = """\
## How to read this

- *tokens/s*: N over the arrival of the last token at the edge, the first one's wait included; median.
- *s/token*: (last arrival - first arrival) / (N - 1) of each text; percentiles over texts.
- */ best stream*: tokens/s over those of the cell's fastest stream, text by text, median; bold from 1 up.
- *wire B*: the link's counters around each text, Ethernet headers, handshakes of the text and ACKs included.
- *target passes, target s*: of the target's forward, the prompt's pass included, wherever it runs.
- *draft s*: the edge's drafting; of assisted generation the draft model's passes in the cloud.
- *network s*: round trips less the cloud's queue and verification; of a stream, last arrival less the \
server's seconds.
- *short*: a round takes so long here that only a few were run, so N is smaller.
- cloud-stream: the target's own tokens by our cached loop; cloud-generate: by transformers' `generate`; \
cloud-assisted: by its assisted generation, both models in the cloud; cloud-ar: a round trip a token."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report of a folder; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.grid.report", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    arguments = parser.parse_args(argv)

    def work() -> int:
        print(render(arguments.folder), end="")
        return 0

    return command.run("bench.grid.report", work)


if __name__ == "__main__":
    sys.exit(main())
