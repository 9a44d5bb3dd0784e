"""The page beside the figures: parameters, verdicts on the claims, guarantees; from lines alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl

from bench.grid.store import read_lines, read_settings
from bench.markdown import NONE, table
from bench.paper.claims import Finding, equal_bits_findings, findings
from bench.paper.data import ERROR_BARS, IS_ADAPTIVE, LATENCY, STEPS, Data, estimate, groups
from bench.paper.figures import LINK_FIGURES, STEP_FIGURES, TITLES
from bench.paper.steps import STEERING, theorem_2_bounds

HEAD = """\
# The paper's figures with the bundled pair

Written by `make figures` from measured lines, never by hand; \
`python -m bench.paper --redraw` writes it again without measuring.
Models: the bundled pair (demo-pair/thinwire_demo_pair/MODEL_CARD.md). Plan: {plan}."""
MEASURED_ON = "{words}: begun {started_at}, source {revision}; {machine}; {versions}"
THREADS = (
    "; target on {target_threads} threads, draft model on {draft_threads}; {pacing}, {congestion_control}"
)
ON_TIME = "The link passed its self-test before every start; its latest packet was {late_ms:.1f} ms late."
CLAIMS = """\
## The paper's claims

A difference is taken seed by seed, then its mean ± standard error; positive speaks for the claim.
Seen: the mean is above the 95 % interval of Student's t over the seeds; not seen: below it; within error: \
in it.
In process, 'rejections' are those of every position of a long text, with the threshold carried on; \
over the link every text begins at β₁."""
EQUAL_BITS = """\
## Beside the claims: at the same bits

K = 2 and 3 send less than an adaptive threshold does at high temperature.
Here K-SQS is read off at the bits that C-SQS sends, between the nearest K that were measured; \
'not measured' where no two K enclose them."""


def _mean(column: str) -> Callable[[pl.DataFrame], str]:
    return lambda group: str(estimate(group[column]))


def _shown(template: str, *values: pl.Expr) -> Callable[[pl.DataFrame], str]:
    """A group's values in a template; a dash where one is missing."""

    def word(group: pl.DataFrame) -> str:
        found = [group.select(value).item() for value in values]
        return NONE if None in found else template.format(*found)

    return word


def _ratio(digits: int, above: str, below: str) -> Callable[[pl.DataFrame], str]:
    return _shown(f"{{:.{digits}f}}", pl.sum(above) / pl.sum(below))


def _per_kept(column: str) -> pl.Expr:
    kept = pl.col("kept_positions")
    return (pl.col(column) * kept).sum() / pl.max_horizontal(kept.sum(), 1)


def _bounds(group: pl.DataFrame) -> str:
    return "{:.4f} / {:.4f}".format(*theorem_2_bounds(group.row(0, named=True), min(group["steps"])))


def _guarantees(group: pl.DataFrame) -> str:
    """stood 3, void 1; a dash where there is no guarantee."""
    counts = sorted(Counter(group["guarantee"]).items())
    return ", ".join(status if status == NONE else f"{status} {count}" for status, count in counts)


Columns = Mapping[str, Callable[[pl.DataFrame], str]]
"""Head of a column → its word for a group of lines."""
PROMISED = pl.col("dropped_mass_guarantee")
LINK: Columns = {
    "latency, ms a token": _mean("latency_ms"),
    "resampling rate": _mean("resampling_rate"),
    "resampled a round": _ratio(2, "resampled_tokens", "rounds"),
    "acceptance": _ratio(3, "accepted_tokens", "tested_tokens"),
    "tokens a round": _ratio(2, "output_tokens", "rounds"),
    "payload bits a drafted token": _ratio(0, "uplink_payload_bits", "drafted_tokens"),
    "wire bytes up a token": _ratio(0, "wire_up_bytes", "output_tokens"),
}
LINK_GUARANTEES: Columns = {
    "α*": _shown("{:g}", pl.col("target_dropped_mass").filter(PROMISED.is_not_null()).first()),
    "kept steps": _shown("{}", pl.sum("kept_positions")),
    "mean α": _shown("{:.3f}", _per_kept("mean_dropped_mass")),
    "guaranteed, by text": _shown("{:.3f} to {:.3f}", PROMISED.min(), PROMISED.max()),
    "K_max bound": _shown("{:.2f} %", 100 * _per_kept("cap_binding_rate")),
    "guarantee": _guarantees,
}
PARTS = pl.mean("dropped_mass") + pl.mean("lattice_term")
THEOREM_1: Columns = {
    "rejected": _mean("rejection_rate"),
    "TV(p, q̂)": _shown("{:.3f}", pl.mean("lattice_distance")),
    "TV(p, q)": _shown("{:.3f}", pl.mean("draft_distance")),
    "α + K/4ℓ": _shown("{:.3f}", PARTS),
    "bound": _shown("{:.3f}", pl.mean("draft_distance") + PARTS),
    "payload bits a drafted token": _shown("{:.1f}", pl.mean("bits")),
}
THEOREM_2: Columns = {
    "α*": _shown("{:g}", pl.first("target_dropped_mass")),
    "mean α": _mean("dropped_mass"),
    "bound, the paper's / ours": _bounds,
    "K_max bound, at most": _shown("{:.2f} %", 100 * pl.max("cap_binding_rate")),
    "mean α less the bound, at most over T": _shown("{:.4f}", pl.max("excess")),
    "guarantee": _guarantees,
}


def render(data: Data, folder: Path) -> str:
    """The page as Markdown; the folder of the lines tells what they were measured on."""
    texts, runs, frontier = data.texts, data.theorem_runs, data.frontier_runs
    parts = [_head(data, folder)]
    if found := findings(data):
        parts += [CLAIMS, _verdicts(found)]
    if not runs.is_empty():
        parts += [EQUAL_BITS, _verdicts(equal_bits_findings(data))]
    if not texts.is_empty():
        of_c = texts.filter(pl.col("scheme") == "c-sqs")
        parts += [*_figures(LINK_FIGURES), data.link_caption, _table("", LINK, texts)]
        parts += [_table("### C-SQS over the link: K_max and the guarantee", LINK_GUARANTEES, of_c)]
    if not runs.is_empty():
        title = "### Adaptive C-SQS in process: K_max and the guarantee after every step"
        parts += [*_figures(STEP_FIGURES[:2]), f"{data.theorem_caption} {ERROR_BARS}"]
        parts += [_table("All but the bits a tested token:", THEOREM_1, runs)]
        parts += [_table(title, THEOREM_2, runs.filter(IS_ADAPTIVE))]
    if not frontier.is_empty():
        parts += [*_figures(STEP_FIGURES[2:]), data.frontier_caption, _frontier_table(frontier)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(data: Data, folder: Path) -> str:
    lines = [HEAD.format(plan=data.plan.name)]
    for name, part in (("Over the link", LATENCY), ("In process", STEPS)):
        if settings := read_settings(folder / part):
            versions = ", ".join(f"{key} {value}" for key, value in settings["versions"].items())
            template = MEASURED_ON + (THREADS if part == LATENCY else "") + "."
            lines.append(template.format(**{**settings, "words": name, "versions": versions}))
    links = read_lines(folder / LATENCY / "links.jsonl")
    late = [side["max_s"] or 0.0 for link in links for side in link["lateness"].values()]
    if late:
        lines.append(ON_TIME.format(late_ms=1000 * max(late)))
    if data.failed:
        lines.append(f"**{data.failed} texts failed and are in no figure.**")
    return "\n".join(lines)


def _verdicts(found: Iterable[Finding]) -> str:
    head = ("claim", "measured", "difference", "unit", "95 %", "seeds", "verdict")
    rows = []
    for f in found:
        numbers = (str(f.difference), f.unit, f"± {f.margin:.2g}", str(f.difference.count))
        rows.append((f.claim, f.compared, *numbers, f"**{f.verdict}**"))
    return table(head, rows, left=2)


def _figures(names: Sequence[str]) -> list[str]:
    return [f"## {TITLES[name]}\n\n![{TITLES[name]}](figures/{name})" for name in names]


def _table(title: str, columns: Columns, lines: pl.DataFrame) -> str:
    """A row for each temperature and setting; nothing without any."""
    rows = [(f"{t:g}", name, *(word(group) for word in columns.values())) for t, name, group in groups(lines)]
    text = table(("temperature", "setting", *columns), rows, left=2)
    return f"{title}\n\n{text}".lstrip() if rows else ""


def _frontier_table(runs: pl.DataFrame) -> str:
    """Every adaptive setting, a column per temperature; nothing without any."""
    temperatures = sorted(set(runs["temperature"]))
    cells = {
        key: f"{100 * max(group['cap_binding_rate']):.1f} %, {_guarantees(group)}"
        for key, group in runs.filter(IS_ADAPTIVE)
        .partition_by(*STEERING, "temperature", as_dict=True)
        .items()
    }
    rows = [
        [*(f"{value:g}" for value in key), *(cells.get((*key, t), NONE) for t in temperatures)]
        for key in sorted({key[:3] for key in cells})
    ]
    text = table(("β", "η", "α*", *(f"temperature {t:g}" for t in temperatures)), rows, left=0)
    title = "### Every adaptive setting: how often K_max bound at most, and the guarantee by seeds"
    return f"{title}\n\n{text}" if rows else ""
