"""A link's description refuses what no link can have, and says what it wanted instead."""

from __future__ import annotations

from typing import Any

import pytest

from link.description import LinkDescription, default_queue_bytes, parse_rate_bps
from link.errors import LinkDescriptionError


@pytest.mark.parametrize(
    ("text", "rate_bps"),
    [("64000", 64_000), ("32k", 32_000), ("1.5M", 1_500_000), ("256kbit", 256_000), (" 1 g ", 1_000_000_000)],
)
def test_a_rate_is_read_in_decimal_multiples(text: str, rate_bps: int) -> None:
    """As network people write them: k is 1000."""
    assert parse_rate_bps(text) == rate_bps


@pytest.mark.parametrize("text", ["", "fast", "-1k", "1e6", "32kB", "1 2k"])
def test_what_is_no_rate_is_named(text: str) -> None:
    """The message has the text received and an example."""
    with pytest.raises(LinkDescriptionError, match="expected bits per second") as caught:
        parse_rate_bps(text)

    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rate_up_bps", 0),
        ("rate_up_bps", 64_000.5),
        ("rate_down_bps", True),
        ("rtt_s", -0.001),
        ("rtt_s", float("nan")),
        ("rtt_s", 61),
        ("jitter_s", 0.021),
        ("jitter_s", -0.001),
        ("loss", 1.0),
        ("loss", -0.1),
        ("queue_bytes", 1513),
        ("queue_bytes", 64e3),
        ("mtu_bytes", 575),
    ],
)
def test_a_value_outside_its_range_is_refused_by_name(field: str, value: Any) -> None:
    """Name, value received, value expected."""
    fields: dict[str, Any] = {"rate_up_bps": 64_000, "rate_down_bps": 64_000, "rtt_s": 0.04, field: value}

    with pytest.raises(LinkDescriptionError, match=f"^{field} is .*; expected ") as caught:
        LinkDescription(**fields)

    assert repr(value) in str(caught.value)


def test_the_queue_follows_each_directions_rate_unless_given() -> None:
    """The measured table: 32 KiB, 64 KiB from 256 kbit/s, 128 KiB from 10 Mbit/s."""
    by_rate = LinkDescription(rate_up_bps=64_000, rate_down_bps=1_000_000)
    given = LinkDescription(rate_up_bps=64_000, rate_down_bps=1_000_000, queue_bytes=20_000)

    assert (by_rate.up.queue_bytes, by_rate.down.queue_bytes) == (32_768, 65_536)
    assert (given.up.queue_bytes, given.down.queue_bytes) == (20_000, 20_000)
    assert [default_queue_bytes(rate) for rate in (255_999, 256_000, 9_999_999, 10_000_000)] == [
        32_768,
        65_536,
        65_536,
        131_072,
    ]


def test_a_round_trip_is_delay_plus_the_frame_on_both_lines() -> None:
    """rtt + 8 × (n + 42) × (1/up + 1/down)."""
    description = LinkDescription(rate_up_bps=64_000, rate_down_bps=256_000, rtt_s=0.05)

    assert description.udp_round_trip_s(158) == pytest.approx(0.05 + 0.025 + 0.00625)
