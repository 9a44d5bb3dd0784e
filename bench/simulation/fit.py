"""
Parameters of the simulation from the lines of one link of a benchmark run, or of a few.

`docs/simulation.md` has the formulas. Everything is a mean over the measured texts there, all temperatures
together but for the rounds themselves; a text's first round is left out, because it waits for the prompt's
pass.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from bench import round_time
from bench.grid.cells import Cell
from bench.grid.records import MEASURED, GenerationRecord
from bench.grid.store import read_generations, read_lines
from bench.simulation.model import run_texts
from bench.simulation.scenario import MethodTimes, Passes, Rounds, Scenario
from thinwire.common.errors import ConfigError

FIT_TEXTS = 100
"""Simulated for the bytes and seconds of a text's rounds."""
_CLOSING_BYTES = (185, 190)
"""Close with its window updates and the stream's end up; Closed and the trailers down. Captured once."""
_STREAM_CLOSING_BYTES = (66, 91)
"""Trailers down and their ACK."""
STREAMS = ("cloud-stream",)
"""Peers that the model knows: one token a pass. The others' passes are transformers' own affair."""
LONG_MESSAGES = ("dense-f16",)
"""Schemes whose blocks are longer than an HTTP/2 frame; nothing is asserted of those bytes."""
LinkKey = tuple[int, float]
"""Rate up in bit/s, round trip in seconds."""
_SAMPLE = ("draft_length", "accepted", "uplink_payload_bits")
_SIZES = ("uplink_message_bytes", "downlink_message_bytes")
_SECONDS = ("arrival_s", "draft_s", "round_trip_s", "queue_s", "verify_s")
_ROUNDS = {
    "attempt": pl.String,
    **dict.fromkeys(("round", *_SAMPLE, *_SIZES), pl.Int64),
    **dict.fromkeys(_SECONDS, pl.Float64),
}
"""Columns of `rounds.jsonl` that are read; of a stream they say nothing but the arrivals."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What a few links say of all others."""

    links: tuple[LinkKey, ...]
    per_row_s: float
    transport_s: float
    times: Mapping[str, MethodTimes]
    """By method."""
    rounds: Mapping[tuple[Any, ...], pl.DataFrame]
    """
    By method and temperature: rounds of whole length, first ones included, as what was accepted does not
    depend on the prompt's pass. A text's last blocks are cut to what is still wanted, and left out.
    """
    parameters: Mapping[tuple[str, float], Mapping[str, Any]]
    """By method and temperature: what it was run with, the draft length left out."""

    def samples(self, method: str, temperature: float, draft_length: int) -> tuple[tuple[int, int], ...]:
        """
        Measured rounds of that draft length; of a longer one cut to it, where there are none.

        A block's acceptance does not depend on what is drafted after it, so cutting is exact for the
        accepted count; the payload is cut in proportion.

        Raises:
            ConfigError: no such round was measured.
        """
        known = self.rounds.get((method, temperature), pl.DataFrame(schema=_ROUNDS))
        longer = known.filter(pl.col("draft_length") >= draft_length)
        if longer.is_empty():
            raise ConfigError(
                f"no round of {method} at temperature {temperature:g} with a draft length of {draft_length} "
                f"or more was measured on the link of the fit."
            )
        chosen = longer.filter(pl.col("draft_length") == pl.col("draft_length").min())
        return tuple(
            (min(accepted, draft_length), math.ceil(bits / 8 * draft_length / length) if length else 0)
            for length, accepted, bits in chosen.select(_SAMPLE).iter_rows()
        )

    def scenario(self, cell: Cell, name: str, draft_length: int, tokens: int) -> Scenario:
        """One edge on the benchmark's cloud, in any cell; ConfigError where nothing was measured."""
        if name not in self.times:
            raise ConfigError(f"method is {name!r}; expected one of {', '.join(self.times)}.")
        streams = name in STREAMS
        return Scenario(
            cell.link,
            Passes(per_row_s=self.per_row_s),
            None if streams else Rounds(draft_length, self.samples(name, cell.temperature, draft_length)),
            self.times[name],
            tokens=tokens,
            transport_s=self.transport_s,
        )


def read_texts(folder: Path) -> list[GenerationRecord]:
    """
    Every measured text of a benchmark's folder that did not fail and whose method the model knows.

    Raises:
        bench.grid.store.StoreError: no lines there.
    """
    return [
        text
        for text in read_generations(folder)
        if text.purpose == MEASURED
        and not text.failure
        and (text.method in STREAMS if text.is_peer else text.way not in LONG_MESSAGES)
        and text.scheme.get("lock_step", True)  # a cloud that writes by itself has no rounds
    ]


def read_rounds(folder: Path) -> pl.DataFrame:
    """Every round of a benchmark's folder, a text's own in their order."""
    return pl.from_dicts(list(read_lines(folder / "rounds.jsonl")) or [{}], schema=_ROUNDS).sort("round")


def fit(texts: Sequence[GenerationRecord], rounds: pl.DataFrame, links: Sequence[LinkKey]) -> Fit:
    """
    Fit everything to the texts of some links.

    Raises:
        ConfigError: no rounds on one of them.
    """
    for link in links:
        if not any(link_of(text) == link and text.method not in STREAMS for text in texts):
            there = ", ".join(f"{rate} bit/s, {rtt:g} s" for rate, rtt in sorted(set(map(link_of, texts))))
            raise ConfigError(
                f"a link of the fit is {link[0]} bit/s up, RTT {link[1]:g} s; "
                f"expected one with rounds: {there or 'there is none'}."
            )
    by_method: dict[str, list[GenerationRecord]] = {}
    for text in texts:
        if link_of(text) in links:
            by_method.setdefault(text.method, []).append(text)
    chosen = [text for own in by_method.values() for text in own]
    rounds = _with_seconds([text for text in chosen if text.method not in STREAMS], rounds)
    transport_s = pl.col("transport_s").filter("later").mean()
    per_row_s, times = _round_times(rounds)
    whole = rounds.filter(pl.col("draft_length") == pl.col("asked"))
    result = Fit(
        links=tuple(links),
        per_row_s=per_row_s,
        transport_s=max(0.0, rounds.select(transport_s).item() or 0.0),
        times={name: times.get(name) or _stream_times(own, per_row_s) for name, own in by_method.items()},
        rounds=whole.partition_by(("method", "temperature"), as_dict=True, maintain_order=True),
        parameters={(text.method, text.temperature): fixed_parameters(text) for text in chosen},
    )
    return replace(result, times={name: _with_ends(result, name, own) for name, own in by_method.items()})


def link_of(text: GenerationRecord) -> LinkKey:
    """Where it ran."""
    return text.rate_up_bps, text.rtt_s


def draft_length_of(text: GenerationRecord) -> int:
    """γ it was asked for; 0 without a draft."""
    return int(text.parameters.get("draft_length", 0))


def fixed_parameters(text: GenerationRecord) -> dict[str, Any]:
    """Everything but the draft length, which the model can change."""
    return {name: value for name, value in text.parameters.items() if name != "draft_length"}


def _with_seconds(texts: Sequence[GenerationRecord], rounds: pl.DataFrame) -> pl.DataFrame:
    """The texts' rounds, in the texts' order, with the seconds at each place."""
    cells = {text.attempt: text.cell for text in texts}
    heads = {
        "attempt": [text.attempt for text in texts],
        "method": [text.method for text in texts],
        "temperature": [text.temperature for text in texts],
        "target_s": [text.target_s for text in texts],
        "asked": [draft_length_of(text) for text in texts],
    }
    lines = pl.DataFrame(heads).join(rounds, on="attempt", maintain_order="left_right")
    lines_s = [
        round_time.lines_s(cells[attempt], *map(round_time.message_wire_bytes, sizes))
        for attempt, *sizes in lines.select("attempt", *_SIZES).iter_rows()
    ]
    cloud_s = pl.col("queue_s") + pl.col("verify_s")
    drafting_s = pl.col("draft_s") * (pl.col("draft_length") > 0)
    return lines.with_columns(
        later=~pl.col("attempt").is_first_distinct(),
        cloud_s=cloud_s,
        transport_s=pl.col("round_trip_s") - cloud_s - pl.Series(lines_s, dtype=pl.Float64),
        edge_s=pl.col("arrival_s").diff().over("attempt") - drafting_s - pl.col("round_trip_s"),
    )


def _round_times(rounds: pl.DataFrame) -> tuple[float, dict[str, MethodTimes]]:
    """Seconds of a further row, and each method's own times; 0 where it has no later round."""
    # A little short, as a round's seconds hold its decoding too.
    prompt_s = pl.first("target_s") - pl.sum("verify_s")
    prompts = rounds.group_by("method", "attempt", maintain_order=True).agg(prompt_s=prompt_s)
    drafted = pl.col("draft_length").filter("later").sum()
    later = rounds.group_by("method", maintain_order=True).agg(
        rows=(pl.col("draft_length") + 1).filter("later").mean(),
        cloud_s=pl.col("cloud_s").filter("later").mean(),
        draft_step_s=pl.when(drafted > 0).then(pl.col("draft_s").filter("later").sum() / drafted),
        edge_round_s=pl.col("edge_s").filter("later").mean(),
    )
    prompts = prompts.group_by("method").agg(pl.mean("prompt_s"))
    means = later.join(prompts, on="method", maintain_order="left").fill_null(0.0)
    rows, cloud_s = means["rows"].to_list(), means["cloud_s"].to_list()
    # No slope with one kind of pass, or where it would fall.
    per_row_s = max(0.0, statistics.linear_regression(rows, cloud_s).slope) if len(set(rows)) > 1 else 0.0
    columns = means.select(
        "method",
        *(pl.col(name).clip(lower_bound=0.0) for name in ("prompt_s", "draft_step_s", "edge_round_s")),
        block_s=(pl.col("cloud_s") - per_row_s * pl.col("rows")).clip(lower_bound=0.0),
    )
    return per_row_s, {row.pop("method"): MethodTimes(**row) for row in columns.iter_rows(named=True)}


def _stream_times(texts: Sequence[GenerationRecord], per_row_s: float) -> MethodTimes:
    """From the arrivals: a streamed token's server time is not written token by token."""
    gaps = sum(text.last_token_s - text.first_token_s for text in texts)
    tokens = sum(text.output_tokens - 1 for text in texts)
    return MethodTimes(block_s=max(0.0, gaps / tokens - per_row_s))


def _with_ends(fitted: Fit, name: str, texts: Sequence[GenerationRecord]) -> MethodTimes:
    """Bytes and seconds of a text beyond its rounds, as the model without an opening counts those."""
    beyond = []
    for seed, text in enumerate(texts):
        scenario = fitted.scenario(text.cell, name, draft_length_of(text), text.requested_tokens)
        outcome = run_texts(replace(scenario, seed=seed), FIT_TEXTS)
        up_bytes = text.wire_up_bytes - outcome.wire_up_bytes / FIT_TEXTS
        down_bytes = text.wire_down_bytes - outcome.wire_down_bytes / FIT_TEXTS
        first_s = text.first_token_s - statistics.fmean(one.first_s for one in outcome.texts)
        beyond.append((up_bytes, down_bytes, first_s))
    up, down, first_s = map(statistics.fmean, zip(*beyond, strict=True))
    closing_up, closing_down = _STREAM_CLOSING_BYTES if name in STREAMS else _CLOSING_BYTES
    up, down = max(0.0, up - closing_up), max(0.0, down - closing_down)
    # A text of ours has an answer to Open first; a stream's headers come with its first token.
    ways = 0.5 if name in STREAMS else 1.0
    lines_s = [round_time.lines_s(replace(one.cell, rtt_s=ways * one.rtt_s), up, down) for one in texts]
    return replace(
        fitted.times[name],
        opening_s=max(0.0, first_s - statistics.fmean(lines_s)),
        opening_up_bytes=round(up),
        opening_down_bytes=round(down),
        closing_up_bytes=closing_up,
        closing_down_bytes=closing_down,
    )
