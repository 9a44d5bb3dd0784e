"""
`python -m bench.grid.figures DIR`: figures of a run as SVG, from its lines alone.

A panel for each round trip and temperature, a line for each method over the uplink's rate: output tokens per
second, and bytes up the link per output token.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import charts, command
from bench.grid.cells import rate_text
from bench.grid.conditions import in_a_line
from bench.grid.records import GenerationRecord
from bench.grid.store import read_generations, read_settings
from bench.grid.summaries import CellSummary, Summary, method_names, summarise

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


class Value:
    """What a figure shows of a method in a cell: one number for all texts, and one for each."""

    def __init__(
        self, summary: Callable[[Summary], float], text: Callable[[GenerationRecord], float]
    ) -> None:
        self.summary, self.text = summary, text

    def mark(self, x: float, method: Summary) -> charts.Mark:
        """A point with its bar from the least text to the greatest; hollow where the texts were cut short."""
        each = [value for text in method.texts if not math.isnan(value := self.text(text))]
        span = (min(each), max(each)) if each else None
        return charts.Mark(x, self.summary(method), hollow=method.first.short, span=span)


FIGURES: dict[str, tuple[str, str, str, Value]] = {
    "tokens-per-s.svg": (
        "Output tokens per second",
        "tokens/s",
        "median",
        Value(lambda m: m.tokens_per_s, lambda text: text.tokens_per_s),
    ),
    "wire-up.svg": (
        "Bytes up the link per output token, headers and ACKs included",
        "bytes a token",
        "mean",
        Value(
            lambda m: m.pooled("wire_up_bytes", "output_tokens"),
            lambda text: text.per_output_token("wire_up_bytes"),
        ),
    ),
}


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
    records = read_generations(folder)
    cells = summarise(records)
    settings = read_settings(folder)
    paced = " (paced)" if any(record.is_paced for record in records) else ""
    paths = []
    for name, (title, unit, middle, value) in FIGURES.items():
        paths.append((to or folder) / f"{prefix}{name}")
        text = draw(cells, title + paced, unit, value, caption(cells, settings, middle))
        paths[-1].write_text(text, encoding="utf-8")
    return paths


def draw(cells: Sequence[CellSummary], title: str, unit: str, value: Value, below: str) -> str:
    """One figure as an SVG document."""
    names = method_names(cells)
    rates = sorted({cell.cell.rate_up_bps for cell in cells})
    rtts = sorted({cell.cell.rtt_s for cell in cells})
    temperatures = sorted({cell.cell.temperature for cell in cells})
    x = charts.categories("uplink, bit/s", [short_rate(rate) for rate in rates])
    marks = [value.mark(0.0, m) for cell in cells for m in cell.methods]
    y = charts.logarithmic(unit, [number for mark in marks for number in (mark.y, *(mark.ends or ()))])
    looks = looks_of(names)

    def series(number: int, name: str, chosen: Sequence[CellSummary]) -> charts.Series:
        found = {c.cell.rate_up_bps: m for c in chosen if (m := c.named(name)) is not None}
        marks = tuple(value.mark(float(rates.index(rate)), m) for rate, m in sorted(found.items()))
        colour, line, shape = looks[name]
        shift = SHIFT * (number - (len(names) - 1) / 2)
        return charts.Series(name, colour, marks, line=line, shape=shape, shift=shift)

    panels = []
    for temperature in temperatures:
        for rtt_s in rtts:
            chosen = [c for c in cells if (c.cell.temperature, c.cell.rtt_s) == (temperature, rtt_s)]
            head = f"RTT {rtt_s * 1000:g} ms, temperature {temperature:g}"
            lines = tuple(series(number, name, chosen) for number, name in enumerate(names))
            panels.append(charts.Panel(head, x, y, lines))
    return charts.draw(title, panels, columns=len(rtts) if len(rtts) > 1 else 2, caption=below)


def looks_of(names: Sequence[str]) -> dict[str, Look]:
    """Colour, line and dots of each method; the same name looks the same in every figure with these names."""
    sparse, other = iter(SPARSE_LOOKS * len(names)), iter(OTHER_LOOKS * len(names))
    looks: dict[str, Look] = {}
    for name in names:
        kind = name.partition(":")[0]
        known = LOOKS.get(kind)
        if known in looks.values():
            known = None  # a second c-sqs or dense-qs with other parameters
        looks[name] = next(sparse) if kind == "k-sqs" else known or next(other)
    return looks


def caption(cells: Sequence[CellSummary], settings: Mapping[str, Any], middle: str) -> str:
    """What the points are and what they were measured under."""
    texts = [text for cell in cells for method in cell.methods for text in method.texts]
    counts = sorted({len(method.texts) for cell in cells for method in cell.methods})
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    tokens = max(text.requested_tokens for text in texts)
    cut = " Hollow: rounds so slow that fewer tokens were run." if any(text.short for text in texts) else ""
    return (
        f"Points: {middle} of {many} texts of {tokens} tokens. Bars: from the least text to the greatest."
        f"{cut} Methods at one rate stand side by side.\n{in_a_line(settings)}"
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
