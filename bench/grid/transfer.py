"""
Tuning by transfer: what is measured once on one link says which parameters suit every other.

On the plan's tuning link, for each method and temperature and on prompts that are not measured, texts are run
with the longest draft length and with length 1, and with the least, middle and greatest value of the
method's further parameters. From their rounds come

    accepted       how many drafts of a block the target took; of a shorter block, that count cut to it
    bits           payload a drafted token
    draft_token_s  the edge's seconds a drafted token, at the defaults
    cloud_s        the cloud's seconds of a block, at the defaults: a line through both lengths
    other_s        what the edge and both ends' stacks take beside, a round, at the defaults

(times are medians, as a machine now and then does something else), and of these the seconds of an output
token in any cell, for every draft length:

    (γ draft_token_s + cloud_s(γ) + other_s + RTT + bytes up / R_up + bytes down / R_down) / (1 + E[accepted])

Whether a block's first drafts are taken does not depend on what is drafted behind them, so cutting is exact
but for the threshold of c-sqs, which moves with what was taken. A streamed method's draft length hardly
depends on the link: the fastest on the tuning link is taken everywhere.
The formula knows nothing of TCP: of a round that is longer than the line's queue packets are dropped, so that
the next rounds wait for a congestion window. No such length is chosen.
The report says how far the model was off, and how good its choices were in the cells where all were run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, median
from typing import Any

from bench.grid.cells import Cell, Plan
from bench.grid.methods import Method
from bench.grid.records import GenerationRecord
from link.description import default_queue_bytes

HEADER_BYTES = 106
"""Of a message on the wire, ACKs that ride along included (link and docs/protocol.md)."""
MARGIN = 0.1
"""A parameter leaves its default only for so much less time a token: below, it is the texts' chance."""

Rounds = Sequence[Mapping[str, Any]]
"""Lines of `rounds.jsonl` of one text, in order."""


def trials(method: Method, plan: Plan) -> list[dict[str, Any]]:
    """
    What is run of a method on the tuning link, its defaults first.

    Returns:
        parameters; empty where nothing is open.
    """
    axes = {name: values for name, values in method.axes.items() if name in plan.tuned}
    if not axes:
        return []
    base = method.defaults()
    if method.is_peer:
        return [{**base, "draft_length": length} for length in axes.get("draft_length", ())]
    lengths: list[dict[str, Any]] = [{}]
    if "draft_length" in axes:
        lengths = [
            {"draft_length": length} for length in sorted({max(axes["draft_length"]), 1}, reverse=True)
        ]
    found = [{**base, **length} for length in lengths]
    for name, values in axes.items():
        if name != "draft_length":
            others = [value for value in spread(values) if value != default_of(method, name)]
            found += [{**found[0], name: value} for value in others]
    return found


def spread(values: Sequence[Any]) -> list[Any]:
    """The first, the middle and the last of some values."""
    return list(dict.fromkeys((values[0], values[len(values) // 2], values[-1])))


def default_of(method: Method, name: str) -> Any:
    """A scheme parameter where neither name nor tuning says otherwise; it does not depend on temperature."""
    return getattr(method.scheme(1.0, method.defaults()), name)


@dataclass(frozen=True, slots=True)
class Trial:
    """Texts of one method, temperature and setting on the tuning link."""

    parameters: Mapping[str, Any]
    texts: tuple[tuple[GenerationRecord, Rounds], ...]
    """At least one, none failed."""

    @property
    def seconds_per_token(self) -> float:
        """Whole texts, prompt and all; for streams."""
        return sum(text.last_token_s for text, _ in self.texts) / sum(
            text.output_tokens for text, _ in self.texts
        )

    @property
    def later_rounds(self) -> list[Mapping[str, Any]]:
        """All but each text's first, which waits for the prompt's pass."""
        return [line for _, rounds in self.texts for line in rounds[1:]]


@dataclass(frozen=True, slots=True)
class Block:
    """What a setting's rounds of whole length say; see the module."""

    length: int
    """γ that was drafted."""
    accepted: tuple[int, ...]
    """Of each block of that length."""
    token_bytes: float
    """Payload a drafted token."""
    fixed_up_bytes: float
    """Of a round's message up without its payload, headers of the link included."""
    down_bytes: float
    draft_token_s: float
    cloud_s: float
    """Of a block of that length."""
    other_s: float

    def tokens(self, length: int) -> float:
        """Output tokens a round of a shorter block."""
        return 1 + sum(min(length, count) for count in self.accepted) / len(self.accepted)

    def up_bytes(self, length: int) -> float:
        """Of a shorter block's round, headers of the link included."""
        return self.fixed_up_bytes + length * self.token_bytes

    def lines_s(self, cell: Cell, length: int) -> float:
        """Round trip and both lines of a shorter block's round in a cell."""
        up_bytes = self.up_bytes(length)
        return cell.rtt_s + 8 * up_bytes / cell.rate_up_bps + 8 * self.down_bytes / cell.rate_down_bps


def measured_block(trial: Trial) -> Block | None:
    """From a trial's rounds of whole length; None where there is none."""
    length = int(trial.parameters.get("draft_length", 0))
    rounds = [line for line in trial.later_rounds if int(line["draft_length"]) == length]
    if not rounds or length == 0:
        return None
    cell = trial.texts[0][0].cell
    drafted = length * len(rounds)
    payload = sum(line["uplink_payload_bits"] / 8 for line in rounds)
    up_bytes = HEADER_BYTES + mean(line["uplink_message_bytes"] for line in rounds)
    down_bytes = HEADER_BYTES + mean(line["downlink_message_bytes"] for line in rounds)
    cloud_s = median(line["queue_s"] + line["verify_s"] for line in rounds)
    link_s = cell.rtt_s + 8 * up_bytes / cell.rate_up_bps + 8 * down_bytes / cell.rate_down_bps
    edge_s = median(
        line["arrival_s"] - before["arrival_s"] - line["draft_s"] - line["round_trip_s"]
        for _, lines in trial.texts
        for before, line in pairwise(lines)
    )
    return Block(
        length=length,
        accepted=tuple(min(int(line["accepted"]), length) for line in rounds),
        token_bytes=payload / drafted,
        fixed_up_bytes=up_bytes - payload / len(rounds),
        down_bytes=down_bytes,
        draft_token_s=median(line["draft_s"] for line in rounds) / length,
        cloud_s=cloud_s,
        other_s=max(0.0, median(line["round_trip_s"] for line in rounds) - cloud_s - link_s)
        + max(0.0, edge_s),
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """Parameters for a cell."""

    parameters: dict[str, Any]
    token_s: float | None
    """Predicted; None of a stream."""


class Transfer:
    """
    What one method's trials at one temperature say of every cell.

    Args:
        method: with something open.
        done: its trials, the defaults' first; those that failed left out.
        lengths: draft lengths to choose from.
    """

    def __init__(self, method: Method, done: Sequence[Trial], lengths: Sequence[int]) -> None:
        self._method = method
        self._trials = list(done)
        self._lengths = sorted(lengths)
        drafting = () if method.is_peer else done
        self._blocks = [(one, block) for one in drafting if (block := measured_block(one)) is not None]

    def best(self, cell: Cell) -> Choice | None:
        """The parameters for a cell; None where the trials say nothing."""
        if self._method.is_peer:
            return self._fastest_stream()
        if self._base is None:
            return None
        longest = [pair for pair in self._blocks if pair[1].length == self._base.length]
        choices = [self._choice(cell, trial, block) for trial, block in longest]
        fastest = min(choices, key=_seconds)
        return fastest if _seconds(fastest) < (1 - MARGIN) * _seconds(choices[0]) else choices[0]

    def token_s(self, cell: Cell, parameters: Mapping[str, Any]) -> float | None:
        """Predicted seconds of an output token; None for what was not tried."""
        wanted = _without_length(parameters)
        for trial, block in self._blocks:
            if _without_length(trial.parameters) == wanted and block.length >= parameters["draft_length"]:
                return self._token_s(cell, block, int(parameters["draft_length"]))
        return None

    @property
    def _base(self) -> Block | None:
        """The defaults' longest block: whose seconds count whatever the setting, as only chance differs."""
        return max((block for _, block in self._blocks), key=lambda block: block.length, default=None)

    def _token_s(self, cell: Cell, block: Block, length: int) -> float:
        base = self._base
        assert base is not None, "of a block that is there"
        work_s = length * base.draft_token_s + self._cloud_s(length) + base.other_s
        return (work_s + block.lines_s(cell, length)) / block.tokens(length)

    def _cloud_s(self, length: int) -> float:
        """Of a block: a line through the longest and length 1, never falling."""
        base = self._base
        assert base is not None, "of a block that is there"
        short = next((block for _, block in self._blocks if block.length == 1), base)
        if base.length == short.length or base.cloud_s <= short.cloud_s:
            return base.cloud_s
        per_row_s = (base.cloud_s - short.cloud_s) / (base.length - short.length)
        return base.cloud_s - per_row_s * (base.length - length)

    def _choice(self, cell: Cell, trial: Trial, block: Block) -> Choice:
        queue_bytes = default_queue_bytes(cell.rate_up_bps)
        lengths = [
            length
            for length in self._lengths
            if length <= block.length
            and (length == self._lengths[0] or block.up_bytes(length) <= queue_bytes)
        ]
        length = min(lengths, key=lambda one: self._token_s(cell, block, one))
        return Choice({**trial.parameters, "draft_length": length}, self._token_s(cell, block, length))

    def _fastest_stream(self) -> Choice | None:
        if not self._trials:
            return None
        return Choice(dict(min(self._trials, key=lambda trial: trial.seconds_per_token).parameters), None)


def trial_name(parameters: Mapping[str, Any]) -> str:
    """Parameters as one string, for keys."""
    return json.dumps(dict(sorted(parameters.items())))


def _without_length(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name != "draft_length"}


def _seconds(choice: Choice) -> float:
    assert choice.token_s is not None, "not a stream"
    return choice.token_s
