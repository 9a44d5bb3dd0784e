"""
`python -m bench.grid`: the methods side by side on thin links.

    python -m bench.grid --smoke                     one cell, under a minute: does everything work?
    python -m bench.grid --short                     about ten minutes
    python -m bench.grid --hour --out results/hour   the whole grid with short texts, tuned by transfer
    python -m bench.grid --full --out results/full   hours, tuned in every cell
    python -m bench.grid --short --paced 120,2       as if a target pass took 120 ms and 2 ms a token
    python -m bench.grid --free --out results/free   a cloud that writes by itself, at three pass times

Prints an estimate first. The same command goes on where it ended. The results are in --out:
`python -m bench.grid.report DIR` draws the tables again, `python -m bench.grid.publish` puts them into docs.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bench import command
from bench.grid import figures, free_page, pass_times, report
from bench.grid.arithmetic import Costs, estimate
from bench.grid.cells import PLANS
from bench.grid.dataset_prompts import read_prompts
from bench.grid.methods import DEFAULT_METHODS, parse_method
from bench.grid.processes import RunSettings
from bench.grid.progress import RichProgress
from bench.grid.provenance import revision
from bench.grid.runner import Runner
from bench.grid.store import read_generations
from bench.peers.pacing import Pacing
from link.description import parse_rate_bps
from thinwire.common.daemon.options import add_options, from_arguments
from thinwire.common.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return command.run("bench.grid", lambda: _run(_parser().parse_args(argv)))


def _run(arguments: argparse.Namespace) -> int:
    rates_bps = [parse_rate_bps(rate) for rate in arguments.rates]
    rtts_s = [rtt_ms / 1000 for rtt_ms in arguments.rtts_ms]
    passes_s = [pass_ms / 1000 for pass_ms in arguments.passes_ms]
    plan = PLANS[arguments.plan].part(rates_bps, rtts_s, arguments.temperatures, passes_s)
    counts = {"prompts": arguments.prompts_count, "tokens": arguments.tokens_count}
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; expected at least 1.")
    plan = replace(plan, **{name: value for name, value in counts.items() if value is not None})
    names = list(arguments.methods or plan.methods or DEFAULT_METHODS)
    if len(set(names)) != len(names):
        raise ConfigError(f"methods are {names}; expected no name twice.")
    methods = [parse_method(name) for name in names]
    started = f"{datetime.now().astimezone():%Y-%m-%d-%H%M%S}"
    out = arguments.out or Path("bench/results") / f"{plan.name}-{started}"
    given = {"work": out / "daemons", "pair": arguments.pair.resolve(), "revision": revision()}
    settings = from_arguments(RunSettings, arguments, **given)
    read_prompts(settings.prompts, plan)
    for role in ("target", "draft"):
        if not (settings.pair / role / "config.json").is_file():
            raise ConfigError(
                f"there is no {role} model in {settings.pair}; expected a folder {role}/ there."
            )
    several = bool(plan.pacings)
    if several and settings.pacing != Pacing():
        raise ConfigError(
            f"--paced is {settings.pacing.as_argument()}; expected --passes-ms with --{plan.name}."
        )
    costs = Costs(pacing=settings.pacing)
    whole = pass_times.estimate(plan, methods) if several else estimate(plan, methods, costs)
    print(f"{plan.name}: {whole}", file=sys.stderr)
    paced = "; ".join(map(str, plan.pacings)) or settings.pacing
    print(f"{paced}; results in {out}", file=sys.stderr, flush=True)
    if arguments.estimate:
        return 0
    with RichProgress(whole.seconds) as progress:
        if several:
            folders = pass_times.run(plan, methods, settings, out, progress)
        else:
            Runner(plan, methods, settings, out, progress).run()
            folders = [out]
    shutil.rmtree(settings.work, ignore_errors=True)
    for folder in folders:
        (folder / "report.md").write_text(report.render(folder), encoding="utf-8")
        figures.write(folder)
    text = free_page.render(out) if several else (out / "report.md").read_text(encoding="utf-8")
    (out / "report.md").write_text(text, encoding="utf-8")
    print(text)
    failed = (record.failure for folder in folders for record in read_generations(folder))
    return command.FAILED if any(failed) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m bench.grid",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    for name in PLANS:
        which.add_argument(f"--{name}", dest="plan", action="store_const", const=name)
    add, part = parser.add_argument, "only these of the plan"
    some: dict[str, Any] = {"nargs": "+", "default": []}
    names = f"default of short and full: {' '.join(DEFAULT_METHODS)}"
    add("--out", type=Path, metavar="DIR", help="new, or of a run to go on with")
    add("--methods", nargs="+", metavar="NAME", help=names)
    add("--prompts-count", type=int, metavar="N", help="measured prompts (default: the plan's)")
    add("--tokens", dest="tokens_count", type=int, metavar="N", help="of each text (default: the plan's)")
    add("--rates", metavar="UP", help=f"{part}, such as 512k", **some)
    add("--rtts-ms", type=float, metavar="MS", help=part, **some)
    add("--temperatures", type=float, metavar="T", help=part, **some)
    add("--passes-ms", type=float, metavar="MS", help=f"{part} (0: as they are); of --free", **some)
    add("--estimate", action="store_true", help="print the estimate and end")
    add_options(parser, RunSettings, "the run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
