"""What tuning by transfer was worth: predictions beside what was measured, choices beside all others."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.grid.cells import Cell
from bench.grid.records import MEASURED, TUNING, GenerationRecord
from bench.grid.summaries import summarise
from bench.markdown import number, table

LENGTH = "draft_length"


@dataclass(frozen=True, slots=True)
class Prediction:
    """One method in one cell: seconds of an output token."""

    cell: Cell
    method: str
    predicted_s: float
    measured_s: float

    @property
    def error(self) -> float:
        """Predicted over measured, less 1."""
        return self.predicted_s / self.measured_s - 1


@dataclass(frozen=True, slots=True)
class Check:
    """One method in one cell where every draft length was run on the tuning prompts."""

    cell: Cell
    method: str
    chosen: int
    seconds: dict[int, float]
    """By draft length: seconds of an output token, whole texts."""

    @property
    def fastest(self) -> int:
        """The draft length with the least seconds."""
        return min(self.seconds, key=lambda length: self.seconds[length])

    @property
    def share(self) -> float:
        """Speed of the choice over that of the fastest; 1 where they are the same."""
        return self.seconds[self.fastest] / self.seconds[self.chosen]


def predictions(records: Iterable[GenerationRecord]) -> list[Prediction]:
    """Methods and cells with a prediction; the first round, which waits for the prompt, is left out."""
    found = []
    for cell in summarise(record for record in records if record.predicted_token_s is not None):
        for method in sorted(cell.methods, key=lambda method: method.method):
            later = method.total("rounds") - len(method.texts)
            if later > 0 and (predicted_s := method.first.predicted_token_s) is not None:
                round_s = (method.total("last_token_s") - method.total("first_token_s")) / later
                measured_s = round_s / method.pooled("output_tokens", "rounds")
                found.append(Prediction(cell.cell, method.method, predicted_s, measured_s))
    return found


def checks(records: Sequence[GenerationRecord]) -> list[Check]:
    """Cells where a method was transferred and more than one draft length was tried."""
    chosen = {
        (record.cell, record.method): record.parameters
        for record in records
        if record.purpose == MEASURED and record.tuned_by == "transfer" and LENGTH in record.parameters
    }
    tried: dict[tuple[Cell, str], dict[int, list[float]]] = {}
    for record in records:
        key = record.cell, record.method
        if record.purpose != TUNING or record.failure or key not in chosen:
            continue
        if {**record.parameters, LENGTH: chosen[key][LENGTH]} == chosen[key]:
            of_length = tried.setdefault(key, {}).setdefault(int(record.parameters[LENGTH]), [])
            of_length.append(1 / record.tokens_per_s)
    return [
        Check(*key, int(chosen[key][LENGTH]), {length: statistics.mean(s) for length, s in lengths.items()})
        for key, lengths in sorted(tried.items())
        if len(lengths) > 2 and int(chosen[key][LENGTH]) in lengths  # two are the transfer's own
    ]


def section(records: Sequence[GenerationRecord], tuning_link: tuple[int | float, ...] | None) -> str:
    """Markdown; empty without a prediction."""
    made = [one for one in predictions(records) if (one.cell.rate_up_bps, one.cell.rtt_s) != tuning_link]
    if not made:
        return ""
    sizes = sorted(abs(one.error) for one in made)
    worst = max(made, key=lambda one: abs(one.error))
    parts = [
        "## What tuning by transfer was worth",
        "Off the tuning link, seconds of an output token that the transfer expected against those measured "
        "(other prompts, so acceptance differs too): "
        f"{len(made)} methods and cells, median error {statistics.median(sizes):.1%}, nine tenths within "
        f"{sizes[(9 * len(sizes) - 1) // 10]:.1%}, worst {worst.error:+.1%} ({worst.method}; {worst.cell}).",
    ]
    found = [one for one in checks(records) if not one.method.startswith("cloud-")]
    if found:
        hits = sum(one.chosen == one.fastest for one in found)
        shares = sorted(one.share for one in found)
        head = ("cell", "method", "chosen γ", "fastest γ", "speed of the choice over the fastest's")
        rows = [(str(c.cell), c.method, str(c.chosen), str(c.fastest), number(c.share, 2)) for c in found]
        parts += [
            "In the cells where every draft length was run on the tuning prompts, the choice was the fastest "
            f"in {hits} of {len(found)}; its speed over the fastest's was {statistics.median(shares):.2f} at "
            f"the median and {shares[0]:.2f} at worst. The fastest of a few is partly luck.",
            table(head, rows, left=2),
        ]
    return "\n\n".join(parts)
