"""Short campaigns over real daemons; `tests/test_in_memory_pair.py` is their fast twin."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.campaign import run_campaign


async def check(folder: Path, *, generations: int, seed: int, model: str, pause_s: float) -> None:
    """Run a campaign that has met every kind of fault."""
    report = await run_campaign(folder, generations=generations, seed=seed, model=model, pause_s=pause_s)

    assert not report.failures, report.lines()
    assert report.equal == generations, report.lines()
    assert report.sessions_left == 0, report.lines()
    assert len(report.faults) == 7, report.lines()
    assert report.reconnects > 0, report.lines()
    assert report.rebuilds > 0, report.lines()


@pytest.mark.slow
async def test_no_text_is_lost_repeated_or_changed(tmp_path: Path) -> None:
    """Table models: the storm outlasts the texts' own time many times over."""
    await check(tmp_path, generations=16, seed=7, model="table", pause_s=0.1)


@pytest.mark.slow
async def test_no_text_of_the_bundled_pair_is_lost_repeated_or_changed(tmp_path: Path) -> None:
    """The real models in float64, with real daemons."""
    await check(tmp_path, generations=8, seed=3, model="pair", pause_s=0.2)
