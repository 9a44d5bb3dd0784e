"""
`python -m bench.simulation DIR`: fit the model to one link of a benchmark run, check it on the others, and go
on to large models and a thousand edges.

    python -m bench.simulation bench/results/full                       fit to 512 kbit/s, RTT 40 ms
    python -m bench.simulation DIR --fit 128k,40 --fit 2M,40            to two links
    python -m bench.simulation DIR --check                              no extrapolation
    python -m bench.simulation DIR --target-ms 50 --edge-device phone
    python -m bench.simulation DIR --free DIR            and a cloud that writes by itself, of another run

Writes simulation.md, simulation.jsonl and the figures into --out (default: DIR/simulation).
Exit code 1 when a cell is off by more than --limit.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bench import command
from bench.simulation import free_crowd, free_report, report
from bench.simulation.check import HEADLINE, check, worst
from bench.simulation.citations import DRAFTS
from bench.simulation.extrapolate import BATCHINGS, LargeModels
from bench.simulation.fit import LinkKey, fit, read_rounds, read_texts
from bench.simulation.free_fit import check as check_free
from bench.simulation.free_fit import fit as fit_free
from bench.simulation.free_fit import passes_of
from bench.simulation.matches import MATCHES
from link.description import parse_rate_bps
from link.errors import LinkDescriptionError

DEFAULT_LINK: LinkKey = (512_000, 0.04)


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate; returns the exit code."""
    arguments = _parser().parse_args(argv)
    return command.run("bench.simulation", lambda: _run(arguments), interrupted="interrupted.")


def _run(arguments: argparse.Namespace) -> int:
    texts = read_texts(arguments.folder)
    fitted = fit(texts, read_rounds(arguments.folder), arguments.fit or [DEFAULT_LINK])
    predictions, left_out = check(fitted, texts)
    # Without the rounds: they are the benchmark's own lines.
    times = {name: asdict(one) for name, one in fitted.times.items()}
    shared = {name: getattr(fitted, name) for name in ("links", "per_row_s", "transport_s")}
    lines = [("fit", {**shared, "times": times}), *(("prediction", one) for one in predictions)]
    sections = [
        "# Simulation",
        report.fit_section(fitted),
        report.check_section(predictions, left_out, arguments.limit),
    ]
    runs = {passes_of(folder): folder for folder in arguments.free}
    free = {words: fit_free(folder, DEFAULT_LINK, MATCHES) for words, folder in runs.items()}
    checked = {words: check_free(free[words], folder) for words, folder in runs.items()}
    lines += [("prediction", {"passes": words, **one}) for words, some in checked.items() for one in some]
    out = arguments.out or arguments.folder / "simulation"
    out.mkdir(parents=True, exist_ok=True)
    if not arguments.check:
        models = LargeModels(fitted, arguments.temperature, DRAFTS[arguments.edge_device])
        names, target_s = models.methods(), arguments.target_ms / 1000
        points, capacities = list(models.points(names)), list(models.capacities(names, target_s))
        lines += [("extrapolation", one) for one in points] + [("capacity", one) for one in capacities]
        drawn = []
        for batching in BATCHINGS:
            chosen = [point for point in points if point["batching"] == batching]
            drawn.append(f"{batching.replace(',', '').replace(' ', '-')}.svg")
            (out / drawn[-1]).write_text(report.draw(chosen, models, target_s), encoding="utf-8")
        sections.append(report.extrapolation_section(models, points, capacities, drawn))
    if free:
        sections.append(free_report.fit_section(free, checked, arguments.limit))
    if free and not arguments.check:
        crowds = list(free_crowd.crowds(next(iter(free.values())), MATCHES, models.draft.step_ms[1] / 1000))
        lines += [("extrapolation", one) for one in crowds]
        (out / free_report.FIGURE).write_text(free_report.draw(crowds, points), encoding="utf-8")
        sections.append(free_report.crowd_section(crowds))
    page = "\n\n".join(sections)
    with (out / "simulation.jsonl").open("w", encoding="utf-8") as file:
        for kind, values in lines:
            file.write(json.dumps({"schema": 1, "kind": kind, **values}, allow_nan=False) + "\n")
    (out / "simulation.md").write_text(f"{page}\n", encoding="utf-8")
    print(page)
    off = max(abs(worst(one, HEADLINE)["error"][HEADLINE]) for one in (predictions, *checked.values()))
    return command.FAILED if off > arguments.limit else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m bench.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="of a benchmark run")
    link = "a link to fit to; may be given again (default: 512k,40)"
    add("--fit", type=_link, action="append", metavar="RATE_UP,RTT_MS", help=link)
    free = "of a run with scheme coupled, all at one pacing; may be given again"
    add("--free", type=Path, action="append", default=[], metavar="DIR", help=free)
    add("--check", action="store_true", help="no extrapolation")
    add("--out", type=Path, metavar="DIR")
    share = partial(_number, name="share", expected="a number in (0, 1]", most=1.0)
    add("--limit", type=share, default=0.15, help="of a cell's error in tokens/s (default: %(default)s)")
    add("--temperature", type=float, default=1.0, help="of the extrapolation (default: %(default)s)")
    target = "milliseconds a token may take (default: %(default)s)"
    add("--target-ms", type=_number, default=100.0, help=target)
    add("--edge-device", choices=sorted(DRAFTS), default="jetson")
    return parser


def _link(text: str) -> LinkKey:
    try:
        rate, rtt_ms = text.split(",")
        return parse_rate_bps(rate), float(rtt_ms) / 1000
    except (ValueError, LinkDescriptionError):
        raise argparse.ArgumentTypeError(
            f"link is {text!r}; expected RATE_UP,RTT_MS such as 512k,40."
        ) from None


def _number(text: str, name: str = "value", expected: str = "a number above 0", most: float = 1e6) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(f"{name} is {text!r}; expected {expected}.")
    return value


if __name__ == "__main__":
    sys.exit(main())
