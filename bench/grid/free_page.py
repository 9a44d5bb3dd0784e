"""
`python -m bench.grid.free_page DIR`: what a run at several pass times says, from its lines alone.

DIR holds a folder a pass time, each that of a run (`pass_times`), and maybe `capacity.jsonl`, the lines of
`python -m bench.capacity --free`. First what must be reached beside what was measured (`goals`), then when to
use what, and every cell in that `coupled` loses.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from polars import col

from bench import charts, command
from bench.grid.cells import Cell, rate_text
from bench.grid.figures import Look
from bench.grid.goals import ASSISTED, CLOUD, EVERYWHERE, HEAD, KSQS, OURS, STREAM, Compared, Goal, rows_of
from bench.grid.store import StoreError, read_lines
from bench.grid.summaries import Run, is_lost, read_run
from bench.markdown import NONE, bold, table

CAPACITY_FILE = "capacity.jsonl"
WHERE = ("pass_ms", "rtt_s")
LOOKS: Mapping[str, Look] = {
    OURS: (charts.BLUE, "solid", "o"),
    KSQS: (charts.ORANGE, "solid", "s"),
    ASSISTED: (charts.VIOLET, "dashed", "^"),
}
"""Of the figure's methods, by how their names begin."""


def folders_of(folder: Path) -> list[Path]:
    """The runs in a folder, by pass time; none where it is a run itself."""
    found = {path.parent for path in folder.glob("*/generations.jsonl*")}
    return sorted(found, key=lambda path: (path.name.startswith("paced"), len(path.name), path.name))


def render(folder: Path, *, head: str = "", images: str = "") -> str:
    """The whole page; arguments and errors as of `report.render`."""
    runs = _read(folder)
    texts, settings = texts_of(runs), runs[0].settings
    failed = sum(bool(record.failure) for run in runs for record in run.records)
    parts = [
        f"# Benchmark: {settings.get('plan', {}).get('name', folder.name)}",
        head,
        "\n".join(f"- {run.settings.get('pacing', '?')}: {len(run.texts)} texts" for run in runs),
        f"Machine: {settings.get('machine', '?')}; source {settings.get('revision', '?')}; started "
        f"{settings.get('started_at', '?')}; {failed} texts failed.",
        images,
        "## What it must reach",
        HOW,
        table(HEAD, rows_of(texts, list(read_lines(folder / CAPACITY_FILE))), left=1),
        "## When to use what",
        _when_to_use_what(texts),
        f"## Where `{OURS}` loses",
        *_losses(texts),
        *_equal_texts(texts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def texts_of(runs: Sequence[Run]) -> pl.DataFrame:
    """All measured texts, with `pass_ms`: the least milliseconds of a pass, 0 for passes as they are."""
    return pl.concat(run.texts for run in runs).with_columns(pass_ms=(1000 * col("pacing_base_s")).round(3))


def _read(folder: Path) -> list[Run]:
    if not (found := [read_run(one) for one in folders_of(folder)]):
        raise StoreError(f"{folder} holds no folder with a run in it; expected one a pass time.")
    return found


def _over_stream(texts: pl.DataFrame, method: str) -> Compared:
    return Compared(texts, Goal("", 1.0, 1.0, EVERYWHERE, STREAM, method=method))


def _places(texts: pl.DataFrame, *more: str) -> list[tuple[tuple[float, ...], pl.DataFrame]]:
    """The texts of each pass time and round trip, in order."""
    return list(texts.sort(*WHERE, *more).group_by(*WHERE, *more, maintain_order=True))


def _pass_words(pass_ms: float) -> str:
    return f"{pass_ms:g} ms" if pass_ms else "as it is"


def when_to_use_what(folder: Path) -> str:
    """The table that says so; StoreError: no runs there."""
    return _when_to_use_what(texts_of(_read(folder)))


def _when_to_use_what(texts: pl.DataFrame) -> str:
    """A row for each pass time and round trip: who is best at what, and every method's figures."""
    names = [STREAM, *(name for name in dict.fromkeys(texts["method"]) if name != STREAM)]
    rows = []
    for (pass_ms, rtt_s), here in _places(texts):
        compared = {name: _over_stream(here, name) for name in names}
        there = {name: one for name, one in compared.items() if one.cells}
        up = {
            name: Compared(here, Goal("", 0, 0, EVERYWHERE, value=UP, method=name)).figure for name in there
        }
        speeds = {name: one.figure for name, one in there.items()}
        alone = [name for name in speeds if not name.startswith(ASSISTED)]
        best = (
            max(speeds, key=speeds.__getitem__),
            max(alone, key=speeds.__getitem__),
            min(there, key=lambda name: there[name].passes),
            min(up, key=up.__getitem__),
        )
        figures = [
            f"{bold(speeds[name])}; {there[name].passes:.2f}; {up[name]:.0f}" if name in there else NONE
            for name in names
        ]
        where = [_pass_words(pass_ms), f"{1000 * rtt_s:g} ms"]
        rows.append([*where, *(f"`{name}`" for name in best), *figures])
    head = ["a target pass", "round trip", "fastest", "fastest without a draft model in the cloud"]
    head += ["fewest passes", "fewest bytes up", *(f"`{name}`" for name in names)]
    words = "Tokens/s over plain streaming; target passes a token; wire bytes up a token. " + _means(texts)
    return f"{words}\n\n{table(head, rows, left=6)}"


def _means(texts: pl.DataFrame) -> str:
    rates = ", ".join(map(rate_text, sorted(set(texts["rate_up_bps"]))))
    temperatures = ", ".join(f"{t:g}" for t in sorted(set(texts["temperature"])))
    return f"Means over uplinks of {rates} and temperatures of {temperatures}."


def _losses(texts: pl.DataFrame) -> list[str]:
    parts = []
    for name in dict.fromkeys(texts["method"]):
        if name.startswith(OURS):
            continue
        compared = Compared(texts, Goal("", 1.0, 1.0, EVERYWHERE, name))
        if not compared.cells:
            continue
        lost = sorted((r, c) for r, c in zip(compared.by_cell, compared.cells, strict=True) if is_lost(r))
        words = f"Slower than `{name}` in {len(lost)} of {len(compared.cells)} cells"
        lines = (
            f"- {ratio:.2f}: pass {_pass_words(pass_ms)}; {Cell(int(rate_bps), rtt_s, t)}"
            for ratio, (pass_ms, rtt_s, rate_bps, t) in lost
        )
        parts.append(f"{words}{':' if lost else '.'}\n\n" + "\n".join(lines))
    return parts


def _equal_texts(texts: pl.DataFrame) -> list[str]:
    ours = texts.filter(col("method").str.starts_with(OURS))
    keys = ("temperature", "prompt", "seed", "output_tokens")
    same = ours.group_by(keys).agg(different=col("text_sha256").n_unique())
    equal = sum(same["different"] == 1)
    return [
        "## Equal texts",
        f"Of {len(same)} prompts with seed and temperature, {equal} gave one and the same text in every "
        f"cell, at every pass time and with either objective ({len(ours)} texts).",
    ][: 2 * bool(len(same))]


def write_figure(folder: Path, path: Path) -> None:
    """Draw speed over plain streaming by round trip, a panel a pass time; StoreError: no runs there."""
    runs = _read(folder)
    texts, settings = texts_of(runs), runs[0].settings
    rtts_s = sorted(set(texts["rtt_s"]))
    points: dict[float, dict[str, list[charts.Mark]]] = {}
    for (pass_ms, rtt_s), here in _places(texts):
        for name in dict.fromkeys(here["method"]):
            one = _over_stream(here, name)
            look = next((start for start in LOOKS if name == start or name.startswith(f"{start}:")), None)
            if one.cells and look and name != CLOUD:
                mark = charts.Mark(rtts_s.index(rtt_s), one.figure, (min(one.by_cell), max(one.by_cell)))
                points.setdefault(pass_ms, {}).setdefault(look, []).append(mark)
    level = tuple(charts.Mark(edge, 1.0) for edge in (-0.5, len(rtts_s) - 0.5))
    stream = charts.Series("plain streaming", charts.INK, level, line="dotted", dots=False)
    x = charts.categories("round trip, ms", [f"{1000 * rtt_s:g}" for rtt_s in rtts_s])
    marks = [mark for lines in points.values() for line in lines.values() for mark in line]
    y = charts.linear("tokens/s over plain streaming", [1.0, *(np.max(mark.error) for mark in marks)])
    panels = []
    for pass_ms, lines in points.items():
        series = [
            charts.Series(name, colour, tuple(lines[name]), line=line, shape=shape, shift=5.0 * (number - 1))
            for number, (name, (colour, line, shape)) in enumerate(LOOKS.items())
            if name in lines
        ]
        panels.append(charts.Panel(f"a target pass {_pass_words(pass_ms)}", x, y, (*series, stream)))
    caption = (
        f"Points: geometric means. {_means(texts)} Bars: from the worst cell to the best. Above the dotted "
        "line: faster than the cloud streaming the target's own tokens. cloud-assisted: both models in the "
        f"cloud.\n{settings.get('machine', '?')}; {str(settings.get('started_at', '?'))[:10]}."
    )
    title = "Speed over plain streaming on a thin link"
    path.write_text(charts.draw(title, panels, columns=3, caption=caption), encoding="utf-8")


UP = col("wire_up_bytes") / col("output_tokens")
HOW = """\
Ratios of the same text (prompt and seed) by both methods, geometric means over a cell's texts and then over \
cells; where every cell counts, the worst cell's. The bound is the worse end of the 95 % interval by \
bootstrap over prompts (of few prompts it is too close). *Cells that miss it*: whose own mean does not reach \
what must be. *Passes a token*: target passes of ours in these cells.

`k-sqs:K=8` drafts blocks of a fixed γ, tuned by transfer (`--min-block-acceptance 0`): so it is the k-sqs \
from before block lengths followed acceptance. `cloud-assisted` is transformers' assisted generation with \
both models in the cloud (γ = 6, no early end); ours has no draft model there. \
Plain streaming is `cloud-stream`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the page of a folder; returns the exit code."""
    return command.run_on_folder("bench.grid.free_page", __doc__, render, argv)


if __name__ == "__main__":
    sys.exit(main())
