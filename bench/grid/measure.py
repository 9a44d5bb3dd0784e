"""
What was observed of one text → its record and its round lines; pure.

Acceptance of assisted generation is read off its passes: a target pass was fed one token and the drafts, and
the tokens that came of it are the accepted drafts and one more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from bench.grid.records import GenerationRecord, round_line
from bench.peers.messages import ASSISTED
from link.carrier import LinkCounters


class ObservationError(Exception):
    """What was observed does not fit together; the text does not count."""


@dataclass(frozen=True, slots=True)
class Observed:
    """Of one text."""

    answer: Mapping[str, Any]
    """Of the client at the edge."""
    before: LinkCounters
    after: LinkCounters
    """Once the link is quiet again."""
    passes: Sequence[Mapping[str, Any]]
    """Lines of the pass log of the process that holds the target."""
    edge_rounds: Sequence[Mapping[str, Any]]
    """Lines of the edge's round log; empty for a peer."""


def finished_record(start: GenerationRecord, observed: Observed) -> GenerationRecord:
    """
    The record of a whole text.

    Args:
        start: the record with its key and settings, before any figure.

    Raises:
        ObservationError: the tokens that came and the log of passes do not fit together.
    """
    before, after = observed.before, observed.after
    arrivals = [(float(at_s), int(tokens)) for at_s, tokens, _ in observed.answer["arrivals"]]
    times = [at_s for at_s, _ in arrivals]
    target = [line for line in observed.passes if line["kind"] == "pass" and line["role"] == "target"]
    record = replace(
        start,
        output_tokens=sum(tokens for _, tokens in arrivals),
        first_token_s=times[0],
        last_token_s=times[-1],
        largest_gap_s=max((b - a for a, b in pairwise(times)), default=0.0),
        wire_up_bytes=after.up.carried_bytes - before.up.carried_bytes,
        wire_down_bytes=after.down.carried_bytes - before.down.carried_bytes,
        wire_up_packets=after.up.carried_packets - before.up.carried_packets,
        wire_down_packets=after.down.carried_packets - before.down.carried_packets,
        dropped_packets=sum(
            side_after.dropped_packets - side_before.dropped_packets
            for side_after, side_before in ((after.up, before.up), (after.down, before.down))
        ),
        target_passes=len(target),
        target_tokens=sum(line["tokens"] for line in target),
        target_s=sum(line["lasted_s"] for line in target),
        target_measured_s=sum(line["measured_s"] for line in target),
        text_sha256=observed.answer["text_sha256"],
    )
    if start.is_peer:
        return _of_peer(record, observed)
    return _of_thinwire(record, observed.answer["statistics"])


def round_lines(record: GenerationRecord, observed: Observed) -> list[str]:
    """One line a round: when its last token arrived, how many came, and what the edge wrote of it."""
    arrived: dict[int, tuple[float, int]] = {}
    for at_s, tokens, number in observed.answer["arrivals"]:
        arrived[number] = (at_s, arrived.get(number, (0.0, 0))[1] + tokens)
    own = {int(line["round"]): line for line in observed.edge_rounds if line["kind"] == "round"}
    lines = []
    for number, (at_s, tokens) in sorted(arrived.items()):
        values = {**own.get(number, {}), "arrival_s": at_s, "tokens": tokens}
        lines.append(round_line(record.attempt, number, values))
    return lines


def _of_thinwire(record: GenerationRecord, statistics: Mapping[str, Any]) -> GenerationRecord:
    names = (
        "rounds",
        "drafted_tokens",
        "tested_tokens",
        "accepted_tokens",
        "resampled_tokens",
        "uplink_payload_bits",
        "draft_s",
        "network_s",
        "verify_s",
    )
    return replace(
        record,
        **{name: statistics[name] for name in names},
        kept_positions=statistics.get("kept_positions", 0),
        mean_dropped_mass=statistics.get("mean_dropped_mass"),  # NaN did not come
        cap_binding_rate=statistics.get("cap_binding_rate", 0.0),
        dropped_mass_guarantee=statistics.get("dropped_mass_guarantee"),
    )


def _of_peer(record: GenerationRecord, observed: Observed) -> GenerationRecord:
    server_s = sum(line["server_s"] for line in observed.passes if line["kind"] == "served")
    draft_s = sum(
        line["lasted_s"] for line in observed.passes if line["kind"] == "pass" and line["role"] == "draft"
    )
    tokens_of: dict[int, int] = {}
    for _, tokens, number in observed.answer["arrivals"]:
        tokens_of[number] = tokens_of.get(number, 0) + tokens
    record = replace(
        record,
        rounds=len(tokens_of),
        draft_s=draft_s,
        verify_s=server_s,
        network_s=max(0.0, record.last_token_s - server_s),
    )
    if record.way != ASSISTED:
        return record
    fed = [line["tokens"] for line in observed.passes if line["kind"] == "pass" and line["role"] == "target"]
    given = [tokens for _, tokens in sorted(tokens_of.items())]
    if len(fed) != len(given):
        raise ObservationError(f"{len(fed)} target passes were logged, tokens came from {len(given)}")
    drafted = [fed[0] - _prompt_tokens(observed.passes), *(tokens - 1 for tokens in fed[1:])]
    accepted = [tokens - 1 for tokens in given]
    pairs = list(zip(drafted, accepted, strict=True))
    return replace(
        record,
        drafted_tokens=sum(drafted),
        tested_tokens=sum(min(kept + 1, made) for made, kept in pairs),
        accepted_tokens=sum(accepted),
        resampled_tokens=sum(kept < made for made, kept in pairs),
    )


def _prompt_tokens(passes: Sequence[Mapping[str, Any]]) -> int:
    """Of assisted generation: its first pass, usually the draft model's, is over the prompt alone."""
    return int(next(line for line in passes if line["kind"] == "pass")["tokens"])
