"""
`python -m bench.paper`: the figures of arXiv 2510.09942 with the bundled pair, measured.

    python -m bench.paper                        about 15 minutes; run it again to go on where it ended
    python -m bench.paper --seeds 10 --tokens 128 --out bench/results/paper-long
    python -m bench.paper --parts steps          only what needs no link and takes no time: no root needed
    python -m bench.paper --redraw               figures and page again, from the lines alone
    python -m bench.paper --smoke                a handful of points, under a minute

Prints an estimate first. Lines go to --out and, packed, to DOCS/results/lines/paper, figures to
DOCS/figures/, the page to DOCS/paper-figures.md; `--redraw --out docs/results/lines/paper` draws them again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from bench import command
from bench.grid import publish
from bench.grid.arithmetic import Costs, estimate
from bench.grid.processes import RunSettings
from bench.grid.progress import RichProgress
from bench.grid.provenance import describe_run, revision
from bench.grid.runner import Runner
from bench.grid.store import open_folder
from bench.paper import steps
from bench.paper.data import LATENCY, STEPS, read_data
from bench.paper.figures import figures
from bench.paper.page import render
from bench.paper.plan import PAPER, SMOKE, PaperPlan
from thinwire.common.errors import ConfigError

OPTIONS = {
    "seeds": (3, "a point over the link"),
    "step_seeds": (3, "of texts in process"),
    "tokens": (2, "of each text"),
}
"""Fields of the plan: the least that may be given, and of what it is the number."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    return command.run("bench.paper", lambda: _run(arguments))


def draw(out: Path, docs: Path) -> list[Path]:
    """Write figures and page from the lines alone; returns the files. StoreError: no lines there."""
    data = read_data(out)
    folder = docs / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    texts = {folder / name: text for name, text in figures(data).items()}
    texts[docs / "paper-figures.md"] = render(data, out)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


def keep_lines(out: Path, docs: Path) -> None:
    """The lines packed into DOCS/results/lines/paper, so that all of it can be drawn again from a clone."""
    for part, names in ((".", ()), (LATENCY, publish.LINES), (STEPS, ("steps",))):
        if (out / part).exists():
            publish.keep_lines(out / part, docs / "results" / "lines" / "paper" / part, names)


def _run(arguments: argparse.Namespace) -> int:
    given = {name: value for name in OPTIONS if (value := getattr(arguments, name)) is not None}
    for name, value in given.items():
        if value < OPTIONS[name][0]:
            raise ConfigError(f"{name} is {value}; expected at least {OPTIONS[name][0]}.")
    plan = replace(SMOKE if arguments.smoke else PAPER, **given)
    out = arguments.out or Path("bench/results") / ("paper-smoke" if arguments.smoke else "paper")
    docs = arguments.docs or (out if arguments.smoke else Path("docs"))
    if not arguments.redraw:
        _measure(arguments, plan, out)
        if arguments.estimate:
            return 0
    print("\n".join(map(str, draw(out, docs))))
    if not arguments.redraw:
        keep_lines(out, docs)
    return command.FAILED if read_data(out).failed else 0


def _measure(arguments: argparse.Namespace, plan: PaperPlan, out: Path) -> None:
    with_link, in_process = (part in arguments.parts for part in (LATENCY, STEPS))
    cores = os.cpu_count() or 1
    grid_plan, methods = plan.grid_plan(), plan.methods()
    tasks = steps.make_tasks(plan, steps.read_steps(out / STEPS)) if in_process else []
    steps_s = sum(task.seconds for task in tasks) / min(cores, max(1, len(tasks)))
    on_link = estimate(grid_plan, methods, Costs())
    print(f"paper, {plan.name}: over the link {on_link if with_link else 'nothing'}", file=sys.stderr)
    print(f"in process: about {steps_s:.0f} s, {len(tasks)} texts; results in {out}", file=sys.stderr)
    if arguments.estimate:
        return
    open_folder(out, {"plan": plan.name, **{name: getattr(plan, name) for name in OPTIONS}})
    settings = RunSettings(out / "daemons", revision=revision())
    described = describe_run(grid_plan, methods, settings)
    with RichProgress(steps_s + (on_link.seconds if with_link else 0.0)) as progress:
        if with_link:
            Runner(grid_plan, methods, settings, out / LATENCY, progress).run()
            shutil.rmtree(settings.work, ignore_errors=True)
        if in_process:
            values = json.loads(json.dumps(asdict(plan)))
            own = {name: values[name] for name in ("step_temperatures", "step_seeds", "texts_each", "sweeps")}
            shared = ("pair", "versions", "revision", "machine", "started_at", "command")
            open_folder(out / STEPS, {**own, **{name: described[name] for name in shared}})
            try:
                steps.measure(tasks, out / STEPS, progress, workers=cores)
            except multiprocessing.TimeoutError:
                words = f"no text in process was done within {steps.TASK_TIMEOUT_S:g} s."
                raise command.CommandError(words) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m bench.paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, parts = parser.add_argument, (LATENCY, STEPS)
    add("--smoke", action="store_true", help="a handful of points")
    add("--out", type=Path, metavar="DIR", help="lines; new, or of a run to go on with")
    add("--docs", type=Path, metavar="DIR", help="figures and page (default: docs; smoke: --out)")
    add("--parts", nargs="+", choices=parts, default=list(parts), help="what is measured")
    for name, (_, words) in OPTIONS.items():
        option = f"--{name.replace('_', '-')}"
        add(option, type=int, metavar="N", help=f"{words} ({getattr(PAPER, name)})")
    add("--redraw", action="store_true", help="measure nothing")
    add("--estimate", action="store_true", help="print the estimate and end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
