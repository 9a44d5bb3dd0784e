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
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import mean, median
from typing import Any, NamedTuple

from bench.grid.cells import Cell, Plan
from bench.grid.methods import Method
from bench.grid.records import GenerationRecord
from bench.round_time import ROUND_HEADER_BYTES, lines_s
from link.description import default_queue_bytes

MARGIN = 0.1
"""A parameter leaves its default only for so much less time a token: below, it is the texts' chance."""

Rounds = Sequence[Mapping[str, Any]]
"""Lines of `rounds.jsonl` of one text, in order."""


def trials(method: Method, plan: Plan) -> list[dict[str, Any]]:
    """Parameters that are run of a method on the tuning link, its defaults first; none if nothing is open."""
    axes = {name: values for name, values in method.axes.items() if name in plan.tuned}
    lengths = list(axes.pop("draft_length", ()))
    base = method.defaults()
    if lengths and not method.is_peer:
        lengths = sorted({max(lengths), 1}, reverse=True)
    found = [{**base, "draft_length": length} for length in lengths]
    if not found and axes:
        found = [base]
    for name, values in axes.items():
        # A scheme's defaults do not depend on the temperature, but for what is not tuned.
        default = getattr(method.scheme(1.0, method.defaults()), name)
        spread = dict.fromkeys((values[0], values[len(values) // 2], values[-1]))
        found += [{**found[0], name: value} for value in spread if value != default]
    return found


def trial_name(parameters: Mapping[str, Any]) -> str:
    """Parameters as one string, for keys."""
    return json.dumps(dict(sorted(parameters.items())))


class Trial(NamedTuple):
    """Texts of one method, temperature and setting on the tuning link."""

    parameters: Mapping[str, Any]
    texts: tuple[tuple[GenerationRecord, Rounds], ...]
    """At least one, none failed."""


class Choice(NamedTuple):
    """Parameters for a cell."""

    parameters: dict[str, Any]
    token_s: float | None
    """Predicted; None for a stream."""


class _Block:
    """
    What a setting's rounds of whole length say; see the module.

    Args:
        trial: the setting and its texts.
        rounds: at least one, of whole length, no text's first: that one waits for the prompt's pass.
    """

    def __init__(self, trial: Trial, rounds: Rounds) -> None:
        self.parameters = trial.parameters
        self.length = int(rounds[0]["draft_length"])
        self.accepted = [min(int(line["accepted"]), self.length) for line in rounds]
        payload = mean(line["uplink_payload_bits"] / 8 for line in rounds)
        up_bytes = ROUND_HEADER_BYTES + mean(line["uplink_message_bytes"] for line in rounds)
        self.token_bytes: float = payload / self.length
        self.fixed_up_bytes: float = up_bytes - payload
        self.down_bytes: float = ROUND_HEADER_BYTES + mean(line["downlink_message_bytes"] for line in rounds)
        self.draft_token_s: float = median(line["draft_s"] for line in rounds) / self.length
        self.cloud_s: float = median(line["queue_s"] + line["verify_s"] for line in rounds)
        link_s = lines_s(trial.texts[0][0].cell, up_bytes, self.down_bytes)
        stacks_s = median(line["round_trip_s"] for line in rounds) - self.cloud_s - link_s
        edge_s = median(
            line["arrival_s"] - before["arrival_s"] - line["draft_s"] - line["round_trip_s"]
            for _, lines in trial.texts
            for before, line in pairwise(lines)
        )
        self.other_s: float = max(0.0, stacks_s) + max(0.0, edge_s)

    def tokens(self, length: int) -> float:
        """Output tokens a round of a shorter block."""
        return 1 + sum(min(length, count) for count in self.accepted) / len(self.accepted)

    def up_bytes(self, length: int) -> float:
        """Bytes up the link of a shorter block's round."""
        return self.fixed_up_bytes + length * self.token_bytes


class Transfer:
    """
    What one method's trials at one temperature say of every cell.

    Args:
        method: with something open.
        done: its trials, the defaults' first; those that failed left out.
        lengths: draft lengths to choose from; none where the method's name says which.
    """

    def __init__(self, method: Method, done: Sequence[Trial], lengths: Sequence[int]) -> None:
        self._streams = done if method.is_peer else ()
        self._lengths = sorted(lengths) or [method.fixed.get("draft_length", 0)]
        blocks = []
        for trial in () if method.is_peer else done:
            later = [line for _, lines in trial.texts for line in lines[1:]]
            length = trial.parameters.get("draft_length", 0)
            if length and (whole := [line for line in later if line["draft_length"] == length]):
                blocks.append(_Block(trial, whole))
        longest = max((block.length for block in blocks), default=0)
        self._blocks = [block for block in blocks if block.length == longest]
        """The defaults' first: its seconds count whatever the setting, as only chance differs."""
        self._short = next((block for block in blocks if block.length == 1), None)

    def best(self, cell: Cell) -> Choice | None:
        """The parameters for a cell; None where the trials say nothing."""
        if self._streams:
            return Choice(dict(min(self._streams, key=_whole_token_s).parameters), None)
        if not self._blocks:
            return None
        scored = [self._shortened(cell, block) for block in self._blocks]
        seconds, parameters = min(scored, key=lambda pair: pair[0])
        if seconds >= (1 - MARGIN) * scored[0][0]:
            seconds, parameters = scored[0]
        return Choice(parameters, seconds)

    def _shortened(self, cell: Cell, block: _Block) -> tuple[float, dict[str, Any]]:
        """The least seconds of an output token with a setting, and the setting with its best length."""
        queue_bytes = default_queue_bytes(cell.rate_up_bps)
        whole = [length for length in self._lengths if length <= block.length]
        fit = [n for n in whole if n == self._lengths[0] or block.up_bytes(n) <= queue_bytes]
        seconds, length = min((self._token_s(cell, block, n), n) for n in fit)
        return seconds, {**block.parameters, "draft_length": length}

    def _token_s(self, cell: Cell, block: _Block, length: int) -> float:
        base = self._blocks[0]
        short = self._short or base
        # The cloud's seconds of a block: a line through the longest and length 1, never falling.
        per_row_s = max(0.0, base.cloud_s - short.cloud_s) / max(1, base.length - short.length)
        cloud_s = base.cloud_s - per_row_s * (base.length - length)
        link_s = lines_s(cell, block.up_bytes(length), block.down_bytes)
        return (length * base.draft_token_s + cloud_s + base.other_s + link_s) / block.tokens(length)


def _whole_token_s(trial: Trial) -> float:
    """Seconds of an output token of whole texts, prompt and all."""
    records = [record for record, _ in trial.texts]
    return sum(text.last_token_s for text in records) / sum(text.output_tokens for text in records)
