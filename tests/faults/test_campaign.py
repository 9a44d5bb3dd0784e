"""
A short campaign over real daemons and table models; `make test-faults` runs long ones, the bundled pair too.

`tests/test_in_memory_pair.py` is its fast twin.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.campaign import SCHEMES, run_campaign

GENERATIONS = 16


@pytest.mark.slow
@pytest.mark.parametrize("schemes", [SCHEMES, ("coupled",)], ids=["all", "coupled"])
async def test_no_text_is_lost_repeated_or_changed(tmp_path: Path, schemes: tuple[str, ...]) -> None:
    """
    The storm outlasts the texts' own time many times over and has met every kind of fault.

    Its stalls are short, but the longest still outlast a round's deadline, which is 0.3 s at the least.
    """
    report = await run_campaign(
        tmp_path, generations=GENERATIONS, seed=7, model="table", schemes=schemes, pause_s=0.05, hold_s=0.8
    )

    assert not report.failures, report.lines()
    assert report.equal == GENERATIONS, report.lines()
    assert report.sessions_left == 0, report.lines()
    assert len(report.faults) == 7, report.lines()
    assert report.reconnects > 0, report.lines()
    if schemes == SCHEMES:  # texts of a target that writes by itself are short beside a restart of its cloud
        assert report.rebuilds > 0, report.lines()
