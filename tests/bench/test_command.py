"""The command: it estimates before it runs, and there is no run without a link."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m bench.grid`."""
    return subprocess.run(
        [sys.executable, "-m", "bench.grid", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_estimate_alone_runs_nothing(tmp_path: Path) -> None:
    """And leaves nothing."""
    done = command("--short", "--paced", "120,2", "--estimate", "--out", str(tmp_path / "out"))

    assert done.returncode == 0
    assert "short: about " in done.stderr
    assert "198 texts" in done.stderr
    assert "paced: a target pass lasts max(measured, 120 ms + 2 ms x tokens)" in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_a_link_nothing_is_measured(tmp_path: Path) -> None:
    """Where the tools of the link are missing the run stops; it never falls back to bare loopback."""
    done = command("--smoke", "--out", str(tmp_path / "out"), PATH=str(tmp_path))

    assert done.returncode == 4
    assert done.stderr.splitlines()[-1] == "bench.grid: nsenter is missing; it comes with util-linux."
    assert not (tmp_path / "out" / "generations.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--smoke", "--methods", "telepathy"], "method is 'telepathy'; expected one of"),
        (["--smoke", "--methods", "c-sqs", "c-sqs"], "expected no name twice"),
        (["--smoke", "--tokens", "0"], "tokens is 0; expected at least 1"),
        (["--smoke", "--prompts", "/nowhere"], "/nowhere cannot be read"),
        (["--smoke", "--paced", "fast"], "expected A_MS,B_MS"),
        (["--smoke", "--pair", "/nowhere"], "no target model in /nowhere"),
    ],
)
def test_bad_usage_ends_with_2_and_a_sentence(tmp_path: Path, arguments: list[str], words: str) -> None:
    """Before anything is started or written."""
    done = command(*arguments, "--out", str(tmp_path / "out"))

    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "out").exists()
