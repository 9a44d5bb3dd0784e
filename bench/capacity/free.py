"""
Many edges on one cloud that writes by itself, beside as many in rounds and as many plain streams.

    coupled          the edges' hints as recorded, real drafts of the bundled pair (`free_edge`)
    lock-step        the same cloud, k-sqs, rounds as recorded (`session`)
    plain streams    such a cloud that copies nothing, with edges that send no hint
    transformers     batched `generate` of the target, streamed to as many clients
"""

from __future__ import annotations

import os
import platform
import tempfile
from functools import partial
from pathlib import Path

from bench.capacity.daemons import CLOUD, PEERS, serving
from bench.capacity.load import Job
from bench.capacity.measure import RIVAL, Plan, Way, measure_ways, rival, say
from bench.capacity.texts import record
from bench.markdown import number, table

COUPLED, ROUNDS, PLAIN = "coupled", "lock-step", "plain streams"
HEAD = (
    *("edges", "way", "tokens/s", f"{COUPLED} over it", "passes a token", "pass p50 / p95, ms"),
    "CPU, ms a token",
)


async def run(plan: Plan, out: Path | None) -> str:
    """Everything; returns the tables in Markdown."""
    sections = [
        "# Capacity of a cloud that writes by itself",
        f"{os.cpu_count()} cores ({platform.machine()}), target on {plan.threads} thread(s), the load on the "
        f"same machine; bundled pair, temperature 1, texts of {plan.tokens} tokens, {plan.slices} times "
        f"{plan.seconds:g} s a cell, the ways in turn. *Passes a token*: of each edge's text, shared ones "
        "too; *pass*: between two messages of a stream, or a round. Edges are on loopback, as recorded: "
        "there is no round trip, for which lock-step alone would wait.",
    ]
    for paced_ms in plan.paced_ms:
        with tempfile.TemporaryDirectory(prefix="thinwire-capacity-") as name:
            sections.append(await _measure(plan, Path(name), paced_ms, out))
    return "\n\n".join(sections)


async def _measure(plan: Plan, folder: Path, paced_ms: float, out: Path | None) -> str:
    """One pacing's table."""
    recorded = {}
    for scheme in (COUPLED, "k-sqs"):
        say(f"recording {plan.texts} texts of {plan.tokens} tokens, {scheme}, passes of {paced_ms:g} ms")
        recorded[scheme] = folder / f"{scheme}.jsonl"
        (within := folder / scheme).mkdir()
        await record(
            *(within, recorded[scheme]),
            count=plan.texts,
            tokens=plan.tokens,
            threads=plan.threads,
            scheme=scheme,
            paced_ms=paced_ms,
        )
    most = max(plan.edges)
    common = ("--threads", str(plan.threads), "--paced", f"{paced_ms:g},0")
    cloud = (CLOUD, *common, "--max-sessions", str(2 * most), "--max-batch-sequences", str(most))
    commands = {COUPLED: cloud, PLAIN: (*cloud, "--no-copied-hints"), RIVAL: (PEERS, *common)}
    free = partial(Job, texts=recorded[COUPLED])
    ways = {
        COUPLED: Way(COUPLED, lambda edges: partial(free, is_hinted=True)),
        ROUNDS: Way(COUPLED, lambda edges: partial(Job, texts=recorded["k-sqs"])),
        PLAIN: Way(PLAIN, lambda edges: partial(free, is_hinted=False)),
        RIVAL: Way(RIVAL, lambda edges: partial(free, rival=rival(plan, edges))),
    }
    rows, other = [], 0
    async with serving(folder, commands) as daemons:
        async for edges, lines in measure_ways(plan, daemons, ways, paced_ms, out):
            ours = lines[0]["tokens_per_s"]
            for line in lines:
                other += line.get("other_verdicts", 0)
                speed = line["tokens_per_s"]
                figures = [number(speed, 1), number(ours / speed if speed else None, 2)]
                passes = line["rounds"] / line["tokens"] if line["tokens"] else None
                times = f"{line['round_p50_ms']:.0f} / {line['round_p95_ms']:.0f}"
                figures += [number(passes, 2), times, number(line["cpu_ms_per_token"], 2)]
                rows.append([f"{edges}", line["way"], *figures])
    title = f"## Passes of at least {paced_ms:g} ms" if paced_ms else "## Unpaced"
    words = f"Messages that held another token than was recorded, or rounds decided otherwise: {other}."
    return "\n\n".join([title, table(HEAD, rows, left=2), words])
