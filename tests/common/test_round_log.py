"""The round log on a disk that is full: lines are lost, texts are not."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from loopback import generate, loopback, make_request
from tests.integration.operations import VOCABULARY, models
from thinwire.edge.telemetry import RoundLog

ROOT = Path(__file__).resolve().parents[2]


async def test_a_round_log_on_a_full_disk_costs_no_text(caplog: pytest.LogCaptureFixture) -> None:
    """The same text as without one, one warning for all the lines, and an end in good order."""
    texts = []
    for path in ("/dev/null", "/dev/full"):
        log = RoundLog(path)
        async with loopback(*models(), VOCABULARY, round_log=log) as both:
            texts.append(await generate(both.client, make_request(max_tokens=24)))
        log.close()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    assert texts[1].token_ids == texts[0].token_ids
    assert texts[1].finished.statistics.rounds > 1
    assert warnings == ["1 lines of the round log /dev/full are lost so far (No space left on device)"]


def test_lost_lines_are_counted_and_warned_of_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """The count is of all."""
    times = (0.0, 1.0, 59.0, 60.0, 61.0)
    clock = iter(times)
    log = RoundLog("/dev/full", clock=lambda: next(clock))
    for _ in times:
        log.write("{}")
    log.close()

    assert [record.getMessage().partition(" ")[0] for record in caplog.records] == ["1", "4"]


async def test_a_line_torn_by_a_full_disk_spoils_none_of_the_later_ones(tmp_path: Path) -> None:
    """What is written when there is room again begins on a line of its own."""
    path = tmp_path / "rounds"
    program = (
        "import resource; from thinwire.edge.telemetry import RoundLog\n"
        f"log = RoundLog({str(path)!r})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))\n"
        "for n in range(3): log.write('{\"line\": %d}' % n)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "for n in range(3, 5): log.write('{\"line\": %d}' % n)"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), stderr=asyncio.subprocess.PIPE, cwd=ROOT
    )
    _, err = await asyncio.wait_for(process.communicate(), 60)
    lines = path.read_text().splitlines()

    assert b"lost so far" in err
    assert lines[1] == '{"line":'
    assert [json.loads(line)["line"] for line in (lines[0], *lines[2:])] == [0, 3, 4]
