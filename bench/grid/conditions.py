"""What a run was measured under, in words: for the report and below the figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.grid.cells import rate_text
from bench.grid.records import GenerationRecord

LATE_S = 0.002
"""A link that released a packet later than this is mentioned."""


def in_a_line(settings: Mapping[str, Any]) -> str:
    """Link, machine, date and pacing."""
    date = str(settings.get("started_at", "unknown date"))[:10]
    return (
        f"Link: {settings.get('link_kind', '?')}, {settings.get('congestion_control', '?')}, down four times "
        f"up. {settings.get('machine', 'unknown machine')}; {date}; "
        f"{settings.get('pacing', 'unknown pacing')}."
    )


def conditions(settings: Mapping[str, Any], measured: Sequence[GenerationRecord]) -> str:
    """What every figure of a report was measured under, in sentences."""
    plan = settings.get("plan", {})
    versions = ", ".join(f"{name} {number}" for name, number in settings.get("versions", {}).items())
    rows = [
        f"Pacing: {settings.get('pacing', 'unknown')}.",
        f"Machine: {settings.get('machine', 'unknown')}; {versions}; source {settings.get('revision', '?')}.",
        f"Started {settings.get('started_at', 'unknown')}; {len(measured)} texts.",
        f"Link: kind {settings.get('link_kind', '?')}, {settings.get('congestion_control', '?')}, down four "
        f"times up; client and draft model at its edge end, target and peers at its cloud end.",
        "Between edge and cloud: TLS; the peers' stream is plaintext."
        if settings.get("tls")
        else "Between edge and cloud: plaintext, as the peers' stream.",
        f"Same for all methods: N = {plan.get('tokens', '?')} tokens, top-k off, top-p 1, end-of-text "
        f"ignored, the same prompts and seeds; target on {settings.get('target_threads', '?')} threads, "
        f"draft model on {settings.get('draft_threads', '?')}, pinning {settings.get('pinning', '?')}.",
        f"Tuned where the name leaves it open: {', '.join(plan.get('tuned', [])) or 'nothing'}; "
        f"{_how(plan)}.",
    ]
    return "\n".join(rows)


def _how(plan: Mapping[str, Any]) -> str:
    """What was run to tune."""
    prompts = f"on {plan.get('tuning_prompts', 0)} prompts of their own"
    if not plan.get("tuning_link"):
        return f"at most {plan.get('tuning_candidates', 0)} values each were run, {prompts}"
    rate_bps, rtt_s = plan["tuning_link"]
    return (
        f"by transfer: acceptance, bits and times were measured at each temperature on the link of "
        f"{rate_text(rate_bps)} up and RTT {rtt_s * 1000:g} ms, {prompts}, and say which values are "
        f"fastest in every other cell (bench/grid/transfer.py)"
    )


def links(lines: Iterable[Mapping[str, Any]]) -> str:
    """A table of the links' self-tests and lateness; empty without a line."""
    rows = []
    for line in {line["run_id"]: line for line in lines}.values():
        test = line["self_test"]
        late = max((side["max_s"] or 0.0 for side in line["lateness"].values()), default=0.0)
        worst = max((abs(r["measured_bps"] / r["expected_bps"] - 1) for r in test["rates"]), default=math.nan)
        trip = max((abs(t["median_s"] - t["expected_s"]) for t in test["round_trips"]), default=math.nan)
        rows.append(
            f"| {line['rate_up_bps']} / {line['rate_down_bps']} | {line['rtt_s'] * 1000:g} "
            f"| {worst:.2%} | {trip * 1000:.2f} | {late * 1000:.1f}{' **late**' if late > LATE_S else ''} "
            f"| {'on' if line['real_time'] else 'off'} |"
        )
    return "\n".join([LINKS, *rows]) if rows else ""


LINKS = """\
## Links

Every link passed its self-test before anything ran on it.

| bit/s up / down | RTT, ms | rate off by | round trip off by, ms | latest packet, ms | real time |
|---:|---:|---:|---:|---:|---|"""
