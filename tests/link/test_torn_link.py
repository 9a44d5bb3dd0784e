"""A link that is down for seconds in the middle of a text, twice; the text does not show it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bench.link.description import LinkDescription
from bench.link.devices import DEVICE
from bench.link.link import End, NamespaceLink

ROOT = Path(__file__).resolve().parents[2]
DOWN_S = 5.0
TOKENS = 400
PORT = 7071
START_TIMEOUT_S = 20.0
LINE = LinkDescription(rate_up_bps=64_000, rate_down_bps=64_000)
"""Slow enough that a text lasts seconds."""
GENERATE = (
    "generate", "abc", "--edge", f"127.0.0.1:{PORT}", "--max-tokens", str(TOKENS), "--seed", "5",
    "--scheme", "c-sqs", "--ignore-eos", "--json", "--timeout", "60",
)  # fmt: skip


def start(end: End, *command: str) -> subprocess.Popen[str]:
    """`python -m COMMAND` at one end."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    process: subprocess.Popen[str] = end.popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
    return process


def wait_for_edge(end: End) -> None:
    """Until it answers and reaches its cloud."""
    give_up_s = time.monotonic() + START_TIMEOUT_S
    while True:
        with start(end, "edge", "status", "--edge", f"127.0.0.1:{PORT}", "--json") as status:
            shown, _ = status.communicate(timeout=START_TIMEOUT_S)
        if status.returncode == 0 and json.loads(shown)["cloud_info"] is not None:
            return
        assert time.monotonic() < give_up_s, shown


def generate(end: End, *, cuts: int) -> tuple[list[int], dict[str, Any]]:
    """
    One text by the command-line client at the edge, the link going down on the way.

    Returns:
        (token ids, statistics).
    """
    ids: list[int] = []
    statistics: dict[str, Any] = {}
    with start(end, "edge", *GENERATE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "token":
                ids.append(event["token_id"])
            else:
                statistics = event
            if cuts and len(ids) > 100 * (3 - cuts):
                cuts -= 1
                end.run(["ip", "link", "set", DEVICE, "down"], check=True)
                time.sleep(DOWN_S)
                end.run(["ip", "link", "set", DEVICE, "up"], check=True)
    assert process.returncode == 0
    return ids, statistics


@pytest.mark.slow
def test_a_link_that_is_down_for_five_seconds_twice_changes_no_token() -> None:
    """The streams are given up and resumed (TCP alone would heal such a cut, later)."""
    with NamespaceLink(LINE, kind="tc", congestion_control="cubic", seed=0) as link, ExitStack() as daemons:
        cloud_address = f"{link.cloud.address}:{PORT}"
        for end, command in (
            (link.cloud, ("cloud", cloud_address)),
            (link.edge, ("edge", f"127.0.0.1:{PORT}", cloud_address)),
        ):
            daemon = daemons.enter_context(start(end, "tests.faults.daemons", *command))
            daemons.callback(daemon.terminate)
        wait_for_edge(link.edge)
        calm, _ = generate(link.edge, cuts=0)
        torn, statistics = generate(link.edge, cuts=2)

    assert len(calm) == TOKENS
    assert torn == calm
    assert statistics["reconnects"] >= 2
