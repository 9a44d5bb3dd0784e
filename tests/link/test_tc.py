"""tc: the commands it gives, and a real token bucket in both directions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from link.description import LinkDescription
from link.errors import LinkRefusedError
from link.link import NamespaceLink
from link.self_test import Scope, run_self_test
from link.tc import burst_bytes, qdisc_commands

DESCRIPTION = LinkDescription(
    rate_up_bps=1_000_000, rate_down_bps=4_000_000, rtt_s=0.04, jitter_s=0.002, loss=0.01
)


@pytest.fixture(scope="module")
def tc() -> Iterator[NamespaceLink]:
    """One link for the module."""
    with NamespaceLink(DESCRIPTION, kind="tc", congestion_control="cubic", seed=0) as link:
        yield link


@pytest.mark.parametrize(("rate_bps", "burst"), [(64_000, 1600), (1_000_000, 1600), (10_000_000, 5000)])
def test_the_bucket_holds_one_frame_or_one_tick(rate_bps: int, burst: int) -> None:
    """The measured table of bursts."""
    assert burst_bytes(rate_bps, 1500) == burst


def test_without_netem_there_is_a_bucket_alone() -> None:
    """Rate, burst and queue, in units tc cannot misread."""
    (command,) = qdisc_commands(DESCRIPTION.up, mtu_bytes=1500, netem=False)

    assert " ".join(command) == ("tc qdisc replace dev link0 root tbf rate 1000000bit burst 1600 limit 65536")


def test_with_netem_delay_jitter_and_loss_come_before_the_bucket() -> None:
    """Half the round trip at either end."""
    commands = qdisc_commands(DESCRIPTION.up, mtu_bytes=1500, netem=True)

    assert [" ".join(command) for command in commands] == [
        "tc qdisc replace dev link0 root handle 1: netem delay 20.000ms 2.000ms loss 1.0000% limit 100000",
        "tc qdisc add dev link0 parent 1:1 handle 10: tbf rate 1000000bit burst 1600 limit 65536",
    ]


def test_the_bucket_keeps_its_rate_and_says_what_it_lacks(tc: NamespaceLink) -> None:
    """Within 1 % both ways; round trips are neither tested nor claimed."""
    report = tc.self_test(flood_s=0.6)
    described = tc.describe()

    assert report.passed
    assert report.round_trips == ()
    assert described["throughput_only"] is True
    assert "serialisation" in described["lacks"]
    assert described["netem"] or {"rtt", "jitter", "loss"} <= set(described["lacks"])
    assert not any(described["ends"]["edge"]["offloads"].values())


def test_a_bucket_that_lies_about_its_rate_is_refused(tc: NamespaceLink) -> None:
    """1.05 Mbit/s said, 1 Mbit/s had."""
    lie = LinkDescription(rate_up_bps=1_050_000, rate_down_bps=4_000_000)

    with pytest.raises(LinkRefusedError, match="The rate up was "):
        run_self_test(
            tc.namespaces, lie, Scope(round_trips=False, loss=False, warm_up_bytes=(3200, 4000)), flood_s=0.4
        )


def test_a_bucket_would_fail_as_a_line(tc: NamespaceLink) -> None:
    """Why it reports throughput only: after a pause it lets a message through at once."""
    with pytest.raises(LinkRefusedError, match="A round trip of 1200 B took "):
        run_self_test(tc.namespaces, DESCRIPTION, Scope(round_trips=True, loss=False), probes=3, tries=1)
