"""When the edge may serve: what its side-car wrote of the link, and whether that is the link it has now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.link_report import LinkState, read_verdict, write_report

PASSED: dict[str, Any] = {
    "passed": True,
    "faults": [],
    "namespace": 4,
    "device": "thinwire0",
    "self_test": {"tries": 2},
}


def state(folder: Path, *, namespace: int = 4, devices: tuple[str, ...] = ("lo", "thinwire0")) -> LinkState:
    """As a container in that namespace sees it."""
    return read_verdict(folder, namespace=namespace, present_devices=set(devices)).state


def test_without_a_report_the_link_is_untested(tmp_path: Path) -> None:
    """The side-car may not even be there."""
    assert state(tmp_path) is LinkState.UNTESTED


def test_a_report_counts_only_in_the_namespace_it_was_made_in(tmp_path: Path) -> None:
    """A container that was started again has another namespace, and its side-car is still in the old one."""
    write_report(tmp_path, PASSED)

    assert state(tmp_path) is LinkState.PASSED
    assert state(tmp_path, namespace=5) is LinkState.UNTESTED


def test_a_link_without_its_device_is_gone(tmp_path: Path) -> None:
    """The device ends with the side-car."""
    write_report(tmp_path, PASSED)

    assert state(tmp_path, devices=("lo", "eth0")) is LinkState.GONE


def test_a_refused_link_says_why(tmp_path: Path) -> None:
    """Every fault of the self-test is in the sentence."""
    write_report(tmp_path, {**PASSED, "passed": False, "faults": ["Too slow.", "Too late."]})
    verdict = read_verdict(tmp_path, namespace=4, present_devices={"thinwire0"})

    assert verdict.state is LinkState.REFUSED
    assert "REFUSED" in verdict.sentence
    assert verdict.sentence.endswith("Too slow. Too late.")


@pytest.mark.parametrize("mode", ["passed", "refused"])
def test_the_report_is_readable_for_the_edge(tmp_path: Path, mode: str) -> None:
    """The edge's user is not root; the side-car is."""
    write_report(tmp_path, {**PASSED, "passed": mode == "passed"})
    (report,) = tmp_path.iterdir()

    assert report.stat().st_mode & 0o777 == 0o644
