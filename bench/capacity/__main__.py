"""
`make bench-capacity`: output tokens a second and round times of 1 to 64 edges against one cloud.

Beside it, in turn and in the same run: the same cloud with one sequence a pass, and transformers' batched
`generate` of the target, streamed to as many clients.
Unpaced, and with target passes of at least 50 ms, which stand in for a larger target.
The edges replay real drafts of the bundled pair, recorded at the beginning.

`--tenants` measures instead what one tenant notices of another's load (`bench.capacity.tenants`).
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench import command
from bench.capacity.load import Job
from bench.capacity.measure import (
    MeasuredDaemon,
    Seen,
    append_lines,
    at_work,
    lone_slice,
    measure_slices,
    say,
)
from bench.capacity.slices import DECODING, QUOTAS
from bench.capacity.tenants import TenantPlan, run_tenants
from bench.capacity.texts import DRAFT_LENGTH, record
from bench.markdown import table
from bench.peers.messages import SERVICE
from thinwire.common import wire
from thinwire.edge.demo import target_threads

EDGES = (1, 2, 4, 8, 16, 32, 64)
PACED_MS = (0.0, 50.0)
BATCHED, SINGLE, RIVAL = "one cloud", "one sequence a pass", "transformers, batched"
WAYS = 3
MAX_PROCESSES = 2
"""Full of clients: the machine's cores are shared with the daemon."""
SLICE_START_S, DAEMONS_START_S, RECORDING_S = 6.0, 15.0, 30.0
"""Besides: load generators that start and warm up, daemons that load, texts that are drafted."""
HEAD = (
    *("Edges", f"{BATCHED}: tokens/s", "round p50 / p95, ms", "CPU, ms a token"),
    *(f"{SINGLE}: tokens/s", "p50 / p95", "CPU", "ratio of tokens/s", "ratio of CPU"),
    *(f"{RIVAL}: tokens/s", "token p50 / p95", "CPU", "ratio of tokens/s"),
)
WANTED_EDGES, WANTED_RATIO = 16, 3.0
"""At 16 edges, at least three times as many tokens a second as with one sequence a pass."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    edges: tuple[int, ...]
    paced_ms: tuple[float, ...]
    texts: int
    tokens: int
    """Of each text."""
    slices: int
    """Of time for each cell; the ways take turns, so that what else the machine does meets all of them."""
    seconds: float
    """Of each slice."""
    threads: int
    """Of the target, in every daemon."""

    @property
    def estimated_s(self) -> float:
        """How long all of it takes, about."""
        slices = len(self.edges) * WAYS * self.slices
        return len(self.paced_ms) * (slices * (self.seconds + SLICE_START_S) + DAEMONS_START_S) + RECORDING_S


async def run(plan: Plan, out: Path | None) -> str:
    """
    Everything.

    Returns:
        the tables in Markdown.
    """
    sections = []
    with tempfile.TemporaryDirectory(prefix="thinwire-capacity-") as name:
        folder = Path(name)
        texts = folder / "texts.jsonl"
        say(f"about {plan.estimated_s / 60:.0f} minutes")
        say(f"recording {plan.texts} texts of {plan.tokens} tokens")
        draft_ms = await record(folder, texts, count=plan.texts, tokens=plan.tokens, threads=plan.threads)
        for paced_ms in plan.paced_ms:
            cells, memory = await _measure_all(plan, folder, texts, paced_ms, out)
            sections.append(_section(cells, paced_ms, memory))
    return "\n\n".join([_heading(plan, draft_ms), *sections])


async def _measure_all(
    plan: Plan, folder: Path, texts: Path, paced_ms: float, out: Path | None
) -> tuple[list[Seen], float]:
    """Every cell of one pacing, the ways in turn; and bytes of memory a session."""
    most = max(plan.edges)
    daemons = {way: MeasuredDaemon(f"{way}-{paced_ms:g}", folder) for way in (BATCHED, SINGLE, RIVAL)}
    common = ("--threads", str(plan.threads), "--paced", f"{paced_ms:g},0")
    cloud = ("bench.grid.cloud", *common, "--max-sessions", str(2 * most), "--max-batch-sequences")
    try:
        daemons[BATCHED].start(*cloud, str(most))
        daemons[SINGLE].start(*cloud, "1")
        daemons[RIVAL].start("bench.peers", *common)
        for way, daemon in daemons.items():
            await daemon.serving(SERVICE if way == RIVAL else wire.VERIFIER_SERVICE)
        cells: list[Seen] = []
        memory = math.nan
        before = daemons[BATCHED].rss_bytes
        # The most edges first, so that the memory they take is all fresh.
        for edges in sorted(plan.edges, reverse=True):
            row = {way: Seen(way=way, edges=edges, paced_ms=paced_ms) for way in daemons}
            for _ in range(plan.slices):
                for way, daemon in daemons.items():
                    jobs = _jobs(texts, edges, plan.tokens if way == RIVAL else 0)
                    await _measure(daemon, row[way], jobs, plan.seconds)
                if edges == most and math.isnan(memory):  # later, torn sessions are still kept beside
                    memory = (daemons[BATCHED].rss_bytes - before) / most
            speeds = ", ".join(f"{way} {seen.tokens_per_s:.0f} tokens/s" for way, seen in row.items())
            say(f"{edges} edges: {speeds}")
            cells += row.values()
            append_lines(out, row.values())
        return cells, memory
    finally:
        for daemon in daemons.values():
            daemon.terminate()
        await asyncio.gather(*(daemon.stopped() for daemon in daemons.values()))


def _jobs(texts: Path, edges: int, tokens: int) -> list[Job]:
    """The edges over the processes; where `tokens` are given, as many readers of the rival's streams."""
    count = min(edges, MAX_PROCESSES)
    firsts = [edges * n // count for n in range(count + 1)]
    return [
        Job(texts=texts, clients=last - first, first=first, together=edges if tokens else 0, tokens=tokens)
        for first, last in pairwise(firsts)
    ]


async def _measure(daemon: MeasuredDaemon, cell: Seen, jobs: list[Job], seconds: float) -> None:
    """One slice of time for one cell, once every edge has had an answer."""
    async with at_work(daemon, jobs) as processes:
        part = lone_slice(seconds)
        loads, (cpu_s,) = await measure_slices(daemon, processes, [part])
    cell.add(part, loads, cpu_s, *(load.counts for load in loads))


def _heading(plan: Plan, draft_ms: float) -> str:
    return (
        f"# Capacity\n\n{os.cpu_count()} cores ({platform.machine()}), target on {plan.threads} thread(s), "
        f"the load on the same machine; bundled pair, k-sqs, γ ≤ {DRAFT_LENGTH}, temperature 1, "
        f"texts of {plan.tokens} tokens, drafts of {draft_ms:.0f} ms (median of what was recorded), "
        f"{plan.slices} times {plan.seconds:g} s a cell.\nOnly ratios within this run say anything."
    )


def _section(cells: list[Seen], paced_ms: float, memory: float) -> str:
    """One pacing's table, and what follows from it."""
    found = {(cell.label["way"], cell.label["edges"]): cell for cell in cells}
    numbers = sorted({cell.label["edges"] for cell in cells})
    rows = []
    for n in numbers:
        own, single, rival = (found[way, n] for way in (BATCHED, SINGLE, RIVAL))
        cpu_ratio = single.cpu_ms_per_token / own.cpu_ms_per_token
        ratios = (f"{_ratio(own, single):.2f}", f"{cpu_ratio:.2f}")
        rivals = (*_figures(rival), f"{_ratio(own, rival):.2f}")
        rows.append([f"{n}", *_figures(own), *_figures(single), *ratios, *rivals])
    title = f"Passes of at least {paced_ms:g} ms" if paced_ms else "Unpaced"
    lines = [f"## {title}", "", table(HEAD, rows, left=1), ""]
    if WANTED_EDGES in numbers:
        ratio = _ratio(found[BATCHED, WANTED_EDGES], found[SINGLE, WANTED_EDGES])
        met = "met" if ratio >= WANTED_RATIO else "missed"
        lines.append(
            f"At {WANTED_EDGES} edges {ratio:.2f} times the tokens of {SINGLE} "
            f"(≥ {WANTED_RATIO:g} wanted: {met})."
        )
    lines.append(order_of([(n, _ratio(found[BATCHED, n], found[RIVAL, n])) for n in numbers]))
    ours = [cell for cell in cells if cell.label["way"] != RIVAL]
    others, refusals = (sum(cell.counts[name] for cell in ours) for name in ("other_verdicts", "refusals"))
    lines.append(
        f"Rounds decided otherwise than recorded: {others} of {sum(cell.rounds for cell in ours)}; "
        f"refusals: {refusals}. Memory of the cloud's process a session, at {max(numbers)}: "
        f"{memory / 1e6:.2f} MB (resident, all that grew)."
    )
    return "\n".join(lines)


def order_of(ratios: list[tuple[int, float]]) -> str:
    """With how many edges the order of ours and the rival's changes."""
    flips = [
        f"between {n} and {m} edges ({'lost' if before > 1 else 'won'} from there on)"
        for (n, before), (m, behind) in pairwise(ratios)
        if (before > 1) != (behind > 1)
    ]
    if flips:
        return f"Against {RIVAL} the order flips " + ", ".join(flips) + "."
    return f"Against {RIVAL}: {'won' if ratios[0][1] > 1 else 'lost'} at every number of edges."


def _ratio(one: Seen, other: Seen) -> float:
    return one.tokens_per_s / other.tokens_per_s if other.tokens_per_s else float("nan")


def _figures(cell: Seen) -> tuple[str, str, str]:
    """Three columns."""
    p50_ms, p95_ms = cell.percentiles_ms
    return f"{cell.tokens_per_s:.1f}", f"{p50_ms:.0f} / {p95_ms:.0f}", f"{cell.cpu_ms_per_token:.2f}"


def _numbers(text: str) -> tuple[int, ...]:
    """
    "1,2,4" as numbers.

    Raises:
        argparse.ArgumentTypeError: not numbers from 1 to 1000.
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(1 <= number <= 1000 for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r}; expected numbers from 1 to 1000, such as 1,16,64")
    return numbers


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a small table, in a minute or two")
    parser.add_argument(
        "--tenants", action="store_true", help="what one tenant notices of another that offers ten quotas"
    )
    parser.add_argument(
        "--decoding", action="store_true", help="with --tenants: of another that sends the dearest blocks"
    )
    parser.add_argument("--edges", type=_numbers, metavar="N,N,...", help="how many at once")
    parser.add_argument("--seconds", type=float, help="of each slice (default 3.5; with --tenants 5)")
    parser.add_argument("--slices", type=int, help="of time for a cell (default 2; with --tenants 6)")
    parser.add_argument("--threads", type=int, default=target_threads(), help="of the target")
    parser.add_argument("--out", type=Path, metavar="PATH", help="append one JSON line a cell to this file")
    arguments = parser.parse_args()
    if arguments.decoding and not arguments.tenants:
        parser.error("--decoding has no meaning alone; expected --tenants beside it")
    if arguments.tenants and arguments.edges:
        parser.error("--edges has no place beside --tenants; expected one of them")

    measuring = (
        run_tenants(_tenant_plan(arguments), arguments.out)
        if arguments.tenants
        else run(_plan(arguments), arguments.out)
    )

    def work() -> int:
        print(asyncio.run(measuring))
        return 0

    return command.run("bench.capacity", work, interrupted="interrupted.")


def _plan(arguments: argparse.Namespace) -> Plan:
    if arguments.smoke:
        return Plan((1, 4), (0.0,), texts=4, tokens=32, slices=1, seconds=3.0, threads=arguments.threads)
    slices, seconds = arguments.slices or 2, arguments.seconds or 3.5
    return Plan(
        arguments.edges or EDGES, PACED_MS, 12, 96, slices=slices, seconds=seconds, threads=arguments.threads
    )


def _tenant_plan(arguments: argparse.Namespace) -> TenantPlan:
    offers = DECODING if arguments.decoding else QUOTAS
    threads = arguments.threads
    if arguments.smoke:
        return TenantPlan(4, 32, cycles=1, seconds=2.0, settle_s=1.0, threads=threads, offers=offers)
    cycles, seconds = arguments.slices or 6, arguments.seconds or 5.0
    return TenantPlan(12, 96, cycles=cycles, seconds=seconds, settle_s=1.5, threads=threads, offers=offers)


if __name__ == "__main__":
    sys.exit(main())
