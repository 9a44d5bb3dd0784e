"""
Parameters of the simulation from the lines of one link of a benchmark run, or of a few.

Everything is a mean over the measured texts there, all temperatures together but for the rounds
themselves; a text's first round is left out, because it waits for the prompt's pass.

    draft_step_s   Σ draft_s / Σ drafted tokens, of the method
    edge_round_s   arrival - arrival before - draft_s - round_trip_s, of the method
    per_row_s      slope of the cloud's seconds over the rows of a pass, between the methods' means
    block_s        the method's mean of queue_s + verify_s, less per_row_s times its rows
    transport_s    round_trip_s - queue_s - verify_s - what the two lines and the delay take, all methods
    prompt_s       target_s - Σ verify_s of a text, of the method
    opening        bytes and seconds of a text beyond its rounds and its end, of the method
    samples        (accepted, payload) of each round, of the method and temperature
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from bench import round_time
from bench.grid.cells import Cell
from bench.grid.records import MEASURED, GenerationRecord
from bench.grid.store import read_generations, read_lines
from bench.simulation.model import run_texts
from bench.simulation.scenario import Ends, PassTime, Rounds, RoundSample, Scenario, Stream
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
_COUNTS = (
    "draft_length",
    "accepted",
    "uplink_payload_bits",
    "uplink_message_bytes",
    "downlink_message_bytes",
)
_SECONDS = ("arrival_s", "draft_s", "round_trip_s", "queue_s", "verify_s")
_ROUNDS = {
    "attempt": pl.String,
    "round": pl.Int64,
    **dict.fromkeys(_COUNTS, pl.Int64),
    **dict.fromkeys(_SECONDS, pl.Float64),
}
"""Columns of `rounds.jsonl` that are read."""


@dataclass(frozen=True, slots=True)
class MeasuredText:
    """A text with its rounds."""

    record: GenerationRecord
    rounds: pl.DataFrame
    """Lines of `rounds.jsonl`, in order; of a stream they say nothing but the arrivals."""

    @property
    def link(self) -> LinkKey:
        """Where it ran."""
        return self.record.rate_up_bps, self.record.rtt_s

    @property
    def draft_length(self) -> int:
        """γ it was asked for."""
        return int(self.record.parameters.get("draft_length", 0))


@dataclass(frozen=True, slots=True)
class MethodTimes:
    """What a method's own texts say, whatever the temperature."""

    draft_step_s: float = 0.0
    edge_round_s: float = 0.0
    block_s: float = 0.0
    ends: Ends = field(default_factory=Ends)


@dataclass(frozen=True, slots=True)
class Fit:
    """What a few links say of all others."""

    links: tuple[LinkKey, ...]
    per_row_s: float
    transport_s: float
    times: Mapping[str, MethodTimes]
    """By method."""
    rounds: Mapping[tuple[str, float], pl.DataFrame]
    """
    By method and temperature: rounds of whole length, first ones included, as what was accepted does not
    depend on the prompt's pass. A text's last blocks are cut to what is still wanted, and left out.
    """
    parameters: Mapping[tuple[str, float], Mapping[str, Any]]
    """By method and temperature: what it was run with, the draft length left out."""

    def samples(self, method: str, temperature: float, draft_length: int) -> tuple[RoundSample, ...]:
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
            RoundSample(
                min(accepted, draft_length), math.ceil(bits / 8 * draft_length / length) if length else 0
            )
            for length, accepted, bits in chosen.select(_COUNTS[:3]).iter_rows()
        )

    def scenario(self, cell: Cell, name: str, draft_length: int, tokens: int) -> Scenario:
        """One edge on the benchmark's cloud, in any cell; ConfigError where nothing was measured."""
        return Scenario(
            link=cell.link,
            method=self.method(name, cell.temperature, draft_length),
            pass_time=PassTime(0.0, self.per_row_s),
            tokens=tokens,
            transport_s=self.transport_s,
            ends=self.times[name].ends,
        )

    def method(self, name: str, temperature: float, draft_length: int) -> Rounds | Stream:
        """The simulation's method; ConfigError where nothing was measured."""
        times = self.times.get(name)
        if times is None:
            raise ConfigError(f"method is {name!r}; expected one of {', '.join(self.times)}.")
        if name in STREAMS:
            return Stream(block_s=times.block_s)
        return Rounds(
            draft_length,
            self.samples(name, temperature, draft_length),
            *(times.draft_step_s, times.edge_round_s, times.block_s),
        )


def is_known(record: GenerationRecord) -> bool:
    """Whether the model speaks of the record's method."""
    return record.method in STREAMS if record.is_peer else record.way not in LONG_MESSAGES


def read_texts(folder: Path) -> list[MeasuredText]:
    """
    Every measured text of a benchmark's folder that did not fail.

    Raises:
        bench.grid.store.StoreError: no lines there.
    """
    lines = pl.from_dicts(list(read_lines(folder / "rounds.jsonl")) or [{}], schema=_ROUNDS).sort("round")
    rounds = {
        str(attempt): of_one for (attempt,), of_one in lines.partition_by("attempt", as_dict=True).items()
    }
    return [
        MeasuredText(record, rounds.get(record.attempt, lines.clear()))
        for record in read_generations(folder)
        if record.purpose == MEASURED and not record.failure and is_known(record)
    ]


def fit(texts: Sequence[MeasuredText], links: Sequence[LinkKey]) -> Fit:
    """
    Fit everything to the texts of some links.

    Raises:
        ConfigError: no rounds on one of them.
    """
    for link in links:
        if not any(text.link == link and text.record.method not in STREAMS for text in texts):
            there = ", ".join(f"{rate} bit/s, {rtt:g} s" for rate, rtt in sorted({t.link for t in texts}))
            raise ConfigError(
                f"a link of the fit is {link[0]} bit/s up, RTT {link[1]:g} s; "
                f"expected one with rounds: {there or 'there is none'}."
            )
    by_method: dict[str, list[MeasuredText]] = {}
    for text in texts:
        if text.link in links:
            by_method.setdefault(text.record.method, []).append(text)
    later = {name: _later_rounds(own) for name, own in by_method.items() if name not in STREAMS}
    per_row_s = _slope([_rows_and_seconds(lines) for lines in later.values()])
    whole: dict[tuple[str, float], list[pl.DataFrame]] = {}
    for name in later:
        for text in by_method[name]:
            asked = text.rounds.filter(pl.col("draft_length") == text.draft_length)
            whole.setdefault((name, text.record.temperature), []).append(asked)
    result = Fit(
        links=tuple(links),
        per_row_s=per_row_s,
        transport_s=max(0.0, _mean(value for lines in later.values() for value in lines["transport_s"])),
        times={
            name: _round_times(own, later[name], per_row_s)
            if name in later
            else _stream_times(own, per_row_s)
            for name, own in by_method.items()
        },
        rounds={key: pl.concat(frames) for key, frames in whole.items()},
        parameters={
            (text.record.method, text.record.temperature): fixed_parameters(text.record)
            for chosen in by_method.values()
            for text in chosen
        },
    )
    return replace(result, times={name: _with_opening(result, name, own) for name, own in by_method.items()})


def fixed_parameters(record: GenerationRecord) -> dict[str, Any]:
    """Everything but the draft length, which the model can change."""
    return {name: value for name, value in record.parameters.items() if name != "draft_length"}


def _later_rounds(texts: Iterable[MeasuredText]) -> pl.DataFrame:
    """All but each text's first, with the seconds of each round at the edge, in the cloud and in between."""
    cloud_s = pl.col("queue_s") + pl.col("verify_s")
    drafting_s = pl.col("draft_s") * (pl.col("draft_length") > 0)
    frames = []
    for text in texts:
        sizes = text.rounds.select("uplink_message_bytes", "downlink_message_bytes").iter_rows()
        on_wire = (map(round_time.message_wire_bytes, pair) for pair in sizes)
        lines_s = [round_time.lines_s(text.record.cell, *pair) for pair in on_wire]
        whole = text.rounds.with_columns(
            cloud_s=cloud_s,
            transport_s=pl.col("round_trip_s") - cloud_s - pl.Series(lines_s, dtype=pl.Float64),
            edge_s=pl.col("arrival_s").diff() - drafting_s - pl.col("round_trip_s"),
        )
        frames.append(whole[1:])
    return pl.concat(frames)


def _rows_and_seconds(later: pl.DataFrame) -> tuple[float, float]:
    """Means of the rows of a pass and of the cloud's seconds of a round."""
    return _mean(later["draft_length"] + 1), _mean(later["cloud_s"])


def _round_times(texts: Sequence[MeasuredText], later: pl.DataFrame, per_row_s: float) -> MethodTimes:
    rows, seconds = _rows_and_seconds(later)
    drafted = sum(later["draft_length"])
    # A little short, as a round's seconds hold its decoding too.
    prompt_s = _mean(text.record.target_s - sum(text.rounds["verify_s"]) for text in texts)
    return MethodTimes(
        draft_step_s=sum(later["draft_s"]) / drafted if drafted else 0.0,
        edge_round_s=max(0.0, _mean(later["edge_s"])),
        block_s=max(0.0, seconds - per_row_s * rows),
        ends=Ends(prompt_s=max(0.0, prompt_s)),
    )


def _stream_times(texts: Sequence[MeasuredText], per_row_s: float) -> MethodTimes:
    """From the arrivals: a streamed token's server time is not written token by token."""
    gaps = sum(text.record.last_token_s - text.record.first_token_s for text in texts)
    tokens = sum(text.record.output_tokens - 1 for text in texts)
    return MethodTimes(block_s=max(0.0, gaps / tokens - per_row_s))


def _with_opening(fitted: Fit, name: str, texts: Sequence[MeasuredText]) -> MethodTimes:
    """Bytes and seconds of a text beyond its rounds, as the model without an opening counts those."""
    up_bytes, down_bytes, first_s = [], [], []
    for seed, text in enumerate(texts):
        record = text.record
        scenario = fitted.scenario(record.cell, name, text.draft_length, record.requested_tokens)
        outcome = run_texts(replace(scenario, seed=seed), FIT_TEXTS)
        up_bytes.append(record.wire_up_bytes - outcome.wire_up_bytes / FIT_TEXTS)
        down_bytes.append(record.wire_down_bytes - outcome.wire_down_bytes / FIT_TEXTS)
        first_s.append(record.first_token_s - _mean(one.first_s for one in outcome.texts))
    closing_up, closing_down = _STREAM_CLOSING_BYTES if name in STREAMS else _CLOSING_BYTES
    up, down = max(0.0, _mean(up_bytes) - closing_up), max(0.0, _mean(down_bytes) - closing_down)
    # A text of ours has an answer to Open first; a stream's headers come with its first token.
    ways = 0.5 if name in STREAMS else 1.0
    work_s = _mean(
        seconds - round_time.lines_s(replace(text.record.cell, rtt_s=ways * text.record.rtt_s), up, down)
        for text, seconds in zip(texts, first_s, strict=True)
    )
    times = fitted.times[name]
    sizes = (round(up), round(down), closing_up, closing_down)
    return replace(times, ends=Ends(max(0.0, work_s), times.ends.prompt_s, *sizes))


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the least-squares line through (rows, seconds); 0 with one kind of pass, or where it would fall."""
    if len({rows for rows, _ in points}) < 2:
        return 0.0
    rows, seconds = zip(*points, strict=True)
    return max(0.0, statistics.linear_regression(rows, seconds).slope)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
