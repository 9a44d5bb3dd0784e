"""Namespaces, devices and processes end with the run, whatever ends the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from link import runs

ROOT = Path(__file__).resolve().parents[2]


def is_running(command_line: bytes) -> bool:
    """Whether a process has exactly this command line."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if entry.read_bytes() == command_line:
                return True
        except OSError:
            continue
    return False


@pytest.mark.parametrize(
    ("kind", "what", "number"),
    [
        ("wire", "end", None),
        ("tc", "raise", None),
        ("wire", "wait", signal.SIGINT),
        ("wire", "wait", signal.SIGTERM),
        ("wire", "wait", signal.SIGKILL),
        ("tc", "wait", signal.SIGKILL),
    ],
)
def test_nothing_is_left(
    owner, soon, host_network, kind: str, what: str, number: signal.Signals | None
) -> None:
    """Commands at both ends, and their children in sessions of their own, end with the owner."""
    before = host_network()
    process = owner(kind, what)
    if number is not None:
        assert len(process.left_behind()) >= 5
        process.process.send_signal(number)
    process.process.communicate(timeout=10)

    assert (process.process.returncode == 0) is (what == "end")
    assert soon(lambda: process.left_behind() == []), process.left_behind()
    assert host_network() == before


def test_the_owner_and_the_links_process_killed_together_leave_no_command(owner, soon) -> None:
    """PR_SET_PDEATHSIG takes the commands, the sweep their children."""
    process = owner("wire", "wait")
    os.kill(process.facts["keeper"], signal.SIGKILL)
    process.process.kill()
    process.process.communicate(timeout=10)
    runs.sweep()

    assert soon(lambda: process.left_behind() == []), process.left_behind()


def test_the_sweep_spares_a_living_owner() -> None:
    """Its run id names a process that is there."""
    environment = {**os.environ, runs.RUN_VARIABLE: runs.new_run_id()}
    with subprocess.Popen(["sleep", "1000"], env=environment) as process:
        runs.sweep()
        still_runs = process.poll() is None
        process.kill()

    assert still_runs


def test_ctrl_c_of_the_command_line_ends_its_command_and_its_link(
    soon: Callable[[Callable[[], bool]], bool],
) -> None:
    """Exit code 130, in the middle of the command."""
    arguments = [
        "--up",
        "2M",
        "--down",
        "2M",
        "--rtt-ms",
        "2",
        "--",
        "sh",
        "-c",
        "kill -INT $PPID; exec sleep 987",
    ]
    result = subprocess.run(
        [sys.executable, "-m", "link", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )

    assert result.returncode == 130, result.stderr
    assert "self-test           passed" in result.stderr
    assert soon(lambda: not is_running(b"sleep\0987\0"))
