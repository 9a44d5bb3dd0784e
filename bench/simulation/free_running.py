"""
`python -m bench.simulation.free_running`: what a cloud that writes by itself is worth on a link, in seconds.

    python -m bench.simulation.free_running --rtt-ms 40 --rate 512k --pass-ms 60 --temperature 0.3

The daemons' own sessions in virtual time (`bench.simulation.free_sessions`), over texts of the bundled pair
that are recorded once. A line a temperature.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import command
from bench.simulation.free_sessions import plain, run_crowd, run_each
from bench.simulation.matches import MATCHES, Matches, recorded
from bench.simulation.scenario import FreeOutcome, FreeScenario, FreeTimes, Passes
from link.description import LinkDescription, parse_rate_bps


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate; returns the exit code."""
    return command.run("bench.simulation.free_running", lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    made = command.parser("bench.simulation.free_running", __doc__)
    add = made.add_argument
    add("--rate", type=parse_rate_bps, default=512_000, help="up, such as 512k (default: %(default)s bit/s)")
    add("--rate-down", type=parse_rate_bps, help="down (default: four times up)")
    add("--rtt-ms", type=float, default=40.0)
    add("--pass-ms", type=float, default=60.0, help="of a pass over one row (default: %(default)s)")
    add("--row-ms", type=float, default=2.0, help="of each further row (default: %(default)s)")
    for name, default, words in _MILLISECONDS:
        add(f"--{name}-ms", type=float, default=default, help=f"{words} (default: %(default)s)")
    add("--temperature", type=float, nargs="+", default=[0.3, 0.6, 1.0])
    add("--prompts", type=int, default=8)
    add("--tokens", type=int, default=96)
    add("--draft-length", type=int, default=6)
    add("--objective", choices=("latency", "cloud"), default="latency")
    add("--edges", type=int, default=1, help="on one cloud; above 1 in a window of --window-s")
    add("--window-s", type=float, default=8.0, help="behind half as long of warming up")
    add("--batch-sequences", type=int, default=64, help="of a pass, as the cloud's --max-batch-sequences")
    add("--batch-tokens", type=int, default=512, help="of a pass, as the cloud's --max-batch-tokens")
    add("--no-copies", action="store_true", help="the cloud does not copy from the text")
    add("--matches", type=Path, default=MATCHES, metavar="DIR", help="kept there")
    given = made.parse_args(argv)
    link = LinkDescription(given.rate, given.rate_down or 4 * given.rate, given.rtt_ms / 1000)
    scenario = FreeScenario(
        link=link,
        edges=given.edges,
        passes=Passes(
            (given.pass_ms - given.row_ms) / 1000,
            per_row_s=given.row_ms / 1000,
            max_blocks=given.batch_sequences,
            max_rows=given.batch_tokens,
        ),
        times=FreeTimes(
            **{f"{name.replace('-', '_')}_s": _milli(given, name) for name, _, _ in _MILLISECONDS}
        ),
        draft_length=given.draft_length,
        objective=given.objective,
        copies=not given.no_copies,
    )
    for temperature in given.temperature:
        matches = recorded(given.matches, temperature, given.prompts, given.tokens)
        free, stream = (_simulated(one, matches, given.window_s) for one in (scenario, plain(scenario)))
        print(f"T {temperature:g}: {words_of(free, stream)}")
    return 0


def _simulated(scenario: FreeScenario, matches: Sequence[Matches], window_s: float) -> FreeOutcome:
    if scenario.edges == 1:
        return run_each(scenario, matches)
    return run_crowd(scenario, matches, warm_up_s=window_s / 2, window_s=window_s)


def words_of(free: FreeOutcome, stream: FreeOutcome) -> str:
    """One line: speed over the stream's, and what it cost."""
    speed, base = (one.tokens / (one.until_s - one.since_s) for one in (free, stream))
    wait_ms = 1000 * free.waited_s / free.waits if free.waits else 0.0
    return (
        f"{speed / base:.3f} of the plain stream ({speed:.2f} of {base:.2f} tokens/s), "
        f"passes a token {free.passes / free.tokens:.3f}, a session's {free.rounds / free.tokens:.3f}, "
        f"rows of each {free.rows / free.rounds:.2f}, "
        f"without a hint {free.unhinted / free.rounds:.0%}, copied {free.copied / free.tokens:.0%}, "
        f"drafted a token {free.drafted / free.tokens:.2f}, hint messages a token "
        f"{free.hint_messages / free.tokens:.2f}, bytes up a token {free.wire_up_bytes / free.tokens:.0f} "
        f"(stream {stream.wire_up_bytes / stream.tokens:.0f}), waits a pass {free.waits / free.rounds:.2f}, "
        f"mean {wait_ms:.1f} ms"
    )


def _milli(given: Any, name: str) -> float:
    return float(getattr(given, f"{name.replace('-', '_')}_ms")) / 1000


_MILLISECONDS = (
    ("draft", 3.0, "edge: a drafted token"),
    ("draft-call", 0.0, "edge: a draft besides, whatever its length"),
    ("refeed", 0.5, "edge: a further token fed to the draft model first"),
    ("hint", 0.0, "edge: before a message with hints is on its way"),
    ("turn", 0.0, "cloud: between two passes"),
    ("prompt-row", 0.1, "cloud: a token of the prompt in the first pass"),
    ("transport", 1.0, "network stacks of both ends, of an exchange"),
    ("opening", 0.0, "edge: before Open is on its way"),
)


if __name__ == "__main__":
    sys.exit(main())
