"""
`python -m deploy.side_car edge|cloud --peer NAME --up RATE ...`: the link beside one service.

It makes this container's end (the wire, or tc), keeps it, and ends it on SIGTERM.
The cloud's side-car hands sockets of its end to the edge's, which holds the link against its description with
the probe and the judge of `link`, and writes the report that the edge's container waits for.
A link that is not what it says is ended at once (exit code 3).
"""

from __future__ import annotations

import argparse
import select
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any

from deploy.ends import BucketEnd, LinkEnd, WireEnd
from deploy.handover import HandoverError, Offering, both_ends
from deploy.link_report import REPORT_NAME, SHARED_FOLDER, network_namespace, write_report
from link import devices, linux
from link.__main__ import REFUSED, report_lines
from link.arguments import add_description_arguments, description_from
from link.carrier import CLOUD_ADDRESS, EDGE_ADDRESS
from link.description import SIDECAR_MTU_BYTES, LinkDescription
from link.errors import LinkError
from link.probe import (
    REAL_TIME_PRIORITY,
    NamespacePaths,
    ProbeSettings,
    measure_rates,
    measure_round_trips,
)
from link.self_test import (
    FLOOD_S,
    FRAME_FORMULA,
    PAYLOAD_SIZES,
    PROBES,
    PROBES_WITH_JITTER,
    TRIES,
    RateFigure,
    RoundTripFigure,
    SelfTestReport,
    judge_rates,
    judge_round_trips,
)
from link.sidecar import Endpoint

_CHECK_INTERVAL_S = 1.0


class Tester:
    """
    The edge's side of the self-test.

    Args:
        arguments: of this side-car.
        end: of the link, this container's.
    """

    def __init__(self, arguments: argparse.Namespace, description: LinkDescription, end: LinkEnd) -> None:
        self._arguments = arguments
        self._description = description
        self._end = end
        self._cloud_facts: dict[str, Any] = {}
        sizes = {min(size, description.largest_udp_payload_bytes) for size in PAYLOAD_SIZES}
        # The sockets are handed over, so there is no namespace to enter.
        self._settings = ProbeSettings(
            NamespacePaths("", "", arguments.address, arguments.peer_address),
            description,
            payload_sizes=tuple(sorted(sizes)),
            warm_up_bytes=end.scope.warm_up_bytes,
        )

    def run(self) -> SelfTestReport:
        """Up to `TRIES` times; the one that passed, or the last."""
        for attempt in range(1, TRIES + 1):
            report = self._try(attempt)
            if report.passed:
                break
        return report

    def _try(self, attempt: int) -> SelfTestReport:
        description, scope = self._description, self._end.scope
        trips: tuple[RoundTripFigure, ...] = ()
        rates: tuple[RateFigure, ...] = ()
        if scope.round_trips:
            probes = PROBES_WITH_JITTER if description.jitter_s else PROBES
            trips = judge_round_trips(description, self._measure(measure_round_trips, probes=probes))
        if all(figure.is_right for figure in trips):
            results = self._measure(measure_rates, flood_s=FLOOD_S)
            rates = judge_rates(description, results, scope, FLOOD_S)
        passed = all(trip.is_right for trip in trips) and all(rate.is_right for rate in rates)
        return SelfTestReport(passed=passed, tries=attempt, round_trips=trips, rates=rates)

    def _measure(self, measure: Any, **options: Any) -> Any:
        """With new sockets each time, so that nothing of the last measurement arrives in this one."""
        with both_ends(
            Path(self._arguments.shared), self._arguments.address, timeout_s=self._arguments.peer_timeout_s
        ) as (edge, cloud, self._cloud_facts):
            return measure(edge, cloud, replace(self._settings, **options))

    def describe(self, report: SelfTestReport, *, real_time: bool) -> dict[str, Any]:
        """For the shared volume; the names are those of `link`'s own reports."""
        description, end = self._description, self._end
        return {
            "passed": report.passed,
            "faults": report.faults(),
            "namespace": network_namespace(),
            "device": end.device,
            "kind": end.kind,
            "throughput_only": "serialisation" in end.lacks,
            "lacks": list(end.lacks),
            **asdict(description),
            "queue_up_bytes": description.up.queue_bytes,
            "queue_down_bytes": description.down.queue_bytes,
            "ends": {"edge": own_facts(end.device), "cloud": self._cloud_facts},
            "real_time": real_time,
            "lateness": {},
            "self_test": {"round_trip_formula": FRAME_FORMULA, **asdict(report)},
        }


def own_facts(device: str) -> dict[str, Any]:
    """What the kernel says of this end."""
    return {
        "congestion_control": devices.congestion_control(),
        "tcp_timestamps": devices.tcp_timestamps(),
        "ipv6_off": devices.ipv6_is_off(),
        "offloads": devices.offloads(device),
    }


def run(arguments: argparse.Namespace) -> int:
    """Until a signal, or until the link fails; the exit code."""
    description = description_from(arguments)
    shared = Path(arguments.shared)
    if arguments.end == "edge":
        (shared / REPORT_NAME).unlink(missing_ok=True)
    end: LinkEnd = WireEnd(arguments) if arguments.kind == "wire" else BucketEnd(arguments, description)
    try:
        waiting_on = []
        if arguments.end == "cloud":
            waiting_on.append(Offering(shared, arguments.address, own_facts(end.device)))
        elif not _test(Tester(arguments, description, end), shared):
            return REFUSED
        while True:
            for offering in select.select(waiting_on, (), (), _CHECK_INTERVAL_S)[0]:
                offering.answer()
            end.check()
    finally:
        end.close()


def _test(tester: Tester, shared: Path) -> bool:
    """Test, tell the edge and then people; whether the link passed."""
    real_time = linux.become_real_time(REAL_TIME_PRIORITY)
    if not real_time:
        print("link: real-time scheduling is OFF; a busy machine makes this link late", flush=True)
    report = tester.run()
    described = tester.describe(report, real_time=real_time)
    if report.passed:
        lines = report_lines(described)
    else:
        lines = ["REFUSED BY ITS SELF-TEST, nothing will be served over it:", *report.faults()]
    write_report(shared, described)  # first: whoever acts on the lines finds the report
    print("\n".join(f"link: {line}" for line in lines), flush=True)
    return report.passed


def main() -> int:
    """Read the command line and run; the exit code."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m deploy.side_car", description=__doc__
    )
    parser.add_argument("end", choices=("edge", "cloud"), help="the service beside it")
    parser.add_argument("--kind", choices=("wire", "tc"), default="wire", help="default: %(default)s")
    parser.add_argument(
        "--peer", type=Endpoint.parse, required=True, metavar="HOST[:PORT]", help="the other service"
    )
    add_description_arguments(parser, mtu_bytes=SIDECAR_MTU_BYTES)
    parser.add_argument("--address", help="of this end (default: by the end)")
    parser.add_argument("--peer-address", help="of the other end")
    parser.add_argument(
        "--peer-timeout-s", type=float, default=120.0, help="wait for the other (%(default)s)"
    )
    parser.add_argument("--shared", default=str(SHARED_FOLDER), help="folder both side-cars and the edge see")
    arguments = parser.parse_args()
    own, other = (EDGE_ADDRESS, CLOUD_ADDRESS) if arguments.end == "edge" else (CLOUD_ADDRESS, EDGE_ADDRESS)
    arguments.address = arguments.address or own
    arguments.peer_address = arguments.peer_address or other
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        return run(arguments)
    except (LinkError, HandoverError) as error:
        print(f"link: {error}", file=sys.stderr, flush=True)
        return 1


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
