"""
`python -m bench.grid.report DIR`: Markdown tables of a run, from its lines alone.

Rates and ratios are medians over texts; counts are pooled over texts before they are divided.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import command
from bench.grid import conditions, overview, tuning_report
from bench.grid.records import MEASURED
from bench.grid.store import read_generations, read_lines, read_settings
from bench.grid.summaries import CellSummary, Summary, method_names, ratio, summarise
from bench.markdown import NONE, bold, number, table

TAIL_FROM = 200
"""Texts from which on a 99th percentile means anything."""
LETTERS = {"draft_length": "γ", "lattice_resolution": "ℓ", "support_size": "K", "initial_threshold": "β"}


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
    plan = settings.get("plan", {})
    measured = [record for record in records if record.purpose == MEASURED]
    paced = " (paced)" if any(record.is_paced for record in measured) else ""
    failed = [
        f"- {r.cell}, {r.method}, prompt {r.prompt} ({r.purpose}): {r.failure}" for r in records if r.failure
    ]
    parts = [
        f"# Benchmark: {plan.get('name', folder.name)}{paced}",
        head,
        conditions.conditions(settings, measured),
        images,
        conditions.links(read_lines(folder / "links.jsonl")),
        overview.section(cells, paced),
        *_fastest(cells, paced),
        _matrix(cells, paced),
        tuning_report.section(records, tuple(plan.get("tuning_link") or ())),
        *(part for cell in cells for part in (_speed(cell, paced), _account(cell, paced))),
        "\n".join([f"## Failed: {len(failed)}", "", *failed]) if failed else "",
        GLOSSARY,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _fastest(cells: Sequence[CellSummary], paced: str) -> list[str]:
    """Our fastest scheme against the fastest stream, and the cells where it loses."""
    rows, lost = [], []
    for cell in cells:
        ours, theirs = cell.best_of_ours, cell.best_streamed
        if ours is None or theirs is None:
            continue
        verdict = ours.ratio_to(theirs)
        speeds = [f"{m.method}{_mark(m)} {m.tokens_per_s:.1f}" for m in (ours, theirs)]
        passes = " / ".join(f"{m.pooled('target_passes'):.2f}" for m in (ours, theirs))
        rows.append([str(cell.cell), *speeds, bold(verdict), passes])
        if verdict < 1:
            lost.append(f"- {cell.cell}: {verdict:.2f} ({ours.method} against {theirs.method})")
    if not rows:
        return []
    head = ("cell", "ours, tokens/s", "streamed from the cloud, tokens/s", "ratio", "target passes a token")
    flattered = (
        "Ours is the fastest of our schemes on these very texts, which flatters it; of one scheme alone the "
        "losses are more, as the figure over each baseline shows."
    )
    title = f"## Cells we lose: {len(lost)} of {len(rows)}"
    return [
        f"## Our fastest against the fastest stream{paced}\n\n{table(head, rows, left=3)}",
        "\n".join([title, "", flattered, "", *(lost or ["None."])]),
    ]


def _matrix(cells: Sequence[CellSummary], paced: str) -> str:
    names = method_names(cells)
    rows = [
        [str(cell.cell), *(f"{bold(ratio(m, best))}{_mark(m)}" for m in map(cell.named, names))]
        for cell in cells
        if (best := cell.best_streamed) is not None
    ]
    title = f"## tokens/s over the fastest stream's{paced}"
    return f"{title}\n\n{table(['cell', *names], rows, left=1)}" if rows else ""


Column = tuple[str, Callable[[Summary], str]]
"""Title, and what stands there of a method."""


def _rows(columns: Sequence[Column], summary: CellSummary, *, left: int) -> str:
    head = ["method", *(title for title, _ in columns)]
    rows = [[m.method + _mark(m), *(text(m) for _, text in columns)] for m in summary.methods]
    return table(head, rows, left=left)


def _s_per_token(share: float, least: int = 0) -> Callable[[Summary], str]:
    """A percentile of the seconds of an output token; nothing of fewer texts than the least."""
    return lambda m: (
        number(m.over(lambda t: t.seconds_per_token, share), 4) if len(m.texts) >= least else NONE
    )


def _a_token(name: str, digits: int) -> Callable[[Summary], str]:
    return lambda m: number(m.pooled(name), digits)


def _speed(summary: CellSummary, paced: str) -> str:
    best = summary.best_streamed
    most = max(len(m.texts) for m in summary.methods)
    columns: list[Column] = [
        ("settings", _settings_text),
        ("tokens/s", lambda m: number(m.tokens_per_s, 1)),
        ("/ best stream", lambda m: bold(ratio(m, best))),
        ("s/token p50", _s_per_token(0.5)),
        ("p95", _s_per_token(0.95)),
        *([("p99", _s_per_token(0.99, TAIL_FROM))] if most >= TAIL_FROM else []),
        ("first token, s", lambda m: number(m.over(lambda t: t.first_token_s), 3)),
        ("largest gap, s", lambda m: number(max(t.largest_gap_s for t in m.texts), 3)),
        ("wire B up a token", _a_token("wire_up_bytes", 0)),
        ("down", _a_token("wire_down_bytes", 0)),
    ]
    return f"## {summary.cell}{paced}\n\n{most} texts a method.\n\n{_rows(columns, summary, left=2)}"


def _account(summary: CellSummary, paced: str) -> str:
    def drafted(column: Callable[[Summary], str]) -> Callable[[Summary], str]:
        return lambda m: column(m) if m.total("drafted_tokens") else NONE

    def ours(column: Callable[[Summary], str]) -> Callable[[Summary], str]:
        return lambda m: NONE if m.first.is_peer else column(m)

    bits = "uplink_payload_bits"
    columns: list[Column] = [
        ("payload bits a drafted token", ours(lambda m: number(m.pooled(bits, "drafted_tokens"), 1))),
        ("an output token", ours(_a_token(bits, 1))),
        ("acceptance", lambda m: number(m.pooled("accepted_tokens", "tested_tokens"), 3)),
        ("resampling", drafted(_a_token("resampled_tokens", 3))),
        ("tokens a round", lambda m: number(m.pooled("output_tokens", "rounds"), 2)),
        ("target passes a token", _a_token("target_passes", 3)),
        ("target s a token", _a_token("target_s", 4)),
        ("draft s a token", drafted(_a_token("draft_s", 4))),
        ("network s a token", _a_token("network_s", 4)),
        ("dropped packets", lambda m: f"{m.total('dropped_packets'):.0f}"),
    ]
    return f"Where it goes{paced}:\n\n{_rows(columns, summary, left=1)}"


def _settings_text(summary: Summary) -> str:
    texts = []
    for name, value in summary.first.parameters.items():
        shown = "own schedule" if name == "draft_length" and value == 0 else f"{value:g}"
        texts.append(f"{LETTERS.get(name, name)} {shown}")
    by = " (by arithmetic)" if summary.first.tuned_by == "arithmetic" else ""
    return ", ".join(texts) + by if texts else NONE


def _mark(summary: Summary | None) -> str:
    return " *short*" if summary is not None and any(text.short for text in summary.texts) else ""


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
    return command.run_on_folder("bench.grid.report", __doc__, render, argv)


if __name__ == "__main__":
    sys.exit(main())
