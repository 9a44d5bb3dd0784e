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
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from bench import command
from bench.simulation import figures, report
from bench.simulation.check import HEADLINE, check, worst
from bench.simulation.citations import DRAFTS, TARGET
from bench.simulation.extrapolate import Setting, capacities, main_methods, points
from bench.simulation.fit import Fit, LinkKey, fit, read_texts
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
    lines = [_fit_line(fitted), *(one.to_json() for one in predictions)]
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
        lines += [one.to_json() for one in found] + [one.to_json() for one in carried]
        drawn = []
        for batching in dict.fromkeys(point.batching for point in found):
            drawn.append(f"{batching.replace(',', '').replace(' ', '-')}.svg")
            title = f"Time a token over the edges on one cloud, {batching} (simulated)"
            chosen = [point for point in found if point.batching == batching and point.headers]
            text = figures.draw(chosen, title, arguments.target_ms / 1000, report.assumed(setting))
            (out / drawn[-1]).write_text(text, encoding="utf-8")
        sections.append(report.extrapolation_section(setting, found, carried, drawn))
    _write(out / "simulation.jsonl", lines)
    _write(out / "simulation.md", ["\n\n".join(sections)])
    print("\n\n".join(sections))
    furthest = worst(predictions, HEADLINE)
    return command.FAILED if abs(furthest.error(HEADLINE)) > arguments.limit else 0


def _fit_line(fitted: Fit) -> str:
    """What was fitted, without the rounds: they are the benchmark's own lines."""
    times = {name: asdict(values) for name, values in fitted.times.items()}
    values = {"links": fitted.links, "per_row_s": fitted.per_row_s, "transport_s": fitted.transport_s}
    return json.dumps({"schema": 1, "kind": "fit", **values, "times": times}, allow_nan=False)


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m bench.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="of a benchmark run")
    parser.add_argument(
        "--fit",
        type=_link,
        action="append",
        metavar="RATE_UP,RTT_MS",
        help="a link to fit to; may be given again (default: 512k,40)",
    )
    parser.add_argument("--check", action="store_true", help="no extrapolation")
    parser.add_argument("--out", type=Path, metavar="DIR")
    parser.add_argument(
        "--limit", type=_share, default=0.15, help="of a cell's error in tokens/s (default: %(default)s)"
    )
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="of the extrapolation (default: %(default)s)"
    )
    parser.add_argument(
        "--target-ms",
        type=_positive,
        default=100.0,
        help="milliseconds a token may take (default: %(default)s)",
    )
    parser.add_argument("--edge-device", choices=sorted(DRAFTS), default="jetson")
    return parser


def _link(text: str) -> LinkKey:
    rate, comma, rtt_ms = text.partition(",")
    try:
        if not comma:
            raise ValueError
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
