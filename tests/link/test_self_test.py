"""How raw figures are judged, without a link."""

from __future__ import annotations

import pytest

from link.description import LinkDescription
from link.probe import FloodResult, RoundTrips
from link.self_test import Scope, SelfTestReport, judge_rates, judge_round_trips

WIRE = Scope(round_trips=True, loss=True)
PLAIN = LinkDescription(rate_up_bps=100_000, rate_down_bps=100_000, rtt_s=0.04)


def flood(*, bps: float, counted: int = 1000, missing: int = 0) -> FloodResult:
    """Arrivals of 1000-byte frames at `bps` over what was carried, the missing included."""
    span = counted + missing
    return FloodResult(
        sent=span + 1,
        received=counted + 1,
        counted=counted,
        frame_bytes=1000,
        seconds=span * 8000 / bps,
        counted_span=span,
    )


@pytest.mark.parametrize(
    ("error_s", "is_right"), [(0.0, True), (0.0019, True), (-0.0019, True), (0.0021, False)]
)
def test_a_median_round_trip_within_two_milliseconds_is_right(error_s: float, is_right: bool) -> None:
    """One probe that came late moves no median."""
    expected_s = PLAIN.udp_round_trip_s(64) + error_s
    (figure,) = judge_round_trips(PLAIN, [RoundTrips(64, (expected_s, expected_s + 1, expected_s), 0)])

    assert figure.is_right is is_right


def test_no_answer_is_not_right() -> None:
    """And the fault says so."""
    figures = judge_round_trips(PLAIN, [RoundTrips(64, (), 5)])
    report = SelfTestReport(passed=False, tries=3, round_trips=figures, rates=())

    assert not figures[0].is_right
    assert report.faults() == ["A round trip of 64 B took no answer; expected 56.96 ± 2.00 ms."]


@pytest.mark.parametrize(
    ("bps", "is_right"), [(100_900, True), (99_100, True), (101_100, False), (98_900, False)]
)
def test_a_rate_within_one_percent_is_right(bps: float, is_right: bool) -> None:
    """Both directions are judged; one wrong is enough for a fault."""
    figures = judge_rates(PLAIN, {"up": flood(bps=100_000), "down": flood(bps=bps)}, WIRE, flood_s=2.0)

    assert [figure.is_right for figure in figures] == [True, is_right]


def test_losses_as_described_count_as_carried() -> None:
    """They used the line: 2 % lost at the full rate is an honest link."""
    lossy = LinkDescription(rate_up_bps=100_000, rate_down_bps=100_000, loss=0.02)
    figures = judge_rates(
        lossy, dict.fromkeys(("up", "down"), flood(bps=100_000, counted=980, missing=20)), WIRE, 2.0
    )

    assert all(figure.is_right for figure in figures)


def test_a_slow_line_cannot_hide_behind_losses() -> None:
    """What its full queue drops is more than the description's loss."""
    lossy = LinkDescription(rate_up_bps=100_000, rate_down_bps=100_000, loss=0.02)
    figures = judge_rates(
        lossy, dict.fromkeys(("up", "down"), flood(bps=100_000, counted=850, missing=150)), WIRE, 2.0
    )

    assert not any(figure.is_right for figure in figures)


def test_unexpected_losses_make_the_rate_wrong() -> None:
    """A link described without loss is paid for arrivals only."""
    figures = judge_rates(
        PLAIN, dict.fromkeys(("up", "down"), flood(bps=100_000, counted=980, missing=20)), WIRE, 2.0
    )

    assert not any(figure.is_right for figure in figures)


def test_nothing_received_is_a_rate_of_zero() -> None:
    """No division by zero."""
    nothing = FloodResult(sent=60, received=1, counted=0, frame_bytes=1000, seconds=0.0, counted_span=0)
    figures = judge_rates(PLAIN, {"up": nothing, "down": nothing}, WIRE, 2.0)

    assert [figure.measured_bps for figure in figures] == [0.0, 0.0]
    assert not any(figure.is_right for figure in figures)
