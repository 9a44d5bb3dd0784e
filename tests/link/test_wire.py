"""The wire from end to end: what it says, what it refuses to say, what it counts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from link.description import LinkDescription
from link.errors import LinkBrokenError, LinkDescriptionError, LinkRefusedError, LinkUnavailableError
from link.link import NamespaceLink, open_link
from link.self_test import Scope, run_self_test

DESCRIPTION = LinkDescription(rate_up_bps=512_000, rate_down_bps=2_000_000, rtt_s=0.04)
SEND_HUNDRED = (
    "import socket; [socket.socket(socket.AF_INET, 2).sendto(bytes(58), ('{}', 9)) for _ in range(100)]"
)


@pytest.fixture(scope="module")
def wire() -> Iterator[NamespaceLink]:
    """One link for the module."""
    with NamespaceLink(DESCRIPTION, kind="wire", congestion_control="cubic", seed=0) as link:
        yield link


def test_nothing_is_reported_before_the_link_has_tested_itself(wire: NamespaceLink) -> None:
    """A figure from an untested link is no result."""
    with pytest.raises(LinkRefusedError, match="has not passed its self-test"):
        wire.describe()


def test_the_wire_is_what_its_description_says(wire: NamespaceLink) -> None:
    """Rate within 1 %, round trips within 2 ms; the report carries what a result must state."""
    report = wire.self_test(probes=3, flood_s=0.6)
    described = wire.describe()

    assert report.passed
    assert len(report.round_trips) == 3
    assert len(report.rates) == 2
    assert described["kind"] == "wire"
    assert described["throughput_only"] is False
    assert (described["rate_up_bps"], described["rate_down_bps"], described["rtt_s"]) == (
        512_000,
        2_000_000,
        0.04,
    )
    assert (described["queue_up_bytes"], described["queue_down_bytes"]) == (65_536, 65_536)
    for end in described["ends"].values():
        assert end["congestion_control"] == "cubic"
        assert end["offloads"] == {"tso": False, "gso": False, "gro": False}
        assert end["ipv6_off"] is True
    assert described["lateness"]["up"]["max_s"] > 0


@pytest.mark.parametrize(
    ("lie", "scope", "fault"),
    [
        pytest.param(
            LinkDescription(rate_up_bps=512_000, rate_down_bps=2_000_000, rtt_s=0.05),
            Scope(round_trips=True, loss=True),
            "A round trip of 64 B took ",
            id="rtt off by 10 ms",
        ),
        pytest.param(
            LinkDescription(rate_up_bps=256_000, rate_down_bps=2_000_000, rtt_s=0.04),
            Scope(round_trips=True, loss=True),
            "A round trip of 1200 B took ",
            id="half the rate up",
        ),
        pytest.param(
            LinkDescription(rate_up_bps=512_000, rate_down_bps=2_060_000, rtt_s=0.04),
            Scope(round_trips=False, loss=True),
            "The rate down was ",
            id="rate down off by 3 %",
        ),
    ],
)
def test_a_link_that_lies_is_refused(
    wire: NamespaceLink, lie: LinkDescription, scope: Scope, fault: str
) -> None:
    """In all three tries; the message says what was measured and what was expected."""
    with pytest.raises(LinkRefusedError, match=rf"in 3 tries; the last: .*{fault}.*expected"):
        run_self_test(wire.namespaces, lie, scope, probes=1, flood_s=0.4)


def test_the_counters_count_frames_with_their_ethernet_header(wire: NamespaceLink) -> None:
    """100 datagrams of 58 B are 100 × 100 B, by the wire and by the kernel's count of either device."""
    before, device_before = wire.counters(), wire.edge.interface_counters()
    wire.edge.run(["python3", "-c", SEND_HUNDRED.format(wire.cloud.address)], check=True)
    after, device_after = wire.counters(), wire.edge.interface_counters()

    assert after.up.carried_packets - before.up.carried_packets == 100
    assert after.up.carried_bytes - before.up.carried_bytes == 10_000
    assert device_after.sent_packets - device_before.sent_packets == 100
    assert device_after.sent_bytes - device_before.sent_bytes == 100 * (100 - 14)


def test_either_end_has_its_own_address_and_nothing_of_the_host(wire: NamespaceLink) -> None:
    """Loopback and the link; no way around the link."""
    for end in (wire.edge, wire.cloud):
        listed = end.run(["ip", "-o", "-4", "address"], check=True, capture_output=True, text=True).stdout
        devices = [line.split()[1] for line in listed.splitlines()]

        assert devices == ["lo", "link0"]
        assert f"inet {end.address} peer {end.peer_address}" in listed


def test_a_link_whose_process_was_killed_says_so_and_ends_what_ran_on_it() -> None:
    """kill -9 of the keeper: no counters, no report, and the commands end with `close`."""
    with NamespaceLink(DESCRIPTION, kind="wire", congestion_control="cubic", seed=0) as link:
        command = link.edge.popen(["sleep", "1000"])
        os.kill(link.keeper_pid, signal.SIGKILL)
        with pytest.raises(LinkBrokenError, match="has ended"):
            link.counters()

    assert command.wait(timeout=5) != 0


def test_an_unknown_congestion_control_is_refused() -> None:
    """The message lists what the kernel has; nothing is swapped silently."""
    with pytest.raises(LinkUnavailableError, match="congestion control is 'nonsense'; expected one"):
        open_link(DESCRIPTION, congestion_control="nonsense")


def test_an_unknown_kind_is_refused() -> None:
    """There is no bare loopback to fall back to."""
    with pytest.raises(LinkDescriptionError, match="kind is 'loopback'; expected one of wire, tc"):
        open_link(DESCRIPTION, kind="loopback")


def test_the_hosts_list_of_congestion_controls_is_as_before(soon) -> None:
    """It is widened for the moment of setting a namespace's own."""
    allowed = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
    before = allowed.read_text()
    open_link(DESCRIPTION).close()

    # Another link may be setting its own at this very moment.
    assert soon(lambda: allowed.read_text() == before) or "cubic" in before.split()
