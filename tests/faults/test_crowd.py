"""Greedy sessions from eight threads beside two busy loops: every one gets the target's own text."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from faults.campaign import COMMANDS
from faults.crowd import Crowd, busy_loops
from faults.storm import Process

from common import wire


@pytest.mark.parametrize("sessions", [200, pytest.param(2000, marks=pytest.mark.slow)])
async def test_no_session_of_a_crowd_gets_another_text(sessions: int, tmp_path: Path) -> None:
    """The first round follows its Open at once; the prompt is in the cache before it is scored."""
    cloud = Process(COMMANDS["table"][0], wire.VERIFIER_SERVICE, tmp_path / "cloud.log")
    await cloud.start()
    try:
        crowd = Crowd(cloud.address)
        with busy_loops(2, longest_s=250.0):
            await asyncio.to_thread(crowd.run, sessions)
    finally:
        await cloud.stop()

    assert crowd.wrong == []
    assert crowd.failed == []
    assert crowd.right == sessions
    assert "Traceback" not in (tmp_path / "cloud.log").read_text()
