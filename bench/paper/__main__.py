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
from typing import Any

from bench import command
from bench.grid import publish
from bench.grid.arithmetic import Costs, estimate
from bench.grid.processes import RunSettings
from bench.grid.progress import RichProgress
from bench.grid.provenance import fingerprint, machine, now, revision, versions
from bench.grid.runner import Runner
from bench.grid.store import open_folder
from bench.paper import steps
from bench.paper.data import LATENCY, STEPS, read_data
from bench.paper.document import render
from bench.paper.figures import figures
from bench.paper.plan import PAPER, SMOKE, PaperPlan
from thinwire.common.errors import ConfigError

RESULTS = Path("bench/results")
LEAST = {"seeds": 3, "step_seeds": 3, "tokens": 2}
"""Of what the options set."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    return command.run("bench.paper", lambda: _run(arguments))


def draw(out: Path, docs: Path) -> list[Path]:
    """
    Figures and page from the lines alone.

    Returns:
        the files.

    Raises:
        StoreError: no lines there.
    """
    data = read_data(out)
    folder = docs / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    texts = {folder / name: text for name, text in figures(data).items()}
    texts[docs / "paper-figures.md"] = render(data, out, figures_at=folder.name)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


def keep_lines(out: Path, docs: Path) -> None:
    """The lines packed into DOCS/results/lines/paper, so that all of it can be drawn again from a clone."""
    kept = docs / "results" / "lines" / "paper"
    publish.keep_lines(out, kept, ())
    for part, names in ((LATENCY, publish.LINES), (STEPS, ("steps",))):
        if (out / part).exists():
            publish.keep_lines(out / part, kept / part, names)


def _run(arguments: argparse.Namespace) -> int:
    plan = SMOKE if arguments.smoke else PAPER
    given = {name: getattr(arguments, name) for name in LEAST if getattr(arguments, name) is not None}
    for name, value in given.items():
        if value < LEAST[name]:
            raise ConfigError(f"{name} is {value}; expected at least {LEAST[name]}.")
    plan = replace(plan, **given)
    out = arguments.out or RESULTS / ("paper" if plan.name == PAPER.name else f"paper-{plan.name}")
    docs = arguments.docs or (Path("docs") if plan.name == PAPER.name else out)
    if not arguments.redraw:
        _measure(arguments, plan, out)
        if arguments.estimate:
            return 0
    print("\n".join(map(str, draw(out, docs))))
    if not arguments.redraw:
        keep_lines(out, docs)
    return command.FAILED if read_data(out).failed else 0


def _measure(arguments: argparse.Namespace, plan: PaperPlan, out: Path) -> None:
    parts: list[str] = arguments.parts
    cores = os.cpu_count() or 1
    grid_plan, methods = plan.grid_plan(), plan.methods()
    known = {record.key for record in steps.read_steps(out / STEPS)}
    tasks = steps.make_tasks(plan, known) if STEPS in parts else []
    steps_s = steps.estimate_s(tasks, cores)
    on_link = estimate(grid_plan, methods, Costs())
    print(f"paper, {plan.name}: over the link {on_link if LATENCY in parts else 'nothing'}", file=sys.stderr)
    print(f"in process: about {steps_s:.0f} s, {len(tasks)} texts; results in {out}", file=sys.stderr)
    if arguments.estimate:
        return
    open_folder(out, {"plan": plan.name, **{name: getattr(plan, name) for name in LEAST}})
    settings = RunSettings(out / "daemons", revision=revision())
    with RichProgress(steps_s + (on_link.seconds if LATENCY in parts else 0.0)) as progress:
        if LATENCY in parts:
            Runner(grid_plan, methods, settings, out / LATENCY, progress).run()
            shutil.rmtree(settings.work, ignore_errors=True)
        if STEPS in parts:
            steps_store = steps.StepsStore(out / STEPS, _describe_steps(plan, settings))
            try:
                steps.measure(plan, steps_store, progress, workers=cores)
            except multiprocessing.TimeoutError:
                raise command.CommandError(
                    f"no text in process was done within {steps.TASK_TIMEOUT_S:g} s."
                ) from None


def _describe_steps(plan: PaperPlan, settings: RunSettings) -> dict[str, Any]:
    """Everything that defines the runs in process, as JSON."""
    values = json.loads(json.dumps(asdict(plan)))
    return {
        **{name: values[name] for name in ("step_temperatures", "step_seeds", "texts_each", "sweeps")},
        "pair": {role: fingerprint(settings.pair / role) for role in ("target", "draft")},
        "versions": versions("torch", "transformers", "numpy"),
        "revision": settings.revision,
        "machine": machine(),
        "started_at": now(),
        "command": " ".join(sys.orig_argv[1:]),
    }


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
    add("--seeds", type=int, metavar="N", help=f"a point over the link ({PAPER.seeds})")
    add("--step-seeds", type=int, metavar="N", help=f"of texts in process ({PAPER.step_seeds})")
    add("--tokens", type=int, metavar="N", help=f"of each text ({PAPER.tokens})")
    add("--redraw", action="store_true", help="measure nothing")
    add("--estimate", action="store_true", help="print the estimate and end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
