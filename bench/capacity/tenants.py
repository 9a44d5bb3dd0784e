"""
`make bench-tenants`: the round times of one tenant while another offers its quota, or ten times its quota.

One cloud asks for tokens.
A steady tenant without a limit has a few sessions that draft, think, send and wait.
The other has a quota of rounds a second, a share of what the cloud does one pass at a time; it offers just
that, ten times that with the pauses it is asked for, and ten times that without (`bench.capacity.slices`), in
turn.
Or, for what decoding does (`--decoding`): nothing, and its quota of blocks that take longest to decode.
"""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.capacity.load import Job, Load
from bench.capacity.measure import (
    LEAD_S,
    MeasuredDaemon,
    Seen,
    append_lines,
    at_work,
    lone_slice,
    measure_slices,
    say,
)
from bench.capacity.slices import EXCESS, QUOTAS, Offer, Slice, schedule
from bench.capacity.texts import DRAFT_LENGTH, record
from bench.markdown import table
from thinwire.cloud.token_file import add_token
from thinwire.common import wire
from thinwire.common.door.security import ClientSecurity
from thinwire.common.errors import ThinwireError
from thinwire.edge.cloud_link import CloudLink
from thinwire.edge.settings import EdgeSettings

STEADY, LIMITED = "steady", "limited"
STEADY_SESSIONS = 2
THINK_S = 0.1
"""Beside the drafting, so that the steady tenant leaves the cloud idle for most of the time."""
LIMITED_SESSIONS = 4
"""At the quota."""
QUOTA_SHARE = 0.4
"""Of the rounds a second that one session gets when it sends as soon as it has its verdict."""
NICENESS = 15
"""
Of the limited tenant's process, relative to the cloud's: its edges are elsewhere, and what they compute must
not take the cloud's time.
"""
CALIBRATION_S = 3.0
WANTED_RATIO = 1.2
"""The steady tenant's p95 at ten quotas is at most so many times its p95 at one."""
_RELOAD_TIMEOUT_S = 10.0
HEAD = (
    *("limited tenant", "steady tenant: rounds", "round p50 / p95, ms", "ratio of p95", "p95 by slice, ms"),
    *("limited: attempts/s", "admitted rounds/s", "refusals/s", "torn/s", "cloud's CPU, cores"),
)


@dataclass(frozen=True, slots=True)
class TenantPlan:
    """How much is measured."""

    texts: int
    tokens: int
    """Of each text."""
    cycles: int
    """Of all offers."""
    seconds: float
    """Counted of each slice."""
    settle_s: float
    """Before them."""
    threads: int
    """Of the target."""
    niceness: int = NICENESS
    """Of the limited tenant's process."""
    offers: tuple[Offer, ...] = QUOTAS
    """The one that the others are held against first."""


async def run_tenants(plan: TenantPlan, out: Path | None) -> str:
    """
    Everything.

    Returns:
        the table in Markdown.
    """
    with tempfile.TemporaryDirectory(prefix="thinwire-tenants-") as name:
        folder = Path(name)
        texts, tokens_file = folder / "texts.jsonl", str(folder / "tokens.json")
        say(f"recording {plan.texts} texts of {plan.tokens} tokens")
        await record(folder, texts, count=plan.texts, tokens=plan.tokens, threads=plan.threads)
        cloud = MeasuredDaemon("cloud", folder)
        try:
            steady = add_token(tokens_file, STEADY, {})
            sessions = STEADY_SESSIONS + EXCESS * LIMITED_SESSIONS
            cloud.start(
                *("bench.grid.cloud", "--threads", str(plan.threads), "--tokens", tokens_file),
                *("--max-sessions", str(2 * sessions)),
            )
            await cloud.serving(wire.VERIFIER_SERVICE)
            back_to_back = Job(texts=texts, clients=1, token=steady, drafts=False)
            async with at_work(cloud, [back_to_back]) as processes:
                part = lone_slice(CALIBRATION_S)
                (seen,), _ = await measure_slices(cloud, processes, [part])
            alone = len(seen.within(part)) / CALIBRATION_S
            quota = QUOTA_SHARE * alone
            limited = add_token(tokens_file, LIMITED, {"rounds_per_s": quota})
            cloud.reload()
            await _let_in(await cloud.address(), limited)
            say(f"{alone:.1f} rounds/s one pass at a time, so a quota of {quota:.1f}")
            found = await measure_tenants(plan, cloud, texts, (steady, limited), quota)
        finally:
            cloud.terminate()
            await cloud.stopped()
    append_lines(out, found)
    return report(plan, found, alone=alone, quota=quota)


async def measure_tenants(
    plan: TenantPlan, cloud: MeasuredDaemon, texts: Path, tokens: tuple[str, str], quota: float
) -> list[Seen]:
    """
    Both tenants' processes from beginning to end.

    Args:
        plan: how long.
        cloud: serving.
        texts: the recording.
        tokens: of the steady tenant and of the limited one.
        quota: of the limited tenant, rounds a second.

    Returns:
        what was seen of each offer.
    """
    steady, limited = tokens
    jobs = (
        Job(texts=texts, clients=STEADY_SESSIONS, token=steady, think_s=THINK_S),
        Job(texts=texts, clients=LIMITED_SESSIONS, token=limited, rate=quota, niceness=plan.niceness),
    )
    async with at_work(cloud, jobs) as processes:
        slices = schedule(
            time.monotonic() + LEAD_S,
            cycles=plan.cycles,
            seconds=plan.seconds,
            settle_s=plan.settle_s,
            offers=plan.offers,
        )
        (steady_seen, limited_seen), cpu_s = await measure_slices(cloud, processes, slices)
    return by_offer(slices, steady_seen, limited_seen, cpu_s)


def by_offer(slices: Sequence[Slice], steady: Load, limited: Load, cpu_s: Sequence[float]) -> list[Seen]:
    """
    What was seen of each offer.

    Args:
        slices: as they were told to both processes.
        steady: what the steady tenant's process saw.
        limited: what the other's did.
        cpu_s: the cloud's, of the counted seconds of each slice.
    """
    found = {part.offer: Seen(offer=part.offer.value) for part in slices}
    for part, counts, cpu in zip(slices, limited.slices, cpu_s, strict=True):
        found[part.offer].add(part, [steady], cpu, counts)
    found[slices[0].offer].counts["steady_refusals"] = steady.counts["refusals"]
    return list(found.values())


async def _let_in(address: str, token: str) -> None:
    """
    Wait until the cloud has read its token file again.

    Raises:
        ThinwireError: it lets this token's owner in within no reasonable time.
    """
    link = CloudLink(address, EdgeSettings(), ClientSecurity(token=token))
    try:
        give_up_at_s = time.monotonic() + _RELOAD_TIMEOUT_S
        while isinstance(answer := await link.server_info(), ThinwireError):
            if time.monotonic() > give_up_at_s:
                raise answer
            await asyncio.sleep(0.05)
    finally:
        await link.close()


def report(plan: TenantPlan, found: Sequence[Seen], *, alone: float, quota: float) -> str:
    """
    The table, and whether the wanted ratio is met.

    Args:
        plan: for the heading.
        found: one an offer, the one at the quota first.
        alone: rounds a second, one pass at a time.
        quota: rounds a second.
    """
    against = found[0]
    lines = [
        "# Two tenants",
        "",
        f"{os.cpu_count()} cores ({platform.machine()}), target on {plan.threads} thread(s), the load on the "
        f"same machine, the limited tenant's at niceness {plan.niceness}; bundled pair, k-sqs, "
        f"γ ≤ {DRAFT_LENGTH}, temperature 1, texts of {plan.tokens} tokens.",
        f"One pass at a time the cloud does {alone:.1f} rounds/s; the limited tenant's quota is "
        f"{100 * QUOTA_SHARE:.0f} % of that, {quota:.1f} rounds/s, offered by {LIMITED_SESSIONS} sessions, "
        f"ten times by {EXCESS * LIMITED_SESSIONS}.",
        f"The steady tenant has {STEADY_SESSIONS} sessions that draft as recorded and think "
        f"{1e3 * THINK_S:g} ms besides; {plan.cycles} times {plan.seconds:g} s an offer, in turn.",
        "",
        table(HEAD, [_row(seen, against) for seen in found], left=1),
        "",
    ]
    for seen in found[1:]:
        ratio = seen.percentiles_ms[1] / against.percentiles_ms[1]
        met = "met" if ratio <= WANTED_RATIO else "missed"
        lines.append(
            f"{seen.label['offer']}: p95 {ratio:.2f} times that {against.label['offer']} "
            f"(≤ {WANTED_RATIO:g} wanted: {met})."
        )
    others, steady = (
        sum(seen.counts[name] for seen in found) for name in ("other_refusals", "steady_refusals")
    )
    lines.append(
        f"Refused for want of room: {others} of the limited tenant's; of the steady tenant's, whatever for: "
        f"{steady}."
    )
    return "\n".join(lines)


def _row(seen: Seen, against: Seen) -> list[str]:
    """A line of the table."""
    (p50_ms, p95_ms), by_slice, counts = seen.percentiles_ms, seen.p95_ms_by_slice, seen.counts
    refused = counts["quota_refusals"] + counts["other_refusals"]
    return [
        seen.label["offer"],
        f"{seen.rounds}",
        f"{p50_ms:.1f} / {p95_ms:.1f}",
        f"{p95_ms / against.percentiles_ms[1]:.2f}",
        f"{min(by_slice):.1f} to {max(by_slice):.1f}",
        *(
            f"{n / seen.seconds:.1f}"
            for n in (counts["attempts"], counts["admitted"], refused, counts["torn"])
        ),
        f"{seen.cpu_s / seen.seconds:.2f}",
    ]
