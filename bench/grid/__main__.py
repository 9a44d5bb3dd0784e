"""
`python -m bench.grid`: the methods side by side on thin links.

    python -m bench.grid --smoke                     one cell, under a minute: does everything work?
    python -m bench.grid --short                     about ten minutes
    python -m bench.grid --hour --out results/hour   the whole grid with short texts, tuned by transfer
    python -m bench.grid --full --out results/full   hours, tuned in every cell
    python -m bench.grid --short --paced 120,2       as if a target pass took 120 ms and 2 ms a token

Prints an estimate first. The same command goes on where it ended. The results are in --out:
`python -m bench.grid.report DIR` draws the tables again, `python -m bench.grid.publish` puts them into docs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from bench import command
from bench.grid import figures, report
from bench.grid.arithmetic import Costs, estimate
from bench.grid.cells import PLANS, Plan
from bench.grid.methods import DEFAULT_METHODS, Method, parse_method
from bench.grid.processes import StageSettings
from bench.grid.progress import RichProgress
from bench.grid.provenance import VOLATILE, describe_run, revision
from bench.grid.runner import Runner
from bench.grid.stages import RunSettings
from bench.grid.store import Store, read_generations
from bench.grid.texts import read_prompts
from bench.peers.pacing import Pacing
from link.description import parse_rate_bps
from link.errors import LinkDescriptionError
from thinwire.common import demo_pair
from thinwire.common.errors import ConfigError

T = TypeVar("T")
PROMPTS = Path(__file__).resolve().parents[1] / "prompts.jsonl"


def make_plan(arguments: argparse.Namespace) -> Plan:
    """The plan the options ask for."""
    rtts_s = [rtt_ms / 1000 for rtt_ms in arguments.rtts_ms]
    plan = PLANS[arguments.plan].part(arguments.rates, rtts_s, arguments.temperatures)
    for name in ("prompts", "tokens"):
        value = getattr(arguments, f"{name}_count")
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; expected at least 1.")
    return replace(
        plan,
        prompts=arguments.prompts_count or plan.prompts,
        tokens=arguments.tokens_count or plan.tokens,
    )


def make_methods(plan: Plan, names: Sequence[str] | None) -> list[Method]:
    """The methods of a plan, or those named."""
    chosen = list(names or plan.methods or DEFAULT_METHODS)
    if len(set(chosen)) != len(chosen):
        raise ConfigError(f"methods are {chosen}; expected no name twice.")
    return [parse_method(name) for name in chosen]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    return command.run("bench.grid", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    plan = make_plan(arguments)
    methods = make_methods(plan, arguments.methods)
    read_prompts(arguments.prompts, plan)
    for role in ("target", "draft"):
        if not (arguments.pair / role / "config.json").is_file():
            raise ConfigError(
                f"there is no {role} model in {arguments.pair}; expected a folder {role}/ there."
            )
    threads = arguments.threads, arguments.draft_threads
    stage = StageSettings(arguments.pair.resolve(), *threads, arguments.paced, tls=arguments.tls)
    whole = estimate(plan, methods, Costs(pacing=arguments.paced))
    out = (
        arguments.out or Path("bench/results") / f"{plan.name}-{datetime.now().astimezone():%Y-%m-%d-%H%M%S}"
    )
    settings = RunSettings(
        stage, arguments.prompts, out / "daemons", seed=arguments.seed, revision=revision()
    )
    print(f"{plan.name}: {whole}", file=sys.stderr)
    print(f"{stage.pacing}; results in {out}", file=sys.stderr, flush=True)
    if arguments.estimate:
        return 0
    store = Store(out, describe_run(plan, methods, settings), volatile=VOLATILE)
    with RichProgress(whole.seconds) as progress:
        Runner(plan, methods, settings, store, progress).run()
    shutil.rmtree(settings.work, ignore_errors=True)
    text = report.render(out)
    (out / "report.md").write_text(text, encoding="utf-8")
    figures.write(out)
    print(text)
    return command.FAILED if any(record.failure for record in read_generations(out)) else 0


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
    add = parser.add_argument
    some: dict[str, Any] = {"nargs": "+", "default": []}
    add("--out", type=Path, metavar="DIR", help="new, or of a run to go on with")
    names = f"default of short and full: {' '.join(DEFAULT_METHODS)}"
    add("--methods", nargs="+", metavar="NAME", help=names)
    add("--paced", type=_typed(Pacing.parse), default=Pacing(), metavar="A_MS,B_MS", help="of target passes")
    add("--prompts", type=Path, default=PROMPTS, metavar="FILE", help="lines of id and prompt")
    add("--prompts-count", type=int, metavar="N", help="measured prompts (default: the plan's)")
    add("--tokens", dest="tokens_count", type=int, metavar="N", help="of each text")
    rates = "only these of the plan, such as 512k"
    add("--rates", type=_typed(parse_rate_bps), metavar="UP", help=rates, **some)
    add("--rtts-ms", type=float, metavar="MS", help="only these of the plan", **some)
    add("--temperatures", type=float, metavar="T", help="only these of the plan", **some)
    add("--seed", type=int, default=1, help="of the first prompt (default: %(default)s)")
    pair = demo_pair.target_path().parent
    add("--pair", type=Path, default=pair, help="folder with target/ and draft/")
    cores = os.cpu_count() or 1
    add("--threads", type=int, default=cores, help="of the target, in either daemon (%(default)s)")
    add("--draft-threads", type=int, default=1, help="of the draft model (%(default)s)")
    add("--tls", action="store_true", help="between edge and cloud (default: plaintext)")
    add("--estimate", action="store_true", help="print the estimate and end")
    return parser


def _typed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """For argparse: an error is a sentence about the option."""

    def typed(text: str) -> T:
        try:
            return parse(text)
        except (ConfigError, LinkDescriptionError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return typed


if __name__ == "__main__":
    sys.exit(main())
