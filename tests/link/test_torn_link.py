"""A link that is down for seconds in the middle of a text, twice; the text does not show it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from faults.daemons import make_server
from link.description import LinkDescription
from link.devices import DEVICE
from link.link import End, NamespaceLink
from loopback import make_request
from thinwire.common.daemon.launcher import Daemon
from thinwire.edge.client import connect

ROOT = Path(__file__).resolve().parents[2]
PATHS = (str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", ""))
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}
DOWN_S = 5.0
TOKENS = 400
PORT = 7071
LINE = LinkDescription(rate_up_bps=64_000, rate_down_bps=64_000)
"""Slow enough that a text lasts seconds."""
REQUEST: dict[str, Any] = {"max_tokens": TOKENS, "seed": 5, "scheme": "c-sqs", "ignore_eos": True}
GENERATE = (
    "generate", "abc", "--edge", f"127.0.0.1:{PORT}", "--max-tokens", str(TOKENS), "--seed", "5",
    "--scheme", "c-sqs", "--ignore-eos", "--json", "--timeout", "60",
)  # fmt: skip
"""The same request by the command-line client."""


async def calm_text() -> list[int]:
    """Token ids of the same text by the same two models, on loopback and undisturbed."""
    cloud = make_server("cloud", "")
    address = f"127.0.0.1:{await cloud.start('127.0.0.1:0')}"
    edge = make_server("edge", address)
    ids: list[int] = []
    try:
        port = await edge.start("127.0.0.1:0")
        async with connect(f"127.0.0.1:{port}", event_timeout_s=60.0) as client:
            async for event in client.events(make_request("abc", **REQUEST)):
                ids += [token.token_id for token in event] if isinstance(event, tuple) else []
    finally:
        await edge.stop(0)
        await cloud.stop(0)
    return ids


def torn_text(end: End) -> tuple[list[int], dict[str, Any]]:
    """
    The text by the command-line client at the edge, the link going down twice on the way.

    Returns:
        (token ids, statistics).
    """
    ids: list[int] = []
    statistics: dict[str, Any] = {}
    cuts = 0
    command = [sys.executable, "-m", "thinwire.edge", *GENERATE]
    with end.popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "token":
                ids.append(event["token_id"])
            else:
                statistics = event
            if cuts < 2 and len(ids) > 100 * (cuts + 1):
                cuts += 1
                end.run(["ip", "link", "set", DEVICE, "down"], check=True)
                time.sleep(DOWN_S)
                end.run(["ip", "link", "set", DEVICE, "up"], check=True)
    assert process.returncode == 0
    return ids, statistics


@pytest.mark.slow
def test_a_link_that_is_down_for_five_seconds_twice_changes_no_token(tmp_path: Path) -> None:
    """The streams are given up and resumed (TCP alone would heal such a cut, later)."""
    with NamespaceLink(LINE, kind="tc", congestion_control="cubic", seed=0) as link:
        cloud_address = f"{link.cloud.address}:{PORT}"
        for end, role, listen in (
            (link.cloud, "cloud", cloud_address),
            (link.edge, "edge", f"127.0.0.1:{PORT}"),
        ):
            daemon = Daemon(role, tmp_path, listen=listen, popen=end.popen)
            daemon.start("tests.faults.daemons", role, "--cloud", cloud_address, environment=ENVIRONMENT)
            asyncio.run(daemon.address())
        torn, statistics = torn_text(link.edge)
    calm = asyncio.run(calm_text())

    assert len(calm) == TOKENS
    assert torn == calm
    assert statistics["reconnects"] >= 2
