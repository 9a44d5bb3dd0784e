"""
`python -m bench.simulation DIR`: fit the model to one link of a benchmark run, check it on the others, and go
on to large models and a thousand edges.

    python -m bench.simulation bench/results/full                       fit to 512 kbit/s, RTT 40 ms
    python -m bench.simulation DIR --fit 128k,40 --fit 2M,40            to two links
    python -m bench.simulation DIR --check                              no extrapolation
    python -m bench.simulation DIR --target-ms 50 --edge-device phone

Writes simulation.md, simulation.jsonl and the figures into --out (default: DIR/simulation).
Exit code 1 when a cell is off by more than --limit.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import command
from bench.simulation import report
from bench.simulation.check import FIGURES, HEADLINE, check, worst
from bench.simulation.citations import DRAFTS, TARGET
from bench.simulation.extrapolate import BATCHINGS, Setting, capacities, main_methods, points
from bench.simulation.fit import LinkKey, fit, read_texts
from link.description import parse_rate_bps
from link.errors import LinkDescriptionError

DEFAULT_LINK: LinkKey = (512_000, 0.04)


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate; returns the exit code."""
    arguments = _parser().parse_args(argv)
    return command.run("bench.simulation", lambda: _run(arguments), interrupted="interrupted.")


def _run(arguments: argparse.Namespace) -> int:
    texts = read_texts(arguments.folder)
    fitted = fit(texts, arguments.fit or [DEFAULT_LINK])
    predictions, left_out = check(fitted, texts)
    flat = ((name, asdict(values)) for name, values in fitted.times.items())
    times = {name: {**values.pop("ends"), **values} for name, values in flat}
    # Without the rounds: they are the benchmark's own lines.
    values = {"links": fitted.links, "per_row_s": fitted.per_row_s, "transport_s": fitted.transport_s}
    lines = [_line("fit", values, times=times)]
    for one in predictions:
        lines.append(
            _line("prediction", asdict(one), error={figure: one.error(figure) for figure in FIGURES})
        )
    sections = [
        "# Simulation",
        report.fit_section(fitted),
        report.check_section(predictions, left_out, arguments.limit),
    ]
    out = arguments.out or arguments.folder / "simulation"
    out.mkdir(parents=True, exist_ok=True)
    if not arguments.check:
        setting = Setting(arguments.temperature, TARGET, DRAFTS[arguments.edge_device])
        names = main_methods(fitted, arguments.temperature)
        found = list(points(fitted, setting, names))
        carried = list(capacities(fitted, setting, names, arguments.target_ms / 1000))
        lines += [_line("extrapolation", asdict(one)) for one in found]
        lines += [_line("capacity", asdict(one)) for one in carried]
        drawn = {batching: f"{batching.replace(',', '').replace(' ', '-')}.svg" for batching in BATCHINGS}
        for batching, name in drawn.items():
            chosen = [point for point in found if point.batching == batching and point.headers]
            text = report.draw(chosen, setting, arguments.target_ms / 1000)
            (out / name).write_text(text, encoding="utf-8")
        sections.append(report.extrapolation_section(setting, found, carried, list(drawn.values())))
    page = "\n\n".join(sections)
    (out / "simulation.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (out / "simulation.md").write_text(f"{page}\n", encoding="utf-8")
    print(page)
    furthest = worst(predictions, HEADLINE)
    return command.FAILED if abs(furthest.error(HEADLINE)) > arguments.limit else 0


def _line(kind: str, values: dict[str, Any], **more: Any) -> str:
    return json.dumps({"schema": 1, "kind": kind, **values, **more}, allow_nan=False)


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
    add("--check", action="store_true", help="no extrapolation")
    add("--out", type=Path, metavar="DIR")
    add("--limit", type=_share, default=0.15, help="of a cell's error in tokens/s (default: %(default)s)")
    add("--temperature", type=float, default=1.0, help="of the extrapolation (default: %(default)s)")
    target = "milliseconds a token may take (default: %(default)s)"
    add("--target-ms", type=_positive, default=100.0, help=target)
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


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"value is {text!r}; expected a number above 0.")
    return value


def _share(text: str) -> float:
    value = _positive(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"share is {text!r}; expected a number in (0, 1].")
    return value


if __name__ == "__main__":
    sys.exit(main())
