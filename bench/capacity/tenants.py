"""
`make bench-tenants`: the round times of one tenant while another offers its quota, or ten times its quota.

One cloud asks for tokens.
A steady tenant without a limit has a few sessions that draft, think, send and wait.
The other has a quota of rounds a second, a share of what the cloud does one pass at a time; it offers just
that, ten times that with the pauses it is asked for, and ten times that without (`bench.capacity.load`), in
turn.
Or, for what decoding does (`--decoding`): nothing, and its quota of blocks that take longest to decode.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.capacity.daemons import CLOUD, MeasuredDaemon, serving
from bench.capacity.load import EXCESS, Job, Load, Slice
from bench.capacity.measure import Plan, Seen, append_lines, measure, say
from bench.capacity.texts import DRAFT_LENGTH, record
from bench.markdown import table
from thinwire.cloud.token_file import add_token

STEADY, LIMITED = "steady", "limited"
STEADY_SESSIONS = 2
THINK_S = 0.1
"""Beside the drafting, so that the steady tenant leaves the cloud idle for most of the time."""
LIMITED_SESSIONS = 4
"""At the quota."""
QUOTA_SHARE = 0.4
"""Of the rounds a second that one session gets when it sends as soon as it has its verdict."""
CALIBRATION_S = 3.0
WANTED_RATIO = 1.2
"""The steady tenant's p95 at ten quotas is at most so many times its p95 at one."""
HEAD = (
    *("limited tenant", "steady tenant: rounds", "round p50 / p95, ms", "ratio of p95", "p95 by slice, ms"),
    *("limited: attempts/s", "admitted rounds/s", "refusals/s", "torn/s", "cloud's CPU, cores"),
)


async def run(plan: Plan, out: Path | None) -> str:
    """Everything; returns the table in Markdown."""
    with tempfile.TemporaryDirectory(prefix="thinwire-tenants-") as name:
        folder = Path(name)
        texts, tokens_file = folder / "texts.jsonl", str(folder / "tokens.json")
        say(f"recording {plan.texts} texts of {plan.tokens} tokens")
        await record(folder, texts, count=plan.texts, tokens=plan.tokens, threads=plan.threads)
        steady = add_token(tokens_file, STEADY, {})
        sessions = STEADY_SESSIONS + EXCESS * LIMITED_SESSIONS
        command = (
            *(CLOUD, "--threads", str(plan.threads), "--tokens", tokens_file),
            *("--max-sessions", str(2 * sessions)),
        )
        async with serving(folder, {"calibrated": command}) as daemons:
            back_to_back = Job(texts=texts, numbers=range(1), token=steady, think_s=None)
            calibration = Plan(slices=1, seconds=CALIBRATION_S)
            (part,), (seen,), _ = await measure(daemons["calibrated"], [back_to_back], calibration)
        alone = sum(part.counts(answer.at_s) for answer in seen.answers) / CALIBRATION_S
        quota = QUOTA_SHARE * alone
        say(f"{alone:.1f} rounds/s one pass at a time, so a quota of {quota:.1f}")
        limited = add_token(tokens_file, LIMITED, {"rounds_per_s": quota})
        async with serving(folder, {"cloud": command}) as daemons:
            lines = await measure_tenants(plan, daemons["cloud"], texts, (steady, limited), quota)
    append_lines(out, lines)
    return report(plan, lines, alone=alone, quota=quota)


async def measure_tenants(
    plan: Plan, cloud: MeasuredDaemon, texts: Path, tokens: tuple[str, str], quota: float
) -> list[dict[str, Any]]:
    """A line an offer (`Seen.line`); `tokens` are the tenants', `quota` the limited one's rounds a second."""
    steady, limited = tokens
    jobs = (
        Job(texts=texts, numbers=range(STEADY_SESSIONS), token=steady, think_s=THINK_S),
        Job(texts=texts, numbers=range(LIMITED_SESSIONS), token=limited, rate=quota, niceness=plan.niceness),
    )
    return by_offer(*await measure(cloud, jobs, plan))


def by_offer(slices: Sequence[Slice], loads: Sequence[Load], cpu_s: Sequence[float]) -> list[dict[str, Any]]:
    """A line an offer of what `measure` gives; the steady tenant's process is the first."""
    steady, limited = loads
    found = {part.offer: Seen(offer=part.offer.name) for part in slices}
    for part, counts, cpu in zip(slices, limited.slices, cpu_s, strict=True):
        found[part.offer].add(part, [steady], cpu, counts)
    first, *others = (seen.line() for seen in found.values())
    return [{**first, "steady_refusals": steady.counts["refusals"]}, *others]


def report(plan: Plan, lines: Sequence[Mapping[str, Any]], *, alone: float, quota: float) -> str:
    """
    The table, and whether the wanted ratio is met.

    Args:
        plan: for the heading.
        lines: one an offer, the one that the others are held against first.
        alone, quota: rounds a second, one pass at a time and of the limited tenant.
    """
    against, *held = lines
    words = [
        "# Two tenants",
        "",
        f"{os.cpu_count()} cores ({platform.machine()}), target on {plan.threads} thread(s), the load on the "
        f"same machine, the limited tenant's at niceness {plan.niceness}; bundled pair, k-sqs, "
        f"γ ≤ {DRAFT_LENGTH}, temperature 1, texts of {plan.tokens} tokens.",
        f"One pass at a time the cloud does {alone:.1f} rounds/s; the limited tenant's quota is "
        f"{100 * QUOTA_SHARE:.0f} % of that, {quota:.1f} rounds/s, offered by {LIMITED_SESSIONS} sessions, "
        f"ten times by {EXCESS * LIMITED_SESSIONS}.",
        f"The steady tenant has {STEADY_SESSIONS} sessions that draft as recorded and think "
        f"{1e3 * THINK_S:g} ms besides; {plan.slices} times {plan.seconds:g} s an offer, in turn.",
        "",
        table(HEAD, [_row(line, against) for line in lines], left=1),
        "",
    ]
    for line in held:
        ratio = _p95_ratio(line, against)
        met = "met" if ratio <= WANTED_RATIO else "missed"
        words.append(
            f"{line['offer']}: p95 {ratio:.2f} times that {against['offer']} "
            f"(≤ {WANTED_RATIO:g} wanted: {met})."
        )
    others = sum(line.get("other_refusals", 0) for line in lines)
    words.append(
        f"Refused for want of room: {others} of the limited tenant's; of the steady tenant's, whatever for: "
        f"{against['steady_refusals']}."
    )
    return "\n".join(words)


def _row(line: Mapping[str, Any], against: Mapping[str, Any]) -> list[str]:
    by_slice, seconds = line["p95_ms_by_slice"], line["seconds"]
    attempts, admitted, torn, *refusals = (
        line.get(name, 0) for name in ("attempts", "admitted", "torn", "quota_refusals", "other_refusals")
    )
    return [
        line["offer"],
        f"{line['rounds']}",
        f"{line['round_p50_ms']:.1f} / {line['round_p95_ms']:.1f}",
        f"{_p95_ratio(line, against):.2f}",
        f"{min(by_slice):.1f} to {max(by_slice):.1f}",
        *(f"{n / seconds:.1f}" for n in (attempts, admitted, sum(refusals), torn)),
        f"{line['cpu_s'] / seconds:.2f}",
    ]


def _p95_ratio(line: Mapping[str, Any], against: Mapping[str, Any]) -> float:
    return float(line["round_p95_ms"] / against["round_p95_ms"])
