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
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench import round_time
from bench.grid.cells import Cell
from bench.grid.records import MEASURED, GenerationRecord
from bench.grid.store import read_generations, read_lines
from bench.simulation.model import run_texts
from bench.simulation.scenario import (
    Batching,
    LinkModel,
    Method,
    PassTime,
    Rounds,
    RoundSample,
    Scenario,
    Stream,
)
from thinwire.common.errors import ConfigError

FIT_TEXTS = 100
"""Simulated for the bytes and seconds of a text's rounds."""
_CLOSING_BYTES = (185, 190)
"""Close with its window updates and the stream's end up; Closed and the trailers down. Captured once."""
_STREAM_CLOSING_BYTES = (66, 91)
"""Trailers down and their ACK."""
STREAMS = ("cloud-stream",)
"""Peers that the model knows: one token a pass. The others' passes are transformers' own affair."""


LinkKey = tuple[int, float]
"""Rate up in bit/s, round trip in seconds."""

LONG_MESSAGES = ("dense-f16",)
"""Schemes whose blocks are longer than an HTTP/2 frame; nothing is asserted of those bytes."""


@dataclass(frozen=True, slots=True)
class MeasuredText:
    """A text with its rounds."""

    record: GenerationRecord
    rounds: tuple[Mapping[str, Any], ...]
    """Lines of `rounds.jsonl`, in order."""

    @property
    def link(self) -> LinkKey:
        """Where it ran."""
        return self.record.rate_up_bps, self.record.rtt_s


@dataclass(frozen=True, slots=True)
class MethodTimes:
    """What a method's own texts say, whatever the temperature."""

    draft_step_s: float = 0.0
    edge_round_s: float = 0.0
    block_s: float = 0.0
    opening_s: float = 0.0
    prompt_s: float = 0.0
    opening_up_bytes: int = 0
    opening_down_bytes: int = 0
    closing_up_bytes: int = 0
    closing_down_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Fit:
    """What a few links say of all others."""

    links: tuple[LinkKey, ...]
    per_row_s: float
    transport_s: float
    times: Mapping[str, MethodTimes]
    """By method."""
    rounds: Mapping[tuple[str, float], tuple[Mapping[str, Any], ...]]
    """By method and temperature: the rounds the samples are made of."""
    parameters: Mapping[tuple[str, float], Mapping[str, Any]]
    """By method and temperature: what it was run with, the draft length left out."""

    def samples(self, method: str, temperature: float, draft_length: int) -> tuple[RoundSample, ...]:
        """
        Measured rounds of that draft length; of a longer one cut to it, where there are none.

        A block's acceptance does not depend on what is drafted behind it, so cutting is exact for the
        accepted count; the payload is cut in proportion.

        Raises:
            ConfigError: no such round was measured.
        """
        known = self.rounds.get((method, temperature), ())
        lengths = sorted(
            {int(line["draft_length"]) for line in known if line["draft_length"] >= draft_length}
        )
        if not lengths:
            raise ConfigError(
                f"no round of {method} at temperature {temperature:g} with a draft length of {draft_length} "
                f"or more was measured on the link of the fit."
            )
        chosen = lengths[0]
        return tuple(
            RoundSample(
                min(int(line["accepted"]), draft_length),
                math.ceil(line["uplink_payload_bits"] / 8 * draft_length / chosen) if chosen else 0,
            )
            for line in known
            if line["draft_length"] == chosen
        )

    def method(self, name: str, temperature: float, draft_length: int) -> Method:
        """The simulation's method; ConfigError where nothing was measured."""
        times = self.times.get(name)
        if times is None:
            raise ConfigError(f"method is {name!r}; expected one of {', '.join(self.times)}.")
        if name in STREAMS:
            return Stream(block_s=times.block_s)
        return Rounds(
            draft_length=draft_length,
            samples=self.samples(name, temperature, draft_length),
            draft_step_s=times.draft_step_s,
            edge_round_s=times.edge_round_s,
            block_s=times.block_s,
        )

    def scenario(self, cell: Cell, name: str, draft_length: int, tokens: int) -> Scenario:
        """One edge on the benchmark's cloud, in any cell; ConfigError where nothing was measured."""
        method = self.method(name, cell.temperature, draft_length)
        times = self.times[name]
        return Scenario(
            link=link_of(cell),
            method=method,
            pass_time=PassTime(0.0, self.per_row_s),
            tokens=tokens,
            batching=Batching(max_blocks=1),
            transport_s=self.transport_s,
            opening_s=times.opening_s,
            prompt_s=times.prompt_s,
            opening_up_bytes=times.opening_up_bytes,
            opening_down_bytes=times.opening_down_bytes,
            closing_up_bytes=times.closing_up_bytes,
            closing_down_bytes=times.closing_down_bytes,
        )


def link_of(cell: Cell) -> LinkModel:
    """The cell's link."""
    return LinkModel(cell.rate_up_bps, cell.rate_down_bps, cell.rtt_s)


def is_known(record: GenerationRecord) -> bool:
    """Whether the model speaks of the record's method."""
    return record.method in STREAMS if record.is_peer else record.way not in LONG_MESSAGES


def read_texts(folder: Path) -> list[MeasuredText]:
    """
    Every measured text of a benchmark's folder that did not fail.

    Raises:
        bench.grid.store.StoreError: no lines there.
    """
    rounds: dict[str, list[Mapping[str, Any]]] = {}
    for line in read_lines(folder / "rounds.jsonl"):
        rounds.setdefault(line["attempt"], []).append(line)
    return [
        MeasuredText(record, tuple(sorted(rounds.get(record.attempt, ()), key=lambda line: line["round"])))
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
    drafting = {name: chosen for name, chosen in by_method.items() if name not in STREAMS}
    cloud_s = {name: _rows_and_seconds(chosen) for name, chosen in drafting.items()}
    per_row_s = _slope(list(cloud_s.values()))
    transport = [
        _transport_s(line, link_of(text.record.cell))
        for chosen in drafting.values()
        for text in chosen
        for line in text.rounds[1:]
    ]
    result = Fit(
        links=tuple(links),
        per_row_s=per_row_s,
        transport_s=max(0.0, _mean(transport)),
        times={
            **{name: _round_times(drafting[name], cloud_s[name], per_row_s) for name in drafting},
            **{name: _stream_times(by_method[name], per_row_s) for name in by_method if name in STREAMS},
        },
        rounds=_by_temperature(drafting),
        parameters={
            (text.record.method, text.record.temperature): fixed_parameters(text.record)
            for chosen in by_method.values()
            for text in chosen
        },
    )
    return replace(result, times={name: _with_opening(result, name, by_method[name]) for name in by_method})


def fixed_parameters(record: GenerationRecord) -> dict[str, Any]:
    """Everything but the draft length, which the model can change."""
    return {name: value for name, value in record.parameters.items() if name != "draft_length"}


def _later_rounds(texts: Iterable[MeasuredText]) -> list[Mapping[str, Any]]:
    """All but each text's first."""
    return [line for text in texts for line in text.rounds[1:]]


def _rows_and_seconds(texts: Iterable[MeasuredText]) -> tuple[float, float]:
    """Means of the rows of a pass and of the cloud's seconds of a round."""
    lines = _later_rounds(texts)
    return (
        _mean(line["draft_length"] + 1 for line in lines),
        _mean(line["queue_s"] + line["verify_s"] for line in lines),
    )


def _by_temperature(
    drafting: Mapping[str, Sequence[MeasuredText]],
) -> dict[tuple[str, float], tuple[Mapping[str, Any], ...]]:
    """
    Rounds of whole length, first ones included: what was accepted there does not depend on the prompt's pass.

    A text's last blocks are cut to what is still wanted and would look like short drafts.
    """
    rounds: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for name, texts in drafting.items():
        for text in texts:
            asked = int(text.record.parameters.get("draft_length", 0))
            rounds.setdefault((name, text.record.temperature), []).extend(
                line for line in text.rounds if line["draft_length"] == asked
            )
    return {key: tuple(lines) for key, lines in rounds.items()}


def _transport_s(line: Mapping[str, Any], link: LinkModel) -> float:
    """Of one round: what neither the cloud nor the lines took."""
    up_bytes = round_time.message_wire_bytes(int(line["uplink_message_bytes"]))
    down_bytes = round_time.message_wire_bytes(int(line["downlink_message_bytes"]))
    lines_s = round_time.lines_s(link, up_bytes, down_bytes)
    return float(line["round_trip_s"] - line["queue_s"] - line["verify_s"] - lines_s)


def _round_times(
    texts: Sequence[MeasuredText], cloud_s: tuple[float, float], per_row_s: float
) -> MethodTimes:
    lines = _later_rounds(texts)
    drafted = sum(line["draft_length"] for line in lines)
    rows, seconds = cloud_s
    return MethodTimes(
        draft_step_s=sum(line["draft_s"] for line in lines) / drafted if drafted else 0.0,
        edge_round_s=max(
            0.0, _mean(_edge_round_s(*pair) for text in texts for pair in pairwise(text.rounds))
        ),
        block_s=max(0.0, seconds - per_row_s * rows),
        prompt_s=max(0.0, _mean(_prompt_s(text) for text in texts)),
    )


def _prompt_s(text: MeasuredText) -> float:
    """The target's seconds beyond the rounds'; a little short, as a round's seconds hold its decoding too."""
    return text.record.target_s - float(sum(line["verify_s"] for line in text.rounds))


def _edge_round_s(before: Mapping[str, Any], line: Mapping[str, Any]) -> float:
    draft_s = line["draft_s"] if line["draft_length"] else 0.0
    return float(line["arrival_s"] - before["arrival_s"] - draft_s - line["round_trip_s"])


def _stream_times(texts: Sequence[MeasuredText], per_row_s: float) -> MethodTimes:
    """From the arrivals: a streamed token's server time is not written token by token."""
    gaps = sum(text.record.last_token_s - text.record.first_token_s for text in texts)
    tokens = sum(text.record.output_tokens - 1 for text in texts)
    return MethodTimes(block_s=max(0.0, gaps / tokens - per_row_s))


def _with_opening(fitted: Fit, name: str, texts: Sequence[MeasuredText]) -> MethodTimes:
    """Bytes and seconds of a text beyond its rounds, as the model without an opening counts those."""
    up, down = 0.0, 0.0
    first_s: list[float] = []
    for text in texts:
        record = text.record
        length = int(record.parameters.get("draft_length", 0))
        scenario = fitted.scenario(record.cell, name, length, record.requested_tokens)
        outcome = run_texts(replace(scenario, seed=len(first_s)), FIT_TEXTS)
        up += record.wire_up_bytes - outcome.wire_up_bytes / FIT_TEXTS
        down += record.wire_down_bytes - outcome.wire_down_bytes / FIT_TEXTS
        first_s.append(record.first_token_s - sum(t.first_s for t in outcome.texts) / FIT_TEXTS)
    closing_up, closing_down = _STREAM_CLOSING_BYTES if name in STREAMS else _CLOSING_BYTES
    up, down = max(0.0, up / len(texts) - closing_up), max(0.0, down / len(texts) - closing_down)
    work_s = _mean(
        seconds - _opening_lines_s(link_of(text.record.cell), name, up, down)
        for text, seconds in zip(texts, first_s, strict=True)
    )
    return replace(
        fitted.times[name],
        opening_s=max(0.0, work_s),
        opening_up_bytes=round(up),
        opening_down_bytes=round(down),
        closing_up_bytes=closing_up,
        closing_down_bytes=closing_down,
    )


def _opening_lines_s(link: LinkModel, name: str, up_bytes: float, down_bytes: float) -> float:
    """A text of ours has an answer to Open first; a stream's headers come with its first token."""
    seconds = 8 * up_bytes / link.rate_up_bps + link.rtt_s / 2
    if name in STREAMS:
        return seconds + 8 * down_bytes / link.rate_down_bps
    return seconds + 8 * down_bytes / link.rate_down_bps + link.rtt_s / 2


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the least-squares line through (rows, seconds); 0 with one kind of pass, or where it would fall."""
    if len({rows for rows, _ in points}) < 2:
        return 0.0
    rows, seconds = zip(*points, strict=True)
    return max(0.0, statistics.linear_regression(rows, seconds).slope)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
