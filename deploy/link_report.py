"""
What the edge's side-car found out about the link: one JSON file, on a volume that goes with its containers.

The side-car writes it, the edge's container reads it before it serves and at each health check.
A report holds for the network namespace it was made in: a container that was started again has another one,
and no link yet.
Standard library only.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

SHARED_FOLDER = Path("/run/thinwire")
REPORT_NAME = "link.json"


class LinkState(Enum):
    """The state of the link, as a service beside the side-car sees it."""

    UNTESTED = "untested"
    REFUSED = "refused"
    GONE = "gone"
    """It passed, and its device is no longer there."""
    PASSED = "passed"


@dataclass(frozen=True, slots=True)
class LinkVerdict:
    """A state, and a sentence for people."""

    state: LinkState
    sentence: str


def network_namespace() -> int:
    """The number of this process's own."""
    return os.stat("/proc/self/ns/net").st_ino


def devices() -> set[str]:
    """Names of the network devices here."""
    return {name for _, name in socket.if_nameindex()}


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Replace the report, so that a reader never sees half of it."""
    partial = folder / f"{REPORT_NAME}.partial"
    partial.write_text(json.dumps(report) + "\n")
    partial.chmod(0o644)
    partial.replace(folder / REPORT_NAME)


def read_verdict(folder: Path, *, namespace: int, present_devices: set[str]) -> LinkVerdict:
    """
    Whether the link may be used.

    Args:
        folder: of the report.
        namespace: the reader's own.
        present_devices: the reader's own.
    """
    try:
        report = json.loads((folder / REPORT_NAME).read_text())
    except FileNotFoundError:
        return LinkVerdict(LinkState.UNTESTED, "the link has not been tested yet")
    if report["namespace"] != namespace:
        return LinkVerdict(
            LinkState.UNTESTED,
            "the link has not been tested since this container started; restart the side-cars",
        )
    if not report["passed"]:
        return LinkVerdict(
            LinkState.REFUSED, f"THE LINK WAS REFUSED by its self-test: {' '.join(report['faults'])}"
        )
    if report["device"] not in present_devices:
        return LinkVerdict(
            LinkState.GONE, f"the link is gone: no device {report['device']}; its side-car ended"
        )
    return LinkVerdict(
        LinkState.PASSED, f"the link passed its self-test in try {report['self_test']['tries']}"
    )
