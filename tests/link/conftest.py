"""What the tests of the link share: short self-tests, and the search for anything left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from link import runs

ROOT = Path(__file__).resolve().parents[2]
GONE_TIMEOUT_S = 5.0
POLL_S = 0.02


class Owner:
    """
    A process that owns a link of its own.

    Args:
        kind: of the link.
        what: "end", "raise" or "wait".
    """

    def __init__(self, kind: str, what: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.link.link_owner", kind, what],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.facts: dict[str, Any] = json.loads(line)

    def left_behind(self) -> list[int]:
        """Processes of the link, by their mark and by their namespace."""
        marked = [pid for pid, run_id in runs.processes_of_runs() if run_id == self.facts["run_id"]]
        return sorted({*marked, *runs.processes_in(self.facts["inodes"])})


def host_network() -> tuple[str, list[str]]:
    """What a link could leave on the host: named namespaces and devices that are called like ours."""
    names = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    return names, [device for device in os.listdir("/sys/class/net") if device.startswith("link")]


@pytest.fixture
def owner() -> Callable[[str, str], Owner]:
    """Starts a process that owns a link."""
    return Owner


@pytest.fixture
def soon() -> Callable[[Callable[[], bool]], bool]:
    """Whether something becomes true within the time a link may take to end."""

    def waits_for(condition: Callable[[], bool]) -> bool:
        give_up_at_s = time.monotonic() + GONE_TIMEOUT_S
        while not (holds := condition()) and time.monotonic() < give_up_at_s:
            time.sleep(POLL_S)
        return holds

    return waits_for


@pytest.fixture(name="host_network")
def host_network_fixture() -> Callable[[], tuple[str, list[str]]]:
    """Snapshot of what a link could leave on the host."""
    return host_network
