"""
`python -m bench.grid.report DIR`: Markdown tables of a run, from its lines alone.

Rates and ratios are medians over texts; counts are pooled over texts before they are divided.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from polars import col
from polars.dataframe.group_by import GroupBy

from bench import command
from bench.grid.cells import Cell, rate_text
from bench.grid.records import MEASURED, TUNING, GenerationRecord
from bench.grid.store import read_lines
from bench.grid.summaries import BASELINES, Run, is_lost, pooled, read_run
from bench.markdown import NONE, bold, number, table

TAIL_FROM = 200
"""Texts from which on a 99th percentile means anything."""
LATE_S = 0.002
"""A link that released a packet later than this is mentioned."""
BASE, NAIVE = "cloud-stream", "cloud-ar"
"""Of the overview: the target's own plain stream, and a round trip a token."""
LENGTH = "draft_length"

Column = tuple[str, pl.Expr, int | None]
"""Title, value of a method in a cell, and digits behind its point; None for words."""
Groups = Mapping[str, pl.Expr]
"""Which cells, by what they have in common, in words."""


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
    run = read_run(folder)
    cells = run.methods.group_by("cell", maintain_order=True)
    failed = [
        f"- {r.cell}, {r.method}, prompt {r.prompt} ({r.purpose}): {r.failure}"
        for r in run.records
        if r.failure
    ]
    parts = [
        f"# Benchmark: {run.settings.get('plan', {}).get('name', folder.name)}{run.paced}",
        head,
        _conditions(run),
        images,
        _links(read_lines(folder / "links.jsonl")),
        *_overview(run),
        *_fastest(run),
        _matrix(run),
        *_tuning(run),
        *(part for (cell,), here in cells for part in _cell(cell, here, run.paced)),
        "\n".join([f"## Failed: {len(failed)}", "", *failed]) if failed else "",
        GLOSSARY,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _conditions(run: Run) -> str:
    """What every figure was measured under."""
    plan = run.settings.get("plan", {})
    prompts = f"on {plan.get('tuning_prompts', 0)} prompts of their own"
    how = f"at most {plan.get('tuning_candidates', 0)} values each were run, {prompts}"
    if plan.get("tuning_link"):
        rate_bps, rtt_s = plan["tuning_link"]
        how = TRANSFER.format(link=f"{rate_text(rate_bps)} up and RTT {rtt_s * 1000:g} ms", prompts=prompts)
    known = {
        **run.settings,
        "versions": ", ".join(
            f"{name} {number}" for name, number in run.settings.get("versions", {}).items()
        ),
        "texts": sum(record.purpose == MEASURED for record in run.records),
        "security": "TLS; the peers' stream is plaintext"
        if run.settings.get("tls")
        else "plaintext, as the peers' stream",
        "tokens": plan.get("tokens", "?"),
        "tuned": ", ".join(plan.get("tuned", [])) or "nothing",
        "how": how,
    }
    return CONDITIONS.format_map(defaultdict(lambda: "?", known))


def _links(lines: Iterable[Mapping[str, Any]]) -> str:
    """The links' self-tests and lateness; of a link's lines the last holds."""
    rows = []
    for line in {line["run_id"]: line for line in lines}.values():
        test = line["self_test"]
        late = max((side["max_s"] or 0.0 for side in line["lateness"].values()), default=0.0)
        worst = max((abs(r["measured_bps"] / r["expected_bps"] - 1) for r in test["rates"]), default=math.nan)
        trip = max((abs(t["median_s"] - t["expected_s"]) for t in test["round_trips"]), default=math.nan)
        rows.append(
            f"| {line['rate_up_bps']} / {line['rate_down_bps']} | {line['rtt_s'] * 1000:g} "
            f"| {worst:.2%} | {trip * 1000:.2f} | {late * 1000:.1f}{' **late**' if late > LATE_S else ''} "
            f"| {'on' if line['real_time'] else 'off'} |"
        )
    return "\n".join([LINKS, *rows]) if rows else ""


def _overview(run: Run) -> list[str]:
    """Each method's medians over links, and spreads over baselines; of several cells with `BASE`."""
    methods, every = run.methods, {"all": pl.lit(value=True)}
    if methods["cell"].n_unique() < 2 or BASE not in run.names:
        return []
    links = methods.select("rtt_s", "temperature").unique().sort("rtt_s", "temperature").rows()
    temperatures = {f"{t:g}": col("temperature") == t for t in sorted({t for _, t in links})}
    columns = {
        f"{rtt_s * 1000:g} ms, T {t:g}": (col("rtt_s") == rtt_s) & (col("temperature") == t)
        for rtt_s, t in links
    }
    parts = [
        f"## At a glance{run.paced}",
        f"Tokens/s over those of `{BASE}` in the same cell, median over the uplinks; wire bytes and target "
        "passes an output token, median over the cells of a temperature:",
        _by_method(methods, columns, temperatures),
    ]
    shown = methods.filter(col("method") == col("shown"))
    if there := [name for name in BASELINES if shown[f"over:{name}"].count()]:
        parts += [
            f"Tokens/s of {', '.join(sorted(set(shown['method'])))} over those of each baseline: median over "
            "the cells, least to most, and in how many cells it is as fast or faster:",
            _spreads(
                "cells",
                {words: shown.filter(where) for words, where in (columns | every).items()},
                {f"over {name}": col(f"over:{name}") for name in there},
            ),
        ]
    drafting = methods.filter(~col("is_peer") & (col("way") != NAIVE))
    if drafting["method"].n_unique() > 1 and NAIVE in run.names:  # of one alone the table above says it
        groups = {f"T {t}": where for t, where in temperatures.items()} | every
        parts += [
            f"The same of every method that drafts at the edge, over `{NAIVE}`:",
            _spreads(
                "method",
                {name: rows for (name,), rows in drafting.group_by("method", maintain_order=True)},
                {words: pl.when(where).then(f"over:{NAIVE}") for words, where in groups.items()},
            ),
        ]
    if methods.filter("is_ours")["method"].n_unique() > 1:
        best = methods.filter(col("method") == col("best_of_ours"))
        counts = {t: Counter(best.filter(where)["method"]) for t, where in temperatures.items()}
        lines = [
            f"- temperature {t}: {', '.join(f'{name} in {n}' for name, n in count.most_common())} "
            f"of {count.total()} cells"
            for t, count in counts.items()
            if count
        ]
        parts.append("\n".join(["Our fastest scheme:", "", *lines]))
    return parts


def _by_method(methods: pl.DataFrame, links: Groups, temperatures: Groups) -> str:
    counted = (
        ("bytes up", "wire_up_bytes", 0),
        ("down", "wire_down_bytes", 0),
        ("passes", "target_passes", 2),
    )
    columns: list[Column] = [
        ("method", col("method").first(), None),
        *((words, col(f"over:{BASE}").filter(where).median(), 2) for words, where in links.items()),
        *(
            (f"{what}, T {t}", pooled(name).filter(where).median(), digits)
            for what, name, digits in counted
            for t, where in temperatures.items()
        ),
    ]
    return _columns(methods.group_by(by="method", maintain_order=True), columns, left=1)


def _spreads(corner: str, rows: Mapping[str, pl.DataFrame], columns: Groups) -> str:
    """Of each row's ratios: median, least to most, and how many are won."""

    def spread(values: pl.Series) -> str:
        if not (ratios := values.drop_nulls().to_list()):
            return NONE
        won = f"{sum(not is_lost(ratio) for ratio in ratios)} of {len(ratios)}"
        return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), {won}"

    texts = [[words, *map(spread, frame.select(**columns))] for words, frame in rows.items()]
    return table([corner, *columns], texts, left=1)


def _fastest(run: Run) -> list[str]:
    """Our fastest scheme against the fastest stream, and the cells where it loses."""
    methods = run.methods.with_columns(name=NAME[1], passes=pooled("target_passes"))
    ours = methods.filter(col("method") == col("best_of_ours"))
    streams = methods.filter(col("method") == col("best_stream"))
    rows, lost = [], []
    for pair in ours.join(streams, on="cell", suffix="_s", maintain_order="left").iter_rows(named=True):
        verdict = pair["over:best_stream"]
        speeds = [f"{pair[f'name{which}']} {pair[f'speed{which}']:.1f}" for which in ("", "_s")]
        passes = f"{pair['passes']:.2f} / {pair['passes_s']:.2f}"
        rows.append([pair["cell"], *speeds, bold(verdict), passes])
        if verdict is not None and verdict < 1:
            lost.append(f"- {pair['cell']}: {verdict:.2f} ({pair['method']} against {pair['method_s']})")
    if not rows:
        return []
    head = ("cell", "ours, tokens/s", "streamed from the cloud, tokens/s", "ratio", "target passes a token")
    return [
        f"## Our fastest against the fastest stream{run.paced}",
        table(head, rows, left=3),
        f"## Cells we lose: {len(lost)} of {len(rows)}",
        "Ours is the fastest of our schemes on these very texts, which flatters it; of one scheme alone the "
        "losses are more, as the figure over each baseline shows.",
        "\n".join(lost or ["None."]),
    ]


def _matrix(run: Run) -> str:
    rows = []
    judged = run.methods.filter(col("best_stream").is_not_null())
    for (cell,), here in judged.group_by("cell", maintain_order=True):
        ratios = here.select("method", "over:best_stream", SHORT).iter_rows()
        texts = {name: bold(ratio) + short for name, ratio, short in ratios}
        rows.append([cell, *(texts.get(name, NONE) for name in run.names)])
    title = f"## tokens/s over the fastest stream's{run.paced}"
    return f"{title}\n\n{table(['cell', *run.names], rows, left=1)}" if rows else ""


def _tuning(run: Run) -> list[str]:
    """What tuning by transfer was worth: predictions beside what was measured, choices beside all others."""
    rate_bps, rtt_s = run.settings.get("plan", {}).get("tuning_link") or (math.nan, math.nan)
    # A text's first round waits for the prompt's pass.
    later_s = (col("last_token_s") - col("first_token_s")) / (col("rounds") - col("texts"))
    error = col("predicted_token_s") / later_s * pooled("output_tokens", "rounds") - 1
    made = (
        run.methods.filter(
            (col("rate_up_bps") != rate_bps) | (col("rtt_s") != rtt_s), col("rounds") > col("texts")
        )
        .select("cell", "method", error=error, size=error.abs())
        .drop_nulls()
        .sort("size", maintain_order=True)
    )
    if made.is_empty():
        return []
    sizes = made["size"]
    cell, method, worst, _ = made.row(-1)
    parts = [
        "## What tuning by transfer was worth",
        "Off the tuning link, seconds of an output token that the transfer expected against those measured "
        "(other prompts, so acceptance differs too): "
        f"{len(made)} methods and cells, median error {statistics.median(sizes):.1%}, nine tenths within "
        f"{sizes[(9 * len(sizes) - 1) // 10]:.1%}, worst {worst:+.1%} ({method}; {cell}).",
    ]
    if rows := _choices(run.records):
        hits = sum(chosen == fastest for _, _, chosen, fastest, _ in rows)
        shares = [share for *_, share in rows]
        head = ("cell", "method", "chosen γ", "fastest γ", "speed of the choice over the fastest's")
        parts += [
            "In the cells where every draft length was run on the tuning prompts, the choice was the fastest "
            f"in {hits} of {len(rows)}; its speed over the fastest's was {statistics.median(shares):.2f} at "
            f"the median and {min(shares):.2f} at worst. The fastest of a few is partly luck.",
            table(head, [[*map(str, words), number(share, 2)] for *words, share in rows], left=2),
        ]
    return parts


def _choices(records: Sequence[GenerationRecord]) -> list[tuple[Cell, str, int, int, float]]:
    """Where more draft lengths ran than the transfer's own two: chosen, fastest, and the choice's speed."""
    chosen = {
        (r.cell, r.method): r.parameters
        for r in records
        if r.purpose == MEASURED and r.tuned_by == "transfer" and not r.is_peer
    }
    tried: dict[tuple[Cell, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for r in records:
        best = chosen.get((r.cell, r.method), {})
        alike = {**r.parameters, LENGTH: best.get(LENGTH)} == best
        if r.purpose == TUNING and not r.failure and alike:
            tried[r.cell, r.method][r.parameters[LENGTH]].append(1 / r.tokens_per_s)
    rows = []
    for key, lengths in sorted(tried.items()):
        length = chosen[key][LENGTH]
        seconds = {tried_length: statistics.mean(each) for tried_length, each in lengths.items()}
        if len(seconds) > 2 and length in seconds:
            fastest = min(seconds, key=seconds.__getitem__)
            rows.append((*key, length, fastest, seconds[fastest] / seconds[length]))
    return rows


DRAFTS, OURS = pl.when(col("drafted_tokens") > 0), pl.when(~col("is_peer"))
RATIO = "/ best stream"
SHORT = pl.when("any_short").then(pl.lit(" *short*")).otherwise(pl.lit(""))
NAME: Column = ("method", col("method") + SHORT, None)
SPEED: tuple[Column, ...] = (
    NAME,
    ("settings", col("settings"), None),
    ("tokens/s", col("speed"), 1),
    (RATIO, col("over:best_stream"), 2),
    ("s/token p50", col("p50"), 4),
    ("p95", col("p95"), 4),
    ("p99", pl.when(col("texts") >= TAIL_FROM).then("p99"), 4),
    ("first token, s", col("first_s"), 3),
    ("largest gap, s", col("gap_s"), 3),
    ("wire B up a token", pooled("wire_up_bytes"), 0),
    ("down", pooled("wire_down_bytes"), 0),
)
ACCOUNT: tuple[Column, ...] = (
    NAME,
    ("payload bits a drafted token", OURS.then(pooled("uplink_payload_bits", "drafted_tokens")), 1),
    ("an output token", OURS.then(pooled("uplink_payload_bits")), 1),
    ("acceptance", pooled("accepted_tokens", "tested_tokens"), 3),
    ("resampling", DRAFTS.then(pooled("resampled_tokens")), 3),
    ("tokens a round", pooled("output_tokens", "rounds"), 2),
    ("target passes a token", pooled("target_passes"), 3),
    ("target s a token", pooled("target_s"), 4),
    ("draft s a token", DRAFTS.then(pooled("draft_s")), 4),
    ("network s a token", pooled("network_s"), 4),
    ("dropped packets", col("dropped_packets"), 0),
)


def _cell(cell: str, methods: pl.DataFrame, paced: str) -> list[str]:
    most = max(methods["texts"])
    speed = [column for column in SPEED if column[0] != "p99" or most >= TAIL_FROM]
    return [
        f"## {cell}{paced}",
        f"{most} texts a method.",
        _columns(methods, speed, left=2),
        f"Where it goes{paced}:",
        _columns(methods, ACCOUNT, left=1),
    ]


def _columns(methods: pl.DataFrame | GroupBy, columns: Sequence[Column], *, left: int) -> str:
    """A table with a row for each method, or for each group of them; ratios to the best stream are bold."""
    values = [value.alias(title) for title, value, _ in columns]
    found = methods.select(values) if isinstance(methods, pl.DataFrame) else methods.agg(values).drop("by")

    def text(column: Column, value: Any) -> str:
        title, _, digits = column
        return value if digits is None else bold(value) if title == RATIO else number(value, digits)

    rows = [list(map(text, columns, row)) for row in found.iter_rows()]
    return table(found.columns, rows, left=left)


CONDITIONS = """\
Pacing: {pacing}.
Machine: {machine}; {versions}; source {revision}.
Started {started_at}; {texts} texts.
Link: kind {link_kind}, {congestion_control}, down four times up; \
client and draft model at its edge end, target and peers at its cloud end.
Between edge and cloud: {security}.
Same for all methods: N = {tokens} tokens, top-k off, top-p 1, end-of-text ignored, \
the same prompts and seeds; target on {target_threads} threads, draft model on {draft_threads}, \
pinning {pinning}.
Tuned where the name leaves it open: {tuned}; {how}."""
TRANSFER = """\
by transfer: acceptance, bits and times were measured at each temperature on the link of {link}, {prompts}, \
and say which values are fastest in every other cell (bench/grid/transfer.py)"""
LINKS = """\
## Links

Every link passed its self-test before anything ran on it.

| bit/s up / down | RTT, ms | rate off by | round trip off by, ms | latest packet, ms | real time |
|---:|---:|---:|---:|---:|---|"""
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
