"""Greedy sessions from eight threads beside two busy loops: every one gets the target's own text."""

from __future__ import annotations

from pathlib import Path

from faults.crowd import run_crowd

SESSIONS = 200
"""`make test-faults` runs ten times as many."""


async def test_no_session_of_a_crowd_gets_another_text(tmp_path: Path) -> None:
    """The first round follows its Open at once; the prompt is in the cache before it is scored."""
    crowd = await run_crowd(tmp_path, SESSIONS, longest_s=60.0)

    assert crowd.wrong == []
    assert crowd.failed == []
    assert crowd.right == SESSIONS
    assert "Traceback" not in (tmp_path / "cloud.log").read_text()
