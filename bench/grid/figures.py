"""
`python -m bench.grid.figures DIR`: figures of a run as SVG, from its lines alone.

A panel for each round trip and temperature, a line for each method over the uplink's rate: output tokens per
second, and bytes up the link per output token.
When it is worth having (`write_worth`): a row of panels for each baseline, in it one for each run (as it is,
paced), in that a tile for each cell: Thinwire's default scheme over the baseline.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import chain, repeat
from pathlib import Path

import polars as pl
from polars import col

from bench import charts, command
from bench.grid.cells import rate_text
from bench.grid.summaries import BASELINES, Run, is_lost, read_run

Look = tuple[charts.Colour, charts.Line, charts.Shape]
LOOKS: dict[str, Look] = {
    "cloud-stream": (charts.INK, "dashed", "o"),
    "cloud-generate": (charts.GREY, "dashed", "+"),
    "cloud-assisted": (charts.VIOLET, "dashed", "^"),
    "cloud-ar": (charts.BROWN, "dotted", "x"),
    "dense-f16": (charts.RED, "dotted", "s"),
    "dense-qs": (charts.ORANGE, "solid", "x"),
    "c-sqs": (charts.GREEN, "solid", "v"),
}
"""A method's look by its name up to the colon: streams dashed, naive baselines dotted."""
SPARSE_LOOKS: tuple[Look, ...] = (
    (charts.Colour("#7fbfe6", "#2f78a8"), "solid", "o"),
    (charts.Colour("#3f95cf", "#4a9bd0"), "solid", "s"),
    (charts.Colour("#1f6fb4", "#74bbe8"), "solid", "^"),
    (charts.Colour("#0b3f7a", "#b3dcf7"), "solid", "D"),
)
"""The looks of k-sqs methods, in the order of the run."""
OTHER_LOOKS: tuple[Look, ...] = (
    (charts.TEAL, "solid", "+"),
    (charts.AMBER, "dotted", "v"),
    (charts.BROWN, "dotted", "D"),
)
SHIFT = 3.2
"""Pixels between methods at one rate, so that none hides behind another."""
STRONGEST = 8.0
"""Ratio either way at which a tile's colour is full."""

FIGURES: dict[str, tuple[str, str, str, pl.Expr, pl.Expr]] = {
    "tokens-per-s.svg": (
        "Output tokens per second",
        "tokens/s",
        "median",
        col("tokens_per_s").median(),
        col("tokens_per_s"),
    ),
    "wire-up.svg": (
        "Bytes up the link per output token, headers and ACKs included",
        "bytes a token",
        "mean",
        col("wire_up_bytes").sum() / col("output_tokens").sum(),
        col("wire_up_bytes") / col("output_tokens"),
    ),
}
"""Title, unit, what a point is of all texts (in words, as an expression), and the value of one text."""


def write(folder: Path, to: Path | None = None, *, prefix: str = "") -> list[Path]:
    """
    Draw every figure of a run.

    Args:
        folder: of the run.
        to: where to; None for the run's own folder.
        prefix: of the files' names.

    Returns:
        the files.

    Raises:
        StoreError: no lines there.
    """
    run = read_run(folder)
    paths = []
    for name, (title, unit, middle, value, each) in FIGURES.items():
        paths.append((to or folder) / f"{prefix}{name}")
        panels = _panels(run, unit, value, each)
        columns = max(2, run.texts["rtt_s"].n_unique())
        text = charts.draw(title + run.paced, panels, columns=columns, caption=_caption(run, middle))
        paths[-1].write_text(text, encoding="utf-8")
    return paths


def _panels(run: Run, unit: str, value: pl.Expr, each: pl.Expr) -> list[charts.Panel]:
    cell = ("temperature", "rtt_s", "rate_up_bps")
    points = (
        run.texts.group_by(*cell, "method")
        .agg(value.alias("y"), low=each.min(), high=each.max(), hollow=col("short").first())
        .sort(cell)
        .fill_null(math.nan)
    )
    rates = sorted(set(points["rate_up_bps"]))
    x = charts.categories("uplink, bit/s", [short_rate(rate) for rate in rates])
    y = charts.logarithmic(unit, [*points["low"], *points["high"]])
    looks = looks_of(run.names)
    panels = []
    for (temperature, rtt_s), here in points.group_by("temperature", "rtt_s", maintain_order=True):
        series = []
        for number, (name, (colour, line, shape)) in enumerate(looks.items()):
            marks = tuple(
                charts.Mark(rates.index(p["rate_up_bps"]), p["y"], (p["low"], p["high"]), p["hollow"])
                for p in here.filter(method=name).iter_rows(named=True)
            )
            shift = SHIFT * (number - (len(looks) - 1) / 2)
            series.append(charts.Series(name, colour, marks, line=line, shape=shape, shift=shift))
        head = f"RTT {rtt_s * 1000:g} ms, temperature {temperature:g}"
        panels.append(charts.Panel(head, x, y, tuple(series)))
    return panels


def looks_of(names: Sequence[str]) -> dict[str, Look]:
    """Colour, line and dots of each method; the same name looks the same in every figure with these names."""
    sparse, other = (chain.from_iterable(repeat(looks)) for looks in (SPARSE_LOOKS, OTHER_LOOKS))
    looks: dict[str, Look] = {}
    for name in names:
        kind = name.partition(":")[0]
        known = LOOKS.get(kind)
        if known in looks.values():
            known = None  # a second c-sqs or dense-qs with other parameters
        looks[name] = next(sparse) if kind == "k-sqs" else known or next(other)
    return looks


def _caption(run: Run, middle: str) -> str:
    least, most = min(run.methods["texts"]), max(run.methods["texts"])
    many = f"{least}" if least == most else f"{least} to {most}"
    cut = " Hollow: rounds so slow that fewer tokens were run." if any(run.texts["short"]) else ""
    return (
        f"Points: {middle} of {many} texts of {max(run.texts['requested_tokens']):g} tokens. Bars: from the "
        f"least text to the greatest.{cut} Methods at one rate stand side by side.\n{_conditions(run)}"
    )


def _conditions(run: Run) -> str:
    """Link, machine, date and pacing."""
    get = run.settings.get
    return (
        f"Link: {get('link_kind', '?')}, {get('congestion_control', '?')}, down four times up. "
        f"{get('machine', 'unknown machine')}; {str(get('started_at', 'unknown date'))[:10]}; "
        f"{get('pacing', 'unknown pacing')}."
    )


def write_worth(folders: Sequence[Path], path: Path) -> bool:
    """
    Draw when it is worth having, of one run or of several.

    Returns:
        whether there was anything of ours beside a baseline to draw.

    Raises:
        StoreError: no lines there.
    """
    runs = [read_run(folder) for folder in folders]
    shown = [run.methods.filter(col("method") == col("shown")) for run in runs]
    there = [name for name in BASELINES if any(rows[f"over:{name}"].count() for rows in shown)]
    panels = [_worth(run, rows, name) for name in there for run, rows in zip(runs, shown, strict=True)]
    lost = [not tile.bold for panel in panels for tile in panel.tiles]
    below = (
        "Numbers: our output tokens/s over theirs, text by text, median. Blue and bold: as fast or faster. "
        f"Orange: slower, a cell we lose ({sum(lost)} of {len(lost)}). Rows: round trip in ms and temperature"
        ". Paced: a target pass lasts at least so long, to stand for a large model."
    )
    if there:
        names = sorted({name for rows in shown for name in rows["method"]})
        title = f"{', '.join(names)}: tokens/s over those of each baseline, cell by cell"
        caption = "\n".join([below, *dict.fromkeys(map(_conditions, runs))])
        text = charts.draw(title, panels, columns=max(2, len(runs)), caption=caption)
        path.write_text(text, encoding="utf-8")
    return bool(there)


def _worth(run: Run, shown: pl.DataFrame, baseline: str) -> charts.Panel:
    found = shown.select("rate_up_bps", "rtt_s", "temperature", f"over:{baseline}").drop_nulls().rows()
    first = run.records[0]
    base_ms, token_ms = first.pacing_base_s * 1000, first.pacing_per_token_s * 1000
    pace = f"paced {base_ms:g} + {token_ms:g} ms" if first.is_paced else "as it is"
    rates = sorted({rate for rate, *_ in found})
    rows = sorted({(rtt_s, temperature) for _, rtt_s, temperature, _ in found}, reverse=True)
    tiles = [
        charts.Tile(
            rates.index(rate),
            rows.index((rtt_s, temperature)),
            f"{ratio:.2f}" if ratio < 10 else charts.tick_text(round(ratio)),
            charts.ORANGE if is_lost(ratio) else charts.BLUE,
            0.12 + 0.5 * min(1.0, abs(math.log(ratio)) / math.log(STRONGEST)),
            bold=not is_lost(ratio),
        )
        for rate, rtt_s, temperature, ratio in found
    ]
    return charts.Panel(
        f"over {baseline}, {pace}{'' if found else ': not run'}",
        charts.categories("uplink, bit/s", [short_rate(rate) for rate in rates]),
        charts.categories("", [f"{rtt_s * 1000:g}, {temperature:g}" for rtt_s, temperature in rows]),
        tiles=tuple(tiles),
    )


def short_rate(rate_bps: int) -> str:
    """32k, 20M."""
    return rate_text(rate_bps).removesuffix("bit/s").replace(" ", "")


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figures of a folder; returns the exit code."""

    def words(folder: Path) -> str:
        return "".join(f"{path}\n" for path in write(folder))

    return command.run_on_folder("bench.grid.figures", __doc__, words, argv)


if __name__ == "__main__":
    sys.exit(main())
