"""Two side-cars in two network namespaces, over a fast veth pair that stands for the containers' network."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from link.description import LinkDescription
from link.link import NamespaceLink
from link.self_test import Scope, run_self_test

ROOT = Path(__file__).resolve().parents[2]
CONTAINER_NETWORK = LinkDescription(rate_up_bps=1_000_000_000, rate_down_bps=1_000_000_000)
DESCRIPTION = LinkDescription(rate_up_bps=512_000, rate_down_bps=2_000_000, rtt_s=0.04, mtu_bytes=1400)
OPTIONS = ["--up", "512k", "--down", "2M", "--rtt-ms", "40"]
START = (
    f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); "
    "runpy.run_module('link.sidecar', run_name='__main__')"
)
"""With -I -S: the standard library and this checkout, nothing installed."""
EDGE_ADDRESS, CLOUD_ADDRESS = "10.79.0.1", "10.79.0.2"


def sidecar(network: NamespaceLink, name: str, *options: str) -> subprocess.Popen[str]:
    """One side-car in the namespace of one end."""
    end, address, peer_address = (
        (network.edge, EDGE_ADDRESS, CLOUD_ADDRESS)
        if name == "edge"
        else (network.cloud, CLOUD_ADDRESS, EDGE_ADDRESS)
    )
    return end.popen(
        [
            *(sys.executable, "-I", "-S", "-c", START, "--end", name, *OPTIONS, "--peer", end.peer_address),
            *("--address", address, "--peer-address", peer_address, *options),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_side_cars_make_the_link_their_description_says(tmp_path: Path) -> None:
    """The same self-test as the wire's, between the TUN addresses; counters at the end."""
    with NamespaceLink(CONTAINER_NETWORK, kind="tc", congestion_control="cubic", seed=0) as network:
        sidecars = [
            sidecar(network, "cloud", "--ready-file", str(tmp_path / "ready")),
            sidecar(network, "edge"),
        ]
        ready = [json.loads(process.stdout.readline()) for process in sidecars]
        namespaces = replace(network.namespaces, edge_address=EDGE_ADDRESS, cloud_address=CLOUD_ADDRESS)
        report = run_self_test(
            namespaces, DESCRIPTION, Scope(round_trips=True, loss=True), probes=3, flood_s=0.6
        )
        for process in sidecars:
            process.send_signal(signal.SIGTERM)
        ended = [json.loads(process.communicate(timeout=5)[0]) for process in sidecars]

    assert report.passed
    assert [line["end"] for line in ready] == ["cloud", "edge"]
    assert (tmp_path / "ready").exists()
    assert [process.returncode for process in sidecars] == [0, 0]
    assert all(line["event"] == "ended" and line["carried_packets"] > 40 for line in ended)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--up", "1k"], "rate_up_bps is 1000; expected"),
        (["--peer-timeout-s", "0.3"], "no answer from 10.78.0.2:7171 in 0 s"),
    ],
)
def test_a_side_car_that_cannot_serve_says_why_in_a_sentence(options: list[str], message: str) -> None:
    """Exit code 1, no trace."""
    with NamespaceLink(CONTAINER_NETWORK, kind="tc", congestion_control="cubic", seed=0) as network:
        process = sidecar(network, "edge", *options)
        _, errors = process.communicate(timeout=10)

    assert process.returncode == 1
    assert errors.startswith("sidecar: ")
    assert message in errors
    assert "Traceback" not in errors
