"""
`python -m link --up 32k --down 128k --rtt-ms 40 [-- COMMAND ...]`: make a link, test, use and end it.

Without a command it prints the report and ends; with one the command runs at the edge and the report goes to
standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Any, TextIO

from link import runs
from link.arguments import add_description_arguments, description_from
from link.errors import LinkDescriptionError, LinkError, LinkRefusedError, LinkUnavailableError
from link.keeper import CARRIERS
from link.link import DEFAULT_CONGESTION_CONTROL, NamespaceLink, open_link

USAGE, REFUSED, UNAVAILABLE, FAILED, INTERRUPTED = 2, 3, 4, 1, 130
EXIT_CODES = """\
exit codes:
  0    done (with a command: the command's own code)
  1    the link broke
  2    bad usage
  3    the link is not what it says
  4    the link cannot be made here
  130  interrupted
"""


def report_lines(described: dict[str, Any]) -> list[str]:
    """The report for people; every result file has the same as JSON."""
    up, down = described["rate_up_bps"], described["rate_down_bps"]
    lines = [
        f"kind                {described['kind']}"
        + (" — THROUGHPUT ONLY" if described["throughput_only"] else ""),
        f"rates               {up} up, {down} down (bit/s, Ethernet headers counted)",
        f"rtt                 {described['rtt_s'] * 1000:g} ms",
        f"jitter, loss        ±{described['jitter_s'] * 1000:g} ms, {described['loss']:.2%}; each way",
        f"queue               {described['queue_up_bytes']} B up, {described['queue_down_bytes']} B down",
        f"lacks               {', '.join(described['lacks']) or 'nothing'}",
    ]
    for name, end in described["ends"].items():
        offloads = ", ".join(f"{key} {'on' if on else 'off'}" for key, on in end["offloads"].items())
        lines.append(
            f"{name:20}{end['congestion_control']}; {offloads}; "
            f"TCP time stamps {'on' if end['tcp_timestamps'] else 'off'}; "
            f"IPv6 {'off' if end['ipv6_off'] else 'on'}"
        )
    test = described["self_test"]
    lines.append(f"self-test           passed in try {test['tries']}")
    for trip in test["round_trips"]:
        lines.append(
            f"  {trip['payload_bytes']:5} B            {trip['median_s'] * 1000:.2f} ms "
            f"(expected {trip['expected_s'] * 1000:.2f} ± {trip['tolerance_s'] * 1000:.2f}; "
            f"max {trip['max_s'] * 1000:.2f}; {trip['answered']} probes)"
        )
    for rate in test["rates"]:
        lines.append(
            f"  {rate['direction']:18}{rate['measured_bps']:.0f} bit/s "
            f"({rate['measured_bps'] / rate['expected_bps'] - 1:+.3%}, tolerance {rate['tolerance']:.1%})"
        )
    for name, late in described["lateness"].items():
        if late["max_s"] is not None:
            lines.append(
                f"lateness {name:11}{late['mean_s'] * 1000:.3f} ms mean, {late['max_s'] * 1000:.2f} ms max "
                f"(real-time scheduling {'on' if described['real_time'] else 'OFF'})"
            )
    return lines


def run(arguments: argparse.Namespace) -> int:
    """Make, test, use and end one link; the exit code."""
    output: TextIO = sys.stderr if arguments.command else sys.stdout
    with open_link(
        description_from(arguments),
        kind=arguments.kind,
        congestion_control=arguments.congestion_control,
        seed=arguments.seed,
    ) as link:
        link.self_test()
        _print_report(link, arguments.json, output)
        if not arguments.command:
            return 0
        before = link.counters()
        started_s = time.monotonic()
        code = _run_at_the_edge(link, arguments.command)
        elapsed_s = time.monotonic() - started_s
        after = link.counters()
        print(
            f"command             exit code {code} after {elapsed_s:.2f} s; "
            f"{after.up.carried_bytes - before.up.carried_bytes} B up, "
            f"{after.down.carried_bytes - before.down.carried_bytes} B down",
            file=output,
        )
        return code


def _print_report(link: NamespaceLink, as_json: bool, output: TextIO) -> None:
    described = link.describe()
    text = json.dumps(described, indent=2) if as_json else "\n".join(report_lines(described))
    print(text, file=output, flush=True)


def _run_at_the_edge(link: NamespaceLink, command: list[str]) -> int:
    # The command is in the user namespace already, if there is one, and must not enter it twice.
    cloud_prefix = [
        word
        for word in link.cloud.prefix
        if word != "--preserve-credentials" and not word.startswith("--user=")
    ]
    environment = {
        **os.environ,
        "THINWIRE_LINK_EDGE_ADDRESS": link.edge.address,
        "THINWIRE_LINK_CLOUD_ADDRESS": link.cloud.address,
        "THINWIRE_LINK_CLOUD_PREFIX": shlex.join(cloud_prefix),
    }
    process = link.edge.popen(command, env=environment)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        # Ctrl-C reached the command too; the link ends it if it does not care.
        try:
            process.wait(timeout=runs.END_GRACE_S)
        except subprocess.TimeoutExpired:
            process.terminate()
        raise
    return code if code >= 0 else 128 - code


def main() -> int:
    """Read the command line and run; the exit code."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m link",
        description=__doc__,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if sys.argv[1:] == ["--sweep"]:
        print(f"{len(runs.sweep())} left-over processes killed")
        return 0
    add_description_arguments(parser)
    add = parser.add_argument
    add("--kind", choices=tuple(CARRIERS), default="wire", help="default: %(default)s")
    ends = "of TCP at both ends (default: %(default)s)"
    add("--congestion-control", default=DEFAULT_CONGESTION_CONTROL, help=ends)
    add("--json", action="store_true", help="print the report as JSON")
    add("--sweep", action="store_true", help="alone: kill what links of dead owners left behind")
    add("command", nargs="*", help="after --: run at the edge")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return run(arguments)
    except LinkError as error:
        print(f"link: {error}", file=sys.stderr)
        codes = {LinkDescriptionError: USAGE, LinkRefusedError: REFUSED, LinkUnavailableError: UNAVAILABLE}
        return codes.get(type(error), FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
