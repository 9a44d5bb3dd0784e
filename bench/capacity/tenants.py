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
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.capacity.measure import END_TIMEOUT_S, LEAD_S, START_TIMEOUT_S, Cell, MeasuredDaemon, line_of
from bench.capacity.recording import record
from bench.capacity.slices import EXCESS, QUOTAS, Offer, Slice, schedule, to_line
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
        return _percentiles_ms([one for part in self.round_s for one in part])

    @property
    def p95_ms_by_slice(self) -> list[float]:
        """One a slice."""
        return [_percentiles_ms(part)[1] for part in self.round_s]

    def to_json(self) -> str:
        """One line, without its newline."""
        values = {name: value for name, value in asdict(self).items() if name not in ("round_s", "offer")}
        p50_ms, p95_ms = self.percentiles_ms
        return json.dumps(
            {
                "offer": self.offer.value,
                **values,
                "rounds": sum(map(len, self.round_s)),
                "round_p50_ms": p50_ms,
                "round_p95_ms": p95_ms,
                "p95_ms_by_slice": self.p95_ms_by_slice,
            }
        )


def outcomes(
    slices: list[Slice], steady: dict[str, Any], limited: dict[str, Any], cpu_s: list[float]
) -> list[Outcome]:
    """
    What was seen, by offer.

    Args:
        slices: as they were told to both processes.
        steady: what the steady tenant's process printed.
        limited: what the other's did.
        cpu_s: the cloud's, of the counted seconds of each slice.
    """
    by_offer = {part.offer: Outcome(part.offer) for part in slices}
    for part, counts, cpu in zip(slices, limited["slices"], cpu_s, strict=True):
        outcome = by_offer[part.offer]
        outcome.seconds += part.end_s - part.counted_s
        outcome.cpu_s += cpu
        outcome.round_s.append([took_s for now_s, took_s in steady["rounds"] if part.counts(now_s)])
        for name, count in counts.items():
            setattr(outcome, name, getattr(outcome, name) + count)
    return list(by_offer.values())


async def run_tenants(plan: TenantPlan, out: Path | None) -> str:
    """
    Everything.

    Returns:
        the table in Markdown.
    """
    task = asyncio.current_task()
    assert task is not None, "runs in a task"
    # Whatever ends this process must end the processes it started.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
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
    if out is not None:
        with out.open("a", encoding="utf-8") as file:
            file.writelines(outcome.to_json() + "\n" for outcome in found)
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
    process = await _load(cloud, tenants, STEADY, texts, "--sessions", "1", "--back-to-back")
    try:
        await line_of(process, START_TIMEOUT_S)
        begin_s = time.monotonic() + LEAD_S
        part = Slice(Offer.AT_QUOTA, begin_s, begin_s, begin_s + CALIBRATION_S)
        seen = await _told(process, [part])
    finally:
        await _stop(process)
    return sum(part.counts(now_s) for now_s, _ in seen["rounds"]) / CALIBRATION_S


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
    steady = await _load(
        cloud, tenants, STEADY, texts, "--sessions", str(STEADY_SESSIONS), "--think-ms", str(THINK_MS)
    )
    limited = await _load(
        cloud,
        tenants,
        LIMITED,
        texts,
        *("--sessions", str(LIMITED_SESSIONS), "--rate", str(quota)),
        niceness=plan.niceness,
    )
    try:
        for process in (steady, limited):
            await line_of(process, START_TIMEOUT_S)
        slices = schedule(
            time.monotonic() + LEAD_S,
            cycles=plan.cycles,
            seconds=plan.seconds,
            settle_s=plan.settle_s,
            offers=plan.offers,
        )
        told = [asyncio.ensure_future(_told(process, slices)) for process in (steady, limited)]
        try:
            cpu_s = [await _cpu_s(cloud, part) for part in slices]
            steady_seen, limited_seen = await asyncio.gather(*told)
        finally:
            for one in told:
                one.cancel()
    finally:
        for process in (steady, limited):
            await _stop(process)
    return outcomes(slices, steady_seen, limited_seen, cpu_s), int(steady_seen["refusals"])


async def _load(
    cloud: MeasuredDaemon,
    tenants: TenantFiles,
    tenant: str,
    texts: Path,
    *arguments: str,
    niceness: int = 0,
) -> asyncio.subprocess.Process:
    """All edges of a tenant."""
    return await asyncio.create_subprocess_exec(
        *("nice", "-n", str(niceness), sys.executable, "-m", "bench.capacity.tenant_load"),
        *("--address", await cloud.address()),
        *("--texts", str(texts), "--token-file", str(tenants.token_path(tenant)), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=64 * 1024 * 1024,
    )


async def _told(process: asyncio.subprocess.Process, slices: list[Slice]) -> dict[str, Any]:
    """What a load process saw in these slices."""
    assert process.stdin is not None, "a pipe"
    process.stdin.write(f"{to_line(slices)}\n".encode())
    await process.stdin.drain()
    seen = await line_of(process, slices[-1].end_s - time.monotonic() + END_TIMEOUT_S)
    return dict(json.loads(seen))


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    await process.wait()


async def _cpu_s(cloud: MeasuredDaemon, part: Slice) -> float:
    """What the cloud's process takes in the slice's counted seconds; returns at their end."""
    await asyncio.sleep(part.counted_s - time.monotonic())
    before_s = cloud.cpu_s
    await asyncio.sleep(part.end_s - time.monotonic())
    return cloud.cpu_s - before_s


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
        "| limited tenant | steady tenant: rounds | round p50 / p95, ms | ratio of p95 | p95 by slice, ms "
        "| limited: attempts/s | admitted rounds/s | refusals/s | torn/s | cloud's CPU, cores |",
        "|" + " --- |" * 10,
    ]
    for outcome in found:
        p50_ms, p95_ms = outcome.percentiles_ms
        by_slice = outcome.p95_ms_by_slice
        refused = outcome.quota_refusals + outcome.other_refusals
        lines.append(
            f"| {outcome.offer.value} | {sum(map(len, outcome.round_s))} | {p50_ms:.1f} / {p95_ms:.1f} "
            f"| {p95_ms / p95_against_ms:.2f} | {min(by_slice):.1f} to {max(by_slice):.1f} "
            f"| {outcome.attempts / outcome.seconds:.1f} | {outcome.admitted / outcome.seconds:.1f} "
            f"| {refused / outcome.seconds:.1f} | {outcome.torn / outcome.seconds:.1f} "
            f"| {outcome.cpu_s / outcome.seconds:.2f} |"
        )
    lines.append("")
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


def _percentiles_ms(round_s: list[float]) -> tuple[float, float]:
    """As the capacity table has them."""
    return Cell("", 0, 0.0, round_s=round_s).percentiles_ms


def _say(sentence: str) -> None:
    print(f"bench.capacity: {sentence}", file=sys.stderr, flush=True)
