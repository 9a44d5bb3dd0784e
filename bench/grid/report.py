"""
`python -m bench.grid.report DIR`: Markdown tables of a run, from its lines alone.

Rates and ratios are medians over texts; counts are pooled over texts before they are divided.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench import command
from bench.grid import conditions, overview, tuning_report
from bench.grid.records import MEASURED, GenerationRecord
from bench.grid.store import read_generations, read_lines, read_settings
from bench.grid.summaries import CellSummary, Summary, method_names, summarise
from bench.markdown import NONE, bold, number, table

TAIL_FROM = 200
"""Texts from which on a 99th percentile means anything."""


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
    parts.append(overview.section(cells, paced))
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
        speeds = [f"{m.method}{_mark(m)} {m.tokens_per_s:.1f}" for m in (ours, theirs)]
        rows.append([str(cell.cell), *speeds, bold(cell.verdict), f"{passes[0]:.2f} / {passes[1]:.2f}"])
    head = ("cell", "ours, tokens/s", "streamed from the cloud, tokens/s", "ratio", "target passes a token")
    title = f"## Our fastest against the fastest stream{paced}"
    return f"{title}\n\n{table(head, rows, left=3)}" if rows else ""


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
    names = method_names(cells)
    judged = [(cell, best) for cell in cells if (best := cell.best_streamed) is not None]
    if not judged:
        return ""
    rows = []
    for cell, best in judged:
        found = [cell.named(name) for name in names]
        values = [NONE if m is None else f"{bold(m.ratio_to(best))}{_mark(m)}" for m in found]
        rows.append([str(cell.cell), *values])
    title = f"## tokens/s over the fastest stream's{paced}"
    return f"{title}\n\n{table(['cell', *names], rows, left=1)}"


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
            number(m.tokens_per_s, 1),
            bold(m.ratio_to(best)) if best is not None else NONE,
            number(m.over(lambda t: t.seconds_per_token), 4),
            number(m.over(lambda t: t.seconds_per_token, 0.95), 4),
        ]
        if tail:
            enough = len(m.texts) >= TAIL_FROM
            values.append(number(m.over(lambda t: t.seconds_per_token, 0.99), 4) if enough else NONE)
        values += [
            number(m.over(lambda t: t.first_token_s), 3),
            number(max(t.largest_gap_s for t in m.texts), 3),
            number(m.pooled("wire_up_bytes", "output_tokens"), 0),
            number(m.pooled("wire_down_bytes", "output_tokens"), 0),
        ]
        rows.append(values)
    return f"## {summary.cell}{paced}\n\n{most} texts a method.\n\n{table(columns, rows, left=2)}"


def _account(summary: CellSummary, paced: str) -> str:
    head = (
        *("method", "payload bits a drafted token", "an output token", "acceptance", "resampling"),
        *("tokens a round", "target passes a token", "target s a token", "draft s a token"),
        *("network s a token", "dropped packets"),
    )
    rows = []
    for m in summary.methods:
        drafts = any(t.drafted_tokens for t in m.texts)
        values = [
            m.method + _mark(m),
            number(m.pooled("uplink_payload_bits", "drafted_tokens"), 1) if not m.first.is_peer else NONE,
            number(m.pooled("uplink_payload_bits", "output_tokens"), 1) if not m.first.is_peer else NONE,
            number(m.pooled("accepted_tokens", "tested_tokens"), 3),
            number(m.pooled("resampled_tokens", "output_tokens"), 3) if drafts else NONE,
            number(m.pooled("output_tokens", "rounds"), 2),
            number(m.pooled("target_passes", "output_tokens"), 3),
            number(m.pooled("target_s", "output_tokens"), 4),
            number(m.pooled("draft_s", "output_tokens"), 4) if drafts else NONE,
            number(m.pooled("network_s", "output_tokens"), 4),
            str(sum(t.dropped_packets for t in m.texts)),
        ]
        rows.append(values)
    return f"Where it goes{paced}:\n\n{table(head, rows, left=1)}"


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
    return ", ".join(texts) + by if texts else NONE


def _mark(summary: Summary) -> str:
    return " *short*" if any(text.short for text in summary.texts) else ""


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
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m bench.grid.report", description=__doc__
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    arguments = parser.parse_args(argv)

    def work() -> int:
        print(render(arguments.folder), end="")
        return 0

    return command.run("bench.grid.report", work)


if __name__ == "__main__":
    sys.exit(main())
