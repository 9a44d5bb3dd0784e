"""
What `--explain` predicts, beside what is seen: texts over a thin link, real daemons, the bundled pair.

    python -m bench.explained --rtt-ms 5 40 150 --paced 60,2

A line is a round trip, a temperature and a way to get the text; predictions are those of
`thinwire.edge.explanation`, each by the text's own measured times and rates.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from bench import command, markdown
from bench.grid.cells import SMOKE, Cell
from bench.grid.processes import RunSettings, Stage, open_stage
from bench.pair import read_prompts
from bench.peers.pacing import Pacing
from thinwire.common.schemes import parse_scheme
from thinwire.common.session.generation import GenerationRequest, GenerationStarted
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge.explanation import Explanation, explain

WAYS = (("coupled", "latency"), ("coupled", "cloud"), ("k-sqs", "latency"))
"""Scheme and objective."""
HEAD = [
    *("RTT, ms", "T", "scheme", "rate", "tokens a pass: predicted", "seen"),
    *("tokens/s: predicted", "seen", "predicted over seen"),
]
WARM_UP_TOKENS = 8


def row(explained: Sequence[Explanation]) -> list[str]:
    """Of texts that were got alike: means, and the least and greatest ratio of tokens/s."""

    def numbers(of: str, name: str) -> list[float]:
        return [getattr(each, of)[name] for each in explained]

    rate = "match_rate" if "match_rate" in explained[0].measured else "acceptance_rate"
    speeds = zip(numbers("predicted", "tokens_per_s"), numbers("seen", "tokens_per_s"), strict=True)
    ratios = [predicted / seen for predicted, seen in speeds]
    return [
        markdown.number(mean(numbers("measured", rate)), 2),
        *(markdown.number(mean(numbers(of, "tokens_per_pass")), 2) for of in ("predicted", "seen")),
        *(markdown.number(mean(numbers(of, "tokens_per_s")), 1) for of in ("predicted", "seen")),
        f"{mean(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = command.parser("bench.explained", __doc__)
    parser.add_argument("--rtt-ms", type=float, nargs="+", default=[40.0], metavar="MS")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.3, 1.0], metavar="T")
    parser.add_argument("--paced", type=Pacing.parse, default=Pacing(), metavar="A_MS,B_MS")
    parser.add_argument("--rate", type=int, default=512_000, metavar="BPS", help="of the uplink")
    parser.add_argument("--texts", type=int, default=3, metavar="N", help="of each line")
    parser.add_argument("--tokens", type=int, default=96, metavar="N", help="of each text")
    given = parser.parse_args(argv)
    return command.run("bench.explained", lambda: _run(given), interrupted="interrupted.")


def _run(given: Any) -> int:
    rows = []
    for rtt_ms in given.rtt_ms:
        cell = Cell(given.rate, rtt_ms / 1000, given.temperatures[0])
        with tempfile.TemporaryDirectory() as folder:
            settings = RunSettings(Path(folder) / "work", pacing=given.paced)
            with open_stage(cell, SMOKE, settings, lambda words: print(words, file=sys.stderr)) as stage:
                for scheme, objective in WAYS:
                    _text(stage, scheme, objective, cell.temperature, 0, WARM_UP_TOKENS)
                for temperature in given.temperatures:
                    found: dict[tuple[str, str], list[Explanation]] = {way: [] for way in WAYS}
                    for turn in range(given.texts):
                        for way in WAYS[turn % len(WAYS) :] + WAYS[: turn % len(WAYS)]:
                            found[way].append(_text(stage, *way, temperature, turn, given.tokens))
                    for (scheme, objective), explained in found.items():
                        name = scheme + (f" --objective {objective}" if objective != "latency" else "")
                        rows.append([f"{rtt_ms:g}", f"{temperature:g}", name, *row(explained)])
    print(markdown.table(HEAD, rows, left=3))
    return 0


def _text(
    stage: Stage, scheme: str, objective: str, temperature: float, turn: int, tokens: int
) -> Explanation:
    parameters = parse_scheme(scheme, temperature)
    asked = {"prompt": read_prompts()[turn], "seed": turn, "max_tokens": tokens, "ignore_eos": True}
    sampling = {"sampling": {"temperature": temperature}, "scheme": str(parameters), "objective": objective}
    answer = stage.text({**asked, **sampling}).answer
    if answer.get("failure"):
        raise command.CommandError(f"{scheme}: {answer['failure']}")
    longest = GenerationRequest("", seed=0).draft_length
    started = GenerationStarted(turn, 0, parameters, longest, objective)
    return explain(started, GenerationStatistics(**answer["statistics"]))


if __name__ == "__main__":
    sys.exit(main())
