"""Both side-cars as docker compose starts them, in two namespaces that stand for the containers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from link.description import LinkDescription
from link.link import NamespaceLink

ROOT = Path(__file__).resolve().parents[2]
CONTAINER_NETWORK = LinkDescription(rate_up_bps=1_000_000_000, rate_down_bps=1_000_000_000)
ADDRESSES = {"edge": "10.79.0.1", "cloud": "10.79.0.2"}
SELF_TEST_TIMEOUT_S = 90.0


@pytest.fixture
def network() -> Iterator[NamespaceLink]:
    """The containers' own network."""
    with NamespaceLink(CONTAINER_NETWORK, kind="tc", congestion_control="cubic", seed=0) as network:
        yield network


def side_car(network: NamespaceLink, name: str, shared: Path, down: str) -> subprocess.Popen[str]:
    """One of them, on the folder both see."""
    end, other = (network.edge, "cloud") if name == "edge" else (network.cloud, "edge")
    return end.popen(
        [
            *(sys.executable, "-m", "deploy.side_car", name, "--peer", end.peer_address),
            *("--up", "512k", "--down", down, "--rtt-ms", "40", "--shared", str(shared)),
            *("--address", ADDRESSES[name], "--peer-address", ADDRESSES[other]),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


def said_until_tested(edge: subprocess.Popen[str]) -> str:
    """What it printed up to the last figure of a link that passed, or to its end."""
    assert edge.stdout is not None
    said = ""
    for line in edge.stdout:
        said += line
        if line.startswith("link:   down "):
            break
    return said


def test_the_edges_side_car_tests_the_link_with_a_socket_of_the_clouds(
    network: NamespaceLink, tmp_path: Path
) -> None:
    """Neither has entered the other's namespace; the report is that of a wire."""
    cloud, edge = (side_car(network, name, tmp_path, "2M") for name in ("cloud", "edge"))
    said = said_until_tested(edge)
    for process in (edge, cloud):
        process.terminate()
        said += process.communicate(timeout=10)[0]
    report = json.loads((tmp_path / "link.json").read_text())

    assert report["passed"], said
    assert {rate["direction"] for rate in report["self_test"]["rates"]} == {"up", "down"}
    assert report["device"] == "thinwire0"
    assert set(report["ends"]) == {"edge", "cloud"}
    assert (edge.returncode, cloud.returncode) == (0, 0)
    assert said.count('"event": "ended"') == 2


def test_a_link_that_is_not_what_it_says_is_refused_and_ended(network: NamespaceLink, tmp_path: Path) -> None:
    """The cloud's side-car sends a tenth slower than the edge's says."""
    cloud, edge = side_car(network, "cloud", tmp_path, "1800k"), side_car(network, "edge", tmp_path, "2M")
    said = edge.communicate(timeout=SELF_TEST_TIMEOUT_S)[0]
    cloud.terminate()
    cloud.communicate(timeout=10)
    report = json.loads((tmp_path / "link.json").read_text())

    assert edge.returncode == 3, said
    assert not report["passed"]
    # A long packet's round trip is too long already, by more or less than its tolerance; it is judged first.
    assert any("rate down" in fault or "A round trip" in fault for fault in report["faults"]), report[
        "faults"
    ]
    assert not any("rate up" in fault for fault in report["faults"]), report["faults"]
    assert "REFUSED" in said
