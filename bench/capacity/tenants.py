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
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.capacity.load import Load
from bench.capacity.measure import (
    LEAD_S,
    MeasuredDaemon,
    append_lines,
    load_processes,
    lone_slice,
    measure_slices,
    percentiles_ms,
)
from bench.capacity.slices import EXCESS, QUOTAS, Offer, Slice, schedule
from bench.capacity.texts import record
from bench.markdown import table
from thinwire.cloud.token_file import add_token
from thinwire.common import wire
from thinwire.common.door.security import ClientSecurity
from thinwire.common.errors import ThinwireError
from thinwire.edge.cloud_link import CloudLink
from thinwire.edge.settings import EdgeSettings

STEADY, LIMITED = "steady", "limited"
STEADY_SESSIONS = 2
THINK_MS = 100.0
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


@dataclass(slots=True)
class Outcome:
    """What was seen of one offer, over all its slices."""

    offer: Offer
    seconds: float = 0.0
    round_s: list[list[float]] = field(default_factory=list)
    """The steady tenant's, by slice."""
    attempts: int = 0
    admitted: int = 0
    quota_refusals: int = 0
    other_refusals: int = 0
    torn: int = 0
    """Streams given up before an answer."""
    cpu_s: float = 0.0
    """Of the cloud's process."""

    @property
    def percentiles_ms(self) -> tuple[float, float]:
        """(p50, p95) of the steady tenant's rounds, all slices together; NaN before any."""
        return percentiles_ms([one for part in self.round_s for one in part])

    @property
    def p95_ms_by_slice(self) -> list[float]:
        """One a slice."""
        return [percentiles_ms(part)[1] for part in self.round_s]

    def to_json(self) -> str:
        """One line, without its newline."""
        values = {**asdict(self), "offer": self.offer.value}
        values["rounds"] = sum(map(len, values.pop("round_s")))
        values["round_p50_ms"], values["round_p95_ms"] = self.percentiles_ms
        return json.dumps({**values, "p95_ms_by_slice": self.p95_ms_by_slice})


def outcomes(slices: Sequence[Slice], steady: Load, limited: Load, cpu_s: Sequence[float]) -> list[Outcome]:
    """
    What was seen, by offer.

    Args:
        slices: as they were told to both processes.
        steady: what the steady tenant's process saw.
        limited: what the other's did.
        cpu_s: the cloud's, of the counted seconds of each slice.
    """
    by_offer = {part.offer: Outcome(part.offer) for part in slices}
    for part, counts, cpu in zip(slices, limited.slices, cpu_s, strict=True):
        outcome = by_offer[part.offer]
        outcome.seconds += part.end_s - part.counted_s
        outcome.cpu_s += cpu
        outcome.round_s.append([took_s for took_s, _ in steady.within(part)])
        for name in counts.__struct_fields__:
            setattr(outcome, name, getattr(outcome, name) + getattr(counts, name))
    return list(by_offer.values())


async def run_tenants(plan: TenantPlan, out: Path | None) -> str:
    """
    Everything.

    Returns:
        the table in Markdown.
    """
    with tempfile.TemporaryDirectory(prefix="thinwire-tenants-") as name:
        folder = Path(name)
        texts = folder / "texts.jsonl"
        _say(f"recording {plan.texts} texts of {plan.tokens} tokens")
        await record(folder, texts, count=plan.texts, tokens=plan.tokens, threads=plan.threads)
        cloud = MeasuredDaemon("cloud", folder)
        try:
            tenants = TenantFiles(folder)
            tenants.add(STEADY)
            sessions = STEADY_SESSIONS + EXCESS * LIMITED_SESSIONS
            await cloud.start(
                *("bench.grid.cloud", "--threads", str(plan.threads), "--tokens", str(tenants.path)),
                *("--max-sessions", str(2 * sessions)),
            )
            await cloud.serving(wire.VERIFIER_SERVICE)
            alone = await _alone(cloud, tenants, texts)
            quota = QUOTA_SHARE * alone
            tenants.add(LIMITED, rounds_per_s=quota)
            cloud.reload()
            await _let_in(await cloud.address(), tenants.token_path(LIMITED).read_text(encoding="ascii"))
            _say(f"{alone:.1f} rounds/s one pass at a time, so a quota of {quota:.1f}")
            found, refusals = await measure_tenants(plan, cloud, tenants, texts, quota)
        finally:
            cloud.terminate()
            await cloud.stopped()
    append_lines(out, found)
    return report(plan, found, alone=alone, quota=quota, refusals=refusals)


class TenantFiles:
    """
    The cloud's token file, and one file a tenant with its token, all readable by their owner only.

    Args:
        folder: exists; the caller removes it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "tokens.json"

    def add(self, tenant: str, **quotas: float) -> None:
        """A tenant with a token."""
        token = add_token(str(self.path), tenant, quotas)
        descriptor = os.open(self.token_path(tenant), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(token)

    def token_path(self, tenant: str) -> Path:
        """Of a tenant's token."""
        return self._folder / f"{tenant}.token"


async def _alone(cloud: MeasuredDaemon, tenants: TenantFiles, texts: Path) -> float:
    """Rounds a second of one session that sends as soon as it has its verdict."""
    command = ("--token-file", tenants.token_path(STEADY), "--clients", 1, "--back-to-back")
    async with load_processes(cloud, texts, command) as loads:
        part = lone_slice(CALIBRATION_S)
        (seen,), _ = await measure_slices(cloud, loads, [part])
    return len(seen.within(part)) / CALIBRATION_S


async def measure_tenants(
    plan: TenantPlan, cloud: MeasuredDaemon, tenants: TenantFiles, texts: Path, quota: float
) -> tuple[list[Outcome], int]:
    """
    Both tenants' processes from beginning to end.

    Args:
        plan: how long.
        cloud: serving; it takes the tokens of both.
        tenants: with those.
        texts: the recording.
        quota: of the limited tenant, rounds a second.

    Returns:
        the outcomes, and the steady tenant's refusals.
    """
    steady = ("--token-file", tenants.token_path(STEADY), "--clients", STEADY_SESSIONS)
    limited = ("--token-file", tenants.token_path(LIMITED), "--clients", LIMITED_SESSIONS)
    async with load_processes(
        cloud,
        texts,
        (*steady, "--think-ms", THINK_MS),
        (f"nice={plan.niceness}", *limited, "--rate", quota),
    ) as loads:
        slices = schedule(
            time.monotonic() + LEAD_S,
            cycles=plan.cycles,
            seconds=plan.seconds,
            settle_s=plan.settle_s,
            offers=plan.offers,
        )
        (steady_seen, limited_seen), cpu_s = await measure_slices(cloud, loads, slices)
    return outcomes(slices, steady_seen, limited_seen, cpu_s), steady_seen.refusals


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


def report(plan: TenantPlan, found: list[Outcome], *, alone: float, quota: float, refusals: int) -> str:
    """
    The table, and whether the wanted ratio is met.

    Args:
        plan: for the heading.
        found: one an offer, the one at the quota first.
        alone: rounds a second, one pass at a time.
        quota: rounds a second.
        refusals: of the steady tenant.
    """
    against = found[0].offer.value
    _, p95_against_ms = found[0].percentiles_ms
    lines = [
        "# Two tenants",
        "",
        f"{os.cpu_count()} cores ({platform.machine()}), target on {plan.threads} thread(s), the load on the "
        f"same machine, the limited tenant's at niceness {plan.niceness}; bundled pair, k-sqs, γ ≤ 4, "
        f"temperature 1, texts of {plan.tokens} tokens.",
        f"One pass at a time the cloud does {alone:.1f} rounds/s; the limited tenant's quota is "
        f"{100 * QUOTA_SHARE:.0f} % of that, {quota:.1f} rounds/s, offered by {LIMITED_SESSIONS} sessions, "
        f"ten times by {EXCESS * LIMITED_SESSIONS}.",
        f"The steady tenant has {STEADY_SESSIONS} sessions that draft as recorded and think {THINK_MS:g} ms "
        f"besides; {plan.cycles} times {plan.seconds:g} s an offer, in turn.",
        "",
        table(HEAD, [_row(outcome, p95_against_ms) for outcome in found], left=1),
        "",
    ]
    for outcome in found[1:]:
        ratio = outcome.percentiles_ms[1] / p95_against_ms
        met = "met" if ratio <= WANTED_RATIO else "missed"
        lines.append(
            f"{outcome.offer.value}: p95 {ratio:.2f} times that {against} (≤ {WANTED_RATIO:g} wanted: {met})."
        )
    others = sum(outcome.other_refusals for outcome in found)
    lines.append(
        f"Refused for want of room: {others} of the limited tenant's; of the steady tenant's, whatever for: "
        f"{refusals}."
    )
    return "\n".join(lines)


def _row(outcome: Outcome, p95_against_ms: float) -> list[str]:
    """A line of the table."""
    p50_ms, p95_ms = outcome.percentiles_ms
    by_slice = outcome.p95_ms_by_slice
    refused = outcome.quota_refusals + outcome.other_refusals
    counts = (outcome.attempts, outcome.admitted, refused, outcome.torn)
    return [
        outcome.offer.value,
        f"{sum(map(len, outcome.round_s))}",
        f"{p50_ms:.1f} / {p95_ms:.1f}",
        f"{p95_ms / p95_against_ms:.2f}",
        f"{min(by_slice):.1f} to {max(by_slice):.1f}",
        *(f"{count / outcome.seconds:.1f}" for count in counts),
        f"{outcome.cpu_s / outcome.seconds:.2f}",
    ]


def _say(sentence: str) -> None:
    print(f"bench.capacity: {sentence}", file=sys.stderr, flush=True)
