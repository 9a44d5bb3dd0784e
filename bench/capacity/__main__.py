"""
`python -m bench.capacity`: how many edges one cloud carries (`bench.capacity.edges`).

`--tenants` measures instead what one tenant notices of another's load (`bench.capacity.tenants`).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from bench import command
from bench.capacity import edges, tenants
from bench.capacity.load import DECODING
from bench.capacity.measure import Plan
from thinwire.edge.demo import target_threads

EDGES, TENANTS = Plan(slices=2, seconds=3.5), Plan(slices=6, seconds=5.0)
SMALL_EDGES = Plan(edges=(1, 4), paced_ms=(0.0,), texts=4, tokens=32, slices=1, seconds=3.0)
SMALL_TENANTS = Plan(texts=4, tokens=32, slices=1, seconds=2.0, settle_s=1.0)


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

    run, full, small = (
        (tenants.run, TENANTS, SMALL_TENANTS) if arguments.tenants else (edges.run, EDGES, SMALL_EDGES)
    )
    given = {name: getattr(arguments, name) for name in ("edges", "seconds", "slices", "threads")}
    if arguments.decoding:
        given["offers"] = DECODING
    plan = replace(
        small if arguments.smoke else full, **{name: value for name, value in given.items() if value}
    )

    def work() -> int:
        print(asyncio.run(run(plan, arguments.out)))
        return 0

    return command.run("bench.capacity", work, interrupted="interrupted.")


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


if __name__ == "__main__":
    sys.exit(main())
