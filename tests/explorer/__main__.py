"""`python -m tests.explorer`: explore many schedules; exits with 1 at the first ones that went wrong."""

from __future__ import annotations

import argparse
import sys
import time

from tests.explorer.explore import explore


def main() -> int:
    """Explore; print what went wrong, and how much was seen."""
    parser = argparse.ArgumentParser(prog="python -m tests.explorer", allow_abbrev=False)
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule; the others follow")
    parser.add_argument("--free", action="store_true", help="texts that the cloud writes by itself")
    arguments = parser.parse_args()
    begun_s, texts, reconnects, hinted, wrong = time.monotonic(), 0, 0, 0, 0
    for seed in range(arguments.seed, arguments.seed + arguments.schedules):
        report = explore(seed, runs_free=arguments.free)
        texts += report.texts
        reconnects += report.reconnects
        hinted += report.hinted
        if report.complaints:
            wrong += 1
            print(f"schedule {seed}:", *report.complaints[:5], sep="\n  ")
            if wrong == 10:
                break
    print(
        f"{texts} texts, {reconnects} reconnects, {hinted} tokens hinted, {wrong} schedules wrong, "
        f"{time.monotonic() - begun_s:.1f} s"
    )
    return 1 if wrong else 0


sys.exit(main())
