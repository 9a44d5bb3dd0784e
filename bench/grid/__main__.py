"""
`python -m bench.grid`: the methods side by side on thin links.

    python -m bench.grid --smoke                     one cell, under a minute: does everything work?
    python -m bench.grid --short                     about ten minutes
    python -m bench.grid --full --out results/full   hours; run it again to go on where it ended
    python -m bench.grid --short --paced 120,2       as if a target pass took 120 ms and 2 ms a token

Prints an estimate first. The results are in --out: `python -m bench.grid.report DIR` draws the tables again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from importlib.metadata import version as installed
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from bench.grid import figures, report
from bench.grid.arithmetic import Costs, estimate
from bench.grid.cells import PLANS, Plan
from bench.grid.methods import DEFAULT_METHODS, Method, parse_method
from bench.grid.processes import DaemonError, StageSettings
from bench.grid.runner import Runner
from bench.grid.stages import RunSettings
from bench.grid.store import Store, StoreError, read_generations
from bench.grid.texts import read_prompts
from bench.link.errors import LinkError, LinkRefusedError, LinkUnavailableError
from bench.peers.pacing import Pacing
from common import bundled
from common.checksum import crc32c
from common.errors import ConfigError

PROMPTS = Path(__file__).resolve().parents[1] / "prompts.jsonl"
FAILED, USAGE, REFUSED, UNAVAILABLE, INTERRUPTED = 1, 2, 3, 4, 130
VOLATILE = ("started_at", "command", "revision")
"""Settings that may differ between a run and its resumption."""


class RichProgress:
    """
    A bar on standard error; plain lines where that is no terminal.

    Args:
        total_s: seconds of the estimate.
    """

    def __init__(self, total_s: float) -> None:
        self._console = Console(stderr=True, highlight=False)
        columns = (
            BarColumn(30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=self._console, auto_refresh=False)
        self._task: TaskID = self._bar.add_task("", total=total_s)
        self._line = ""
        self._live = Live(self, console=self._console, refresh_per_second=4)

    def __enter__(self) -> RichProgress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __rich__(self) -> Group:
        """The bar under what runs now, one line each on a terminal of any width."""
        return Group(Text(self._line, no_wrap=True, overflow="ellipsis"), self._bar.get_renderable())

    def advance(self, seconds: float) -> None:
        """So many seconds of the estimate are done."""
        self._bar.advance(self._task, seconds)

    def say(self, line: str) -> None:
        """What runs now."""
        if not self._console.is_terminal or "FAILED" in line:
            self._console.print(line, markup=False, soft_wrap=True)
        else:
            self._line = line


def make_plan(arguments: argparse.Namespace) -> Plan:
    """The plan the options ask for."""
    plan = PLANS[arguments.plan]
    given = {
        name: value
        for name in ("prompts", "tokens")
        if (value := getattr(arguments, f"{name}_count")) is not None
    }
    plan = replace(plan, **given)
    for name in ("prompts", "tokens"):
        if getattr(plan, name) < 1:
            raise ConfigError(f"{name} is {getattr(plan, name)}; expected at least 1.")
    return plan


def make_methods(plan: Plan, names: Sequence[str] | None) -> list[Method]:
    """The methods of a plan, or those named."""
    chosen = list(names or plan.methods or DEFAULT_METHODS)
    if len(set(chosen)) != len(chosen):
        raise ConfigError(f"methods are {chosen}; expected no name twice.")
    return [parse_method(name) for name in chosen]


def describe_run(plan: Plan, methods: Sequence[Method], settings: RunSettings) -> dict[str, Any]:
    """Everything that defines a run, as JSON; a resumed run must have the same."""
    stage = settings.stage
    return {
        "plan": json.loads(json.dumps(asdict(replace(plan, cells=(), methods=())))),
        "cells": [str(cell) for cell in plan.cells],
        "methods": [method.name for method in methods],
        "prompts": str(settings.prompts),
        "prompts_crc32c": f"{crc32c(settings.prompts.read_bytes()):08x}",
        "seed": settings.seed,
        "pair": {role: _fingerprint(stage.pair / role) for role in ("target", "draft")},
        "target_threads": stage.target_threads,
        "draft_threads": stage.draft_threads,
        "pinning": "none",
        "pacing": str(stage.pacing),
        "link_kind": settings.link_kind,
        "congestion_control": settings.congestion_control,
        "versions": {name: installed(name) for name in ("torch", "transformers", "grpcio", "numpy")},
        "revision": settings.revision,
        "machine": f"{os.cpu_count()} cores, {_processor()}, Linux {platform.release()}, "
        f"Python {platform.python_version()}",
        "started_at": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": " ".join(sys.orig_argv[1:]),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(arguments)
    except ConfigError as error:
        code, words = USAGE, error.message
    except StoreError as error:
        code, words = USAGE, str(error)
    except LinkUnavailableError as error:
        code, words = UNAVAILABLE, str(error)
    except LinkRefusedError as error:
        code, words = REFUSED, str(error)
    except (LinkError, DaemonError) as error:
        code, words = FAILED, str(error)
    except KeyboardInterrupt:
        code, words = INTERRUPTED, "interrupted; the same command goes on from here."
    print(f"bench.grid: {words}", file=sys.stderr)
    return code


def _run(arguments: argparse.Namespace) -> int:
    plan = make_plan(arguments)
    methods = make_methods(plan, arguments.methods)
    read_prompts(arguments.prompts, plan)
    for role in ("target", "draft"):
        if not (arguments.pair / role / "config.json").is_file():
            raise ConfigError(
                f"there is no {role} model in {arguments.pair}; expected a folder {role}/ there."
            )
    stage = StageSettings(
        arguments.pair.resolve(), arguments.threads, arguments.draft_threads, arguments.paced
    )
    whole = estimate(plan, methods, Costs(pacing=arguments.paced))
    stamp = datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S")
    out = arguments.out or Path("bench/results") / f"{plan.name}-{stamp}"
    settings = RunSettings(
        stage, arguments.prompts, out / "daemons", seed=arguments.seed, revision=_revision()
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
    failures = [record for record in read_generations(out) if record.failure]
    return FAILED if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.grid", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    for name in PLANS:
        which.add_argument(f"--{name}", dest="plan", action="store_const", const=name)
    parser.add_argument("--out", type=Path, metavar="DIR", help="new, or of a run to go on with")
    parser.add_argument(
        "--methods", nargs="+", metavar="NAME", help=f"default of short and full: {' '.join(DEFAULT_METHODS)}"
    )
    parser.add_argument(
        "--paced", type=_pacing, default=Pacing(), metavar="A_MS,B_MS", help="of target passes"
    )
    parser.add_argument(
        "--prompts", type=Path, default=PROMPTS, metavar="FILE", help="lines of id and prompt"
    )
    parser.add_argument(
        "--prompts-count", type=int, metavar="N", help="measured prompts (default: the plan's)"
    )
    parser.add_argument("--tokens", dest="tokens_count", type=int, metavar="N", help="of each text")
    parser.add_argument("--seed", type=int, default=1, help="of the first prompt (default: %(default)s)")
    parser.add_argument(
        "--pair", type=Path, default=bundled.target_path().parent, help="folder with target/ and draft/"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=os.cpu_count() or 1,
        help="of the target, in either daemon (%(default)s)",
    )
    parser.add_argument("--draft-threads", type=int, default=1, help="of the draft model (%(default)s)")
    parser.add_argument("--estimate", action="store_true", help="print the estimate and end")
    return parser


def _pacing(text: str) -> Pacing:
    try:
        return Pacing.parse(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(error.message) from error


def _fingerprint(folder: Path) -> str:
    """CRC-32C of a model's weights; a hub id or a sharded model is named by its path alone."""
    weights = folder / "model.safetensors"
    return f"{folder.name} {crc32c(weights.read_bytes()):08x}" if weights.is_file() else str(folder)


def _revision() -> str:
    """Of the source, with a + if it has changes."""
    root = Path(__file__).resolve().parents[2]
    try:
        git = ["git", "-C", str(root)]
        head = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
        )
        state = subprocess.run([*git, "status", "--porcelain"], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if state.stdout.strip() else "")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
