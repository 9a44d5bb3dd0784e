"""Sessions and texts from eight threads beside two busy loops: every one is what it must be."""

from __future__ import annotations

from pathlib import Path

from faults.crowd import run_crowd

COUNT = 200
"""Of each kind; `make test-faults` runs ten times as many."""


async def test_nobody_in_a_crowd_gets_another_text(tmp_path: Path) -> None:
    """Where the first round follows its Open at once, the prompt is in the cache before it is scored."""
    crowds = await run_crowd(tmp_path, sessions=COUNT, texts=COUNT, longest_s=60.0)

    for crowd in crowds:
        assert crowd.wrong == []
        assert crowd.failed == []
        assert crowd.right == COUNT
    for log in ("cloud.log", "edge.log"):
        assert "Traceback" not in (tmp_path / log).read_text()
