"""
Whether a link is what its description says, asked of the link itself before each run.

Rate: a flood of UDP datagrams in both directions at once, a little above the rate; bytes with Ethernet
headers over the time between the first and the last arrival, within 1 %.
Round trip: single UDP datagrams of several sizes over the idle link; the median of each size within 2 ms of
rtt + 8 × (n + 42) × (1/up + 1/down), n bytes of payload.
Both run under SCHED_FIFO where the kernel allows it.
A busy machine can only make an honest link look worse, so a test may be taken three times; a link that is not
what it says fails all three.
Jitter and loss widen the tolerances by what their own laws make of so few packets; each figure carries the
tolerance it was judged by.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from link.description import UDP_FRAME_BYTES, Direction, LinkDescription
from link.errors import LinkBrokenError, LinkRefusedError
from link.probe import FloodResult, NamespacePaths, ProbeSettings, RoundTrips

RATE_TOLERANCE = 0.01
"""Relative."""
ROUND_TRIP_TOLERANCE_S = 0.002
TRIES = 3
PAYLOAD_SIZES = (64, 512, 1200)
PROBES = 5
"""Round trips of each size on a link without jitter."""
PROBES_WITH_JITTER = 25
FLOOD_S = 2.0
LOSS_DEVIATIONS = 5.0
"""Standard deviations of the binomial law that a loss may be off (false alarm about 1e-6)."""
JITTER_DEVIATIONS = 3.0
_MEDIAN_EFFICIENCY = math.sqrt(math.pi / 2)
"""Standard error of a median over that of a mean, for a bell-shaped law."""
_PROBE_START_S = 10.0


@dataclass(frozen=True, slots=True)
class Scope:
    """What of its description a kind of link claims, and so is tested for."""

    round_trips: bool
    loss: bool
    """Lost packets use the line (they do not with netem, whose rate test then counts arrivals only)."""
    warm_up_bytes: tuple[int, int] = (0, 0)
    """Up, down: what a token bucket lets through at once."""


@dataclass(frozen=True, slots=True)
class RoundTripFigure:
    """Round trips of one payload size."""

    payload_bytes: int
    expected_s: float
    median_s: float | None
    """None if no probe came back."""
    min_s: float | None
    max_s: float | None
    answered: int
    lost: int
    tolerance_s: float

    @property
    def is_right(self) -> bool:
        """Whether the median is as described."""
        return self.median_s is not None and abs(self.median_s - self.expected_s) <= self.tolerance_s


@dataclass(frozen=True, slots=True)
class RateFigure:
    """Result of one direction."""

    direction: str
    expected_bps: int
    measured_bps: float
    tolerance: float
    """Relative."""
    loss: float
    """Share of the datagrams in the measured span that did not arrive."""
    loss_expected: float
    loss_tolerance: float | None
    """None where the loss is not judged."""

    @property
    def is_right(self) -> bool:
        """Whether rate and loss are as described."""
        right_rate = abs(self.measured_bps / self.expected_bps - 1) <= self.tolerance
        return right_rate and (
            self.loss_tolerance is None or abs(self.loss - self.loss_expected) <= self.loss_tolerance
        )


@dataclass(frozen=True, slots=True)
class SelfTestReport:
    """The last try: the one that passed, or the last that failed."""

    passed: bool
    tries: int
    round_trips: tuple[RoundTripFigure, ...]
    """Empty for a kind without delay."""
    rates: tuple[RateFigure, ...]
    """Empty if the round trips were wrong already."""

    def faults(self) -> list[str]:
        """One sentence for each figure that is not as described."""
        wrong_trips = [figure for figure in self.round_trips if not figure.is_right]
        return [_round_trip_fault(figure) for figure in wrong_trips] + [
            _rate_fault(figure) for figure in self.rates if not figure.is_right
        ]


def judge_round_trips(
    description: LinkDescription, results: Sequence[RoundTrips]
) -> tuple[RoundTripFigure, ...]:
    """Raw round trips beside what the description makes of them."""
    figures = []
    for result in results:
        taken = result.round_trips_s
        # Two independent uniform delays of half-width J: standard deviation J × sqrt(2/3).
        spread_s = (
            description.jitter_s * math.sqrt(2 / 3) * _MEDIAN_EFFICIENCY / math.sqrt(max(1, len(taken)))
        )
        figures.append(
            RoundTripFigure(
                payload_bytes=result.payload_bytes,
                expected_s=description.udp_round_trip_s(result.payload_bytes),
                median_s=statistics.median(taken) if taken else None,
                min_s=min(taken, default=None),
                max_s=max(taken, default=None),
                answered=len(taken),
                lost=result.lost,
                tolerance_s=ROUND_TRIP_TOLERANCE_S + JITTER_DEVIATIONS * spread_s,
            )
        )
    return tuple(figures)


def judge_rates(
    description: LinkDescription, results: Mapping[str, FloodResult], scope: Scope, flood_s: float
) -> tuple[RateFigure, ...]:
    """Raw arrivals beside what the description makes of them."""
    directions = (("up", description.up), ("down", description.down))
    return tuple(_judge_rate(name, side, results[name], scope, flood_s) for name, side in directions)


def _judge_rate(
    name: str, direction: Direction, result: FloodResult, scope: Scope, flood_s: float
) -> RateFigure:
    judges_loss = scope.loss and direction.loss > 0
    # A lost packet has used the line; one dropped before a line slower than it says makes the loss wrong.
    packets = result.counted_span if judges_loss else result.counted
    missing = result.counted_span - result.counted
    deviation = math.sqrt(direction.loss * (1 - direction.loss) / max(1, result.counted_span))
    return RateFigure(
        direction=name,
        expected_bps=direction.rate_bps,
        measured_bps=packets * result.frame_bytes * 8 / result.seconds if result.seconds > 0 else 0.0,
        # The first and the last arrival each come up to one jitter early or late.
        tolerance=RATE_TOLERANCE + 2 * direction.jitter_s / flood_s,
        loss=missing / max(1, result.counted_span),
        loss_expected=direction.loss if scope.loss else 0.0,
        loss_tolerance=LOSS_DEVIATIONS * deviation + 1 / max(1, result.counted_span) if judges_loss else None,
    )


def run_self_test(
    namespaces: NamespacePaths,
    description: LinkDescription,
    scope: Scope,
    *,
    tries: int = TRIES,
    probes: int | None = None,
    flood_s: float = FLOOD_S,
) -> SelfTestReport:
    """
    Test the link between two namespaces; nothing else may use it meanwhile.

    Args:
        description: what the link is said to be.
        probes: round trips of each size; None for `PROBES`, or `PROBES_WITH_JITTER`.
        flood_s: seconds of the rate test.

    Returns:
        a report that passed.

    Raises:
        LinkRefusedError: no try passed; the message lists the faults of the last.
        LinkBrokenError: nothing could be measured.
    """
    if probes is None:
        probes = PROBES_WITH_JITTER if description.jitter_s else PROBES
    sizes = tuple(sorted({min(size, description.largest_udp_payload_bytes) for size in PAYLOAD_SIZES}))
    settings = ProbeSettings(
        namespaces, description, flood_s=flood_s, payload_sizes=sizes, warm_up_bytes=scope.warm_up_bytes
    )
    for attempt in range(1, tries + 1):
        report = _try(settings, scope, probes, attempt)
        if report.passed:
            return report
    raise LinkRefusedError(
        f"the link is not what its description says, in {tries} tries; the last: {' '.join(report.faults())}"
    )


def _try(settings: ProbeSettings, scope: Scope, probes: int, attempt: int) -> SelfTestReport:
    description = settings.description
    trips: tuple[RoundTripFigure, ...] = ()
    rates: tuple[RateFigure, ...] = ()
    if scope.round_trips:
        worst_s = description.udp_round_trip_s(max(settings.payload_sizes)) + 1.0
        raw_trips = _probe(replace(settings, probes=probes), probes * len(settings.payload_sizes) * worst_s)
        trips = judge_round_trips(
            description,
            [RoundTrips(row["payload_bytes"], tuple(row["round_trips_s"]), row["lost"]) for row in raw_trips],
        )
    if all(figure.is_right for figure in trips):
        queue_s = max(side.queue_bytes * 8 / side.rate_bps for side in (description.up, description.down))
        raw_rates = _probe(settings, settings.flood_s + queue_s + description.rtt_s)
        results = {name: FloodResult(**row) for name, row in raw_rates.items()}
        rates = judge_rates(description, results, scope, settings.flood_s)
    passed = all(trip.is_right for trip in trips) and all(rate.is_right for rate in rates)
    return SelfTestReport(passed=passed, tries=attempt, round_trips=trips, rates=rates)


def _probe(settings: ProbeSettings, expected_s: float) -> Any:
    try:
        result = subprocess.run(
            [sys.executable, "-m", "link.probe", settings.as_json()],
            check=False,
            capture_output=True,
            text=True,
            env=module_environment(),
            timeout=_PROBE_START_S + 2 * expected_s,
        )
    except subprocess.TimeoutExpired as error:
        raise LinkBrokenError(
            f"the self-test took over {error.timeout:.0f} s; the link stands still."
        ) from error
    if result.returncode != 0:
        raise LinkBrokenError(f"the self-test could not measure: {result.stderr.strip() or 'killed'}")
    return json.loads(result.stdout)


def module_environment() -> dict[str, str]:
    """An environment in which a child finds the package `link`."""
    root = str(Path(__file__).resolve().parents[1])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")])),
    }


def _round_trip_fault(figure: RoundTripFigure) -> str:
    received = "no answer" if figure.median_s is None else f"{figure.median_s * 1000:.2f} ms"
    return (
        f"A round trip of {figure.payload_bytes} B took {received}; "
        f"expected {figure.expected_s * 1000:.2f} ± {figure.tolerance_s * 1000:.2f} ms."
    )


def _rate_fault(figure: RateFigure) -> str:
    loss = ""
    if figure.loss_tolerance is not None:
        expected = f"{figure.loss_expected:.2%} ± {figure.loss_tolerance:.2%}"
        loss = f" with a loss of {figure.loss:.2%} (expected {expected})"
    return (
        f"The rate {figure.direction} was {figure.measured_bps:.0f} bit/s{loss}; "
        f"expected {figure.expected_bps} ± {figure.tolerance:.1%}."
    )


FRAME_FORMULA = f"rtt + 8 * (n + {UDP_FRAME_BYTES}) * (1/up + 1/down)"
"""Stated in every report."""
