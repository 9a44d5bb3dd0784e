"""
What was observed of one text → its record and its round lines; pure.

Acceptance of assisted generation is read off its passes: a target pass was fed one token and the drafts, and
the tokens that came of it are the accepted drafts and one more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from bench.grid.records import SCHEMA_VERSION, GenerationRecord
from bench.peers.messages import ASSISTED
from link.carrier import LinkCounters

STATISTICS = (
    *("rounds", "drafted_tokens", "tested_tokens", "accepted_tokens", "resampled_tokens"),
    *("uplink_payload_bits", "draft_s", "network_s", "verify_s"),
)
"""Thinwire's own of each text, taken as they are."""
SUPPORT = ("kept_positions", "mean_dropped_mass", "cap_binding_rate", "dropped_mass_guarantee")
"""Statistics that only some schemes have; one that is NaN did not come."""


class ObservationError(Exception):
    """What was observed does not fit together; the text does not count."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of one text."""

    answer: Mapping[str, Any]
    """What the client at the edge said."""
    before: LinkCounters
    after: LinkCounters
    """Once the link is quiet again."""
    passes: Sequence[Mapping[str, Any]]
    """Lines of the pass log of the process that holds the target."""
    edge_rounds: Sequence[Mapping[str, Any]]
    """Lines of the edge's round log; empty for a peer."""

    @property
    def rounds(self) -> dict[int, tuple[float, int]]:
        """By its number: when a round's last token arrived, and how many came."""
        found: dict[int, tuple[float, int]] = {}
        for at_s, tokens, number in self.answer["arrivals"]:
            found[number] = (at_s, found.get(number, (0.0, 0))[1] + tokens)
        return dict(sorted(found.items()))

    def passes_of(self, role: str) -> list[Mapping[str, Any]]:
        """Passes of one model."""
        return [line for line in self.passes if line["kind"] == "pass" and line["role"] == role]


def finished_record(start: GenerationRecord, observed: Observed) -> GenerationRecord:
    """
    The record of a whole text.

    Args:
        start: the record with its key and settings, before any figure.

    Raises:
        ObservationError: the text failed, is too short, or does not fit the log of passes.
    """
    if observed.answer.get("failure"):
        raise ObservationError(observed.answer["failure"])
    arrivals, target = observed.answer["arrivals"], observed.passes_of("target")
    tokens = sum(count for _, count, _ in arrivals)
    if tokens != start.requested_tokens:
        raise ObservationError(f"{tokens} tokens arrived instead of {start.requested_tokens}")
    after, before = observed.after, observed.before
    ends = (after.up, before.up), (after.down, before.down)
    up_bytes, down_bytes = (now.carried_bytes - then.carried_bytes for now, then in ends)
    up_packets, down_packets = (now.carried_packets - then.carried_packets for now, then in ends)
    times = [float(at_s) for at_s, _, _ in arrivals]
    figures = _peer_figures(start.way, observed) if start.is_peer else _thinwire_figures(observed)
    return replace(
        start,
        output_tokens=tokens,
        first_token_s=times[0],
        last_token_s=times[-1],
        largest_gap_s=max((b - a for a, b in pairwise(times)), default=0.0),
        wire_up_bytes=up_bytes,
        wire_down_bytes=down_bytes,
        wire_up_packets=up_packets,
        wire_down_packets=down_packets,
        dropped_packets=sum(now.dropped_packets - then.dropped_packets for now, then in ends),
        target_passes=len(target),
        target_tokens=sum(line["tokens"] for line in target),
        target_s=sum(line["lasted_s"] for line in target),
        target_measured_s=sum(line["measured_s"] for line in target),
        text_sha256=observed.answer["text_sha256"],
        **figures,
    )


def round_lines(attempt: str, observed: Observed) -> list[str]:
    """
    One JSON line a round: when its last token arrived, how many came, and what the edge wrote of it.

    Args:
        attempt: of the text's `GenerationRecord`.
    """
    own = {int(line["round"]): line for line in observed.edge_rounds if line["kind"] == "round"}
    head = {"schema": SCHEMA_VERSION, "kind": "round", "attempt": attempt}
    return [
        json.dumps(
            {**own.get(n, {}), "arrival_s": at_s, "tokens": tokens, **head, "round": n}, allow_nan=False
        )
        for n, (at_s, tokens) in observed.rounds.items()
    ]


def _thinwire_figures(observed: Observed) -> dict[str, Any]:
    statistics = observed.answer["statistics"]
    support = {name: statistics[name] for name in SUPPORT if name in statistics}
    return {name: statistics[name] for name in STATISTICS} | support


def _peer_figures(way: str, observed: Observed) -> dict[str, Any]:
    server_s = sum(line["server_s"] for line in observed.passes if line["kind"] == "served")
    given = [tokens for _, tokens in observed.rounds.values()]
    figures = {
        "rounds": len(given),
        "draft_s": sum(line["lasted_s"] for line in observed.passes_of("draft")),
        "verify_s": server_s,
        "network_s": max(0.0, observed.answer["arrivals"][-1][0] - server_s),
    }
    if way != ASSISTED:
        return figures
    fed = [line["tokens"] for line in observed.passes_of("target")]
    if len(fed) != len(given):
        raise ObservationError(f"{len(fed)} target passes were logged, tokens came from {len(given)}")
    # The first pass, usually the draft model's, is over the prompt alone.
    prompt = next(line["tokens"] for line in observed.passes if line["kind"] == "pass")
    drafted = [fed[0] - prompt, *(tokens - 1 for tokens in fed[1:])]
    accepted = [tokens - 1 for tokens in given]
    pairs = list(zip(drafted, accepted, strict=True))
    return figures | {
        "drafted_tokens": sum(drafted),
        "tested_tokens": sum(min(kept + 1, made) for made, kept in pairs),
        "accepted_tokens": sum(accepted),
        "resampled_tokens": sum(kept < made for made, kept in pairs),
    }
