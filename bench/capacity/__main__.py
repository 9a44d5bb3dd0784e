"""
`make bench-capacity`: output tokens a second and round times of 1 to 64 edges against one cloud.

Beside it, in turn and in the same run: the same cloud with one sequence a pass, and transformers' batched
`generate` of the target, streamed to as many clients.
Unpaced, and with target passes of at least 50 ms, which stand in for a larger target.
The edges replay real drafts of the bundled pair, recorded at the beginning.

`--free` measures instead a cloud that writes by itself beside rounds and plain streams
(`bench.capacity.free`), `--tenants` what one tenant notices of another's load (`bench.capacity.tenants`).
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench import command
from bench.capacity import free, tenants
from bench.capacity.daemons import CLOUD, PEERS, serving
from bench.capacity.load import DECODING, QUOTAS, Job
from bench.capacity.measure import RIVAL, Plan, Way, measure_ways, rival, say
from bench.capacity.texts import DRAFT_LENGTH, record
from bench.markdown import table
from thinwire.edge.demo import target_threads

EDGES = Plan(slices=2, seconds=3.5)
TENANTS = Plan(offers=QUOTAS, slices=6, settle_s=1.5, seconds=5.0)
FREE = Plan(edges=(16, 64), paced_ms=(50.0,), slices=4, seconds=5.0)
SMALL_FREE = Plan(texts=2, tokens=32, edges=(2,), paced_ms=(50.0,), slices=1, seconds=3.0)
SMALL_EDGES = Plan(texts=4, tokens=32, edges=(1, 4), paced_ms=(0.0,), slices=1, seconds=3.0)
SMALL_TENANTS = Plan(texts=4, tokens=32, offers=QUOTAS, slices=1, settle_s=1.0, seconds=2.0)
OWN, SINGLE = "one cloud", "one sequence a pass"
WAYS = OWN, SINGLE, RIVAL
SLICE_START_S, DAEMONS_START_S, RECORDING_S = 6.0, 15.0, 30.0
"""Besides: load generators that start and warm up, daemons that load, texts that are drafted."""
HEAD = (
    *("Edges", f"{OWN}: tokens/s", "round p50 / p95, ms", "CPU, ms a token"),
    *(f"{SINGLE}: tokens/s", "p50 / p95", "CPU", "ratio of tokens/s", "ratio of CPU"),
    *(f"{RIVAL}: tokens/s", "token p50 / p95", "CPU", "ratio of tokens/s"),
)
WANTED_EDGES, WANTED_RATIO = 16, 3.0
"""At 16 edges, at least three times as many tokens a second as with one sequence a pass."""
Line = Mapping[str, Any]
"""Of `Seen.line`, one a cell."""


async def run(plan: Plan, out: Path | None) -> str:
    """Everything; returns the tables in Markdown."""
    with tempfile.TemporaryDirectory(prefix="thinwire-capacity-") as name:
        folder = Path(name)
        texts = folder / "texts.jsonl"
        say(f"about {estimated_s(plan) / 60:.0f} minutes")
        say(f"recording {plan.texts} texts of {plan.tokens} tokens")
        draft_ms = await record(folder, texts, count=plan.texts, tokens=plan.tokens, threads=plan.threads)
        sections = [
            f"# Capacity\n\n{os.cpu_count()} cores ({platform.machine()}), target on {plan.threads} "
            f"thread(s), the load on the same machine; bundled pair, k-sqs, γ ≤ {DRAFT_LENGTH}, temperature "
            f"1, texts of {plan.tokens} tokens, drafts of {draft_ms:.0f} ms (median of what was recorded), "
            f"{plan.slices} times {plan.seconds:g} s a cell.\nOnly ratios within this run say anything."
        ]
        for paced_ms in plan.paced_ms:
            lines, memory_bytes = await _measure_all(plan, folder, texts, paced_ms, out)
            sections.append(_section(lines, paced_ms, memory_bytes))
    return "\n\n".join(sections)


def estimated_s(plan: Plan) -> float:
    """How long all of it takes, about."""
    slices = len(plan.edges) * len(WAYS) * plan.slices
    return len(plan.paced_ms) * (slices * (plan.seconds + SLICE_START_S) + DAEMONS_START_S) + RECORDING_S


async def _measure_all(
    plan: Plan, folder: Path, texts: Path, paced_ms: float, out: Path | None
) -> tuple[list[Line], float]:
    """Every cell of one pacing, the ways in turn; and bytes of memory a session."""
    most = max(plan.edges)
    common = ("--threads", str(plan.threads), "--paced", f"{paced_ms:g},0")
    cloud = (CLOUD, *common, "--max-sessions", str(2 * most), "--max-batch-sequences")
    commands = {OWN: (*cloud, str(most)), SINGLE: (*cloud, "1"), RIVAL: (PEERS, *common)}
    replay = partial(Job, texts=texts)
    ways = {
        OWN: Way(OWN, lambda edges: replay),
        SINGLE: Way(SINGLE, lambda edges: replay),
        RIVAL: Way(RIVAL, lambda edges: partial(replay, rival=rival(plan, edges))),
    }
    lines: list[Line] = []
    memory_bytes = math.nan
    async with serving(folder, commands) as daemons:
        before = daemons[OWN].rss_bytes
        async for edges, fresh in measure_ways(plan, daemons, ways, paced_ms, out):
            lines += fresh
            if edges == most:  # later, torn sessions are still kept beside
                memory_bytes = (daemons[OWN].rss_bytes - before) / most
    return lines, memory_bytes


def _section(lines: Sequence[Line], paced_ms: float, memory_bytes: float) -> str:
    """One pacing's table, and what follows from it."""
    found = {(line["way"], line["edges"]): line for line in lines}
    numbers = sorted({line["edges"] for line in lines})
    rows = []
    for n in numbers:
        own, single, rival = (found[way, n] for way in WAYS)
        cpu_ratio = single["cpu_ms_per_token"] / own["cpu_ms_per_token"]
        ratios = f"{_ratio(own, single):.2f}", f"{cpu_ratio:.2f}"
        rivals = *_figures(rival), f"{_ratio(own, rival):.2f}"
        rows.append([f"{n}", *_figures(own), *_figures(single), *ratios, *rivals])
    title = f"Passes of at least {paced_ms:g} ms" if paced_ms else "Unpaced"
    words = [f"## {title}", "", table(HEAD, rows, left=1), ""]
    if WANTED_EDGES in numbers:
        ratio = _ratio(found[OWN, WANTED_EDGES], found[SINGLE, WANTED_EDGES])
        met = "met" if ratio >= WANTED_RATIO else "missed"
        words.append(
            f"At {WANTED_EDGES} edges {ratio:.2f} times the tokens of {SINGLE} "
            f"(≥ {WANTED_RATIO:g} wanted: {met})."
        )
    words.append(order_of([(n, _ratio(found[OWN, n], found[RIVAL, n])) for n in numbers]))
    ours = [line for line in lines if line["way"] != RIVAL]
    others, refusals, rounds = (
        sum(line.get(name, 0) for line in ours) for name in ("other_verdicts", "refusals", "rounds")
    )
    words.append(
        f"Rounds decided otherwise than recorded: {others} of {rounds}; refusals: {refusals}. "
        f"Memory of the cloud's process a session, at {max(numbers)}: {memory_bytes / 1e6:.2f} MB "
        "(resident, all that grew)."
    )
    return "\n".join(words)


def order_of(ratios: Sequence[tuple[int, float]]) -> str:
    """With how many edges the order of ours and the rival's changes."""
    flips = [
        f"between {n} and {m} edges ({'lost' if before > 1 else 'won'} from there on)"
        for (n, before), (m, behind) in pairwise(ratios)
        if (before > 1) != (behind > 1)
    ]
    if flips:
        return f"Against {RIVAL} the order flips " + ", ".join(flips) + "."
    return f"Against {RIVAL}: {'won' if ratios[0][1] > 1 else 'lost'} at every number of edges."


def _ratio(one: Line, other: Line) -> float:
    return float(one["tokens_per_s"] / other["tokens_per_s"]) if other["tokens"] else math.nan


def _figures(line: Line) -> tuple[str, str, str]:
    return (
        f"{line['tokens_per_s']:.1f}",
        f"{line['round_p50_ms']:.0f} / {line['round_p95_ms']:.0f}",
        f"{line['cpu_ms_per_token']:.2f}",
    )


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a small table, in a minute or two")
    parser.add_argument(
        "--free", action="store_true", help="a cloud that writes by itself beside rounds and plain streams"
    )
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

    if arguments.free and arguments.tenants:
        parser.error("--free has no place beside --tenants; expected one of them")
    measuring, full, small = (
        (tenants.run, TENANTS, SMALL_TENANTS)
        if arguments.tenants
        else (free.run, FREE, SMALL_FREE)
        if arguments.free
        else (run, EDGES, SMALL_EDGES)
    )
    given = {name: getattr(arguments, name) for name in ("edges", "seconds", "slices", "threads")}
    if arguments.decoding:
        given["offers"] = DECODING
    plan = replace(
        small if arguments.smoke else full, **{name: value for name, value in given.items() if value}
    )

    def work() -> int:
        print(asyncio.run(measuring(plan, arguments.out)))
        return 0

    return command.run("bench.capacity", work, interrupted="interrupted.")


def _numbers(text: str) -> tuple[int, ...]:
    """ "1,2,4" as numbers."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(1 <= number <= 1000 for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r}; expected numbers from 1 to 1000, such as 1,16,64")
    return numbers


if __name__ == "__main__":
    sys.exit(main())
