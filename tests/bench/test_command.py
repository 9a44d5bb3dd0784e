"""The commands: the grid estimates before it runs, and there is no run without a link."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import command
from bench.grid.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


def test_the_estimate_alone_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And leaves nothing."""
    arguments = ["--short", "--paced", "120,2", "--estimate", "--out", str(tmp_path / "out")]

    assert main(arguments) == 0
    words = capsys.readouterr().err
    assert "short: about " in words
    assert "198 texts" in words
    assert "paced: a target pass lasts max(measured, 120 ms + 2 ms x tokens)" in words
    assert not (tmp_path / "out").exists()


def test_without_a_link_nothing_is_measured(tmp_path: Path) -> None:
    """Where the tools of the link are missing the run stops; it never falls back to bare loopback."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.grid", "--smoke", "--out", str(tmp_path / "out")],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 4
    assert done.stderr.splitlines()[-1] == "bench.grid: nsenter is missing; it comes with util-linux."
    assert not (tmp_path / "out" / "generations.jsonl").exists()


def code_of(arguments: list[str]) -> int | str | None:
    """The exit code, by whichever way `main` ends."""
    try:
        return main(arguments)
    except SystemExit as ended:  # argparse
        return ended.code


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
def test_bad_usage_ends_with_2_and_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """Before anything is started or written."""
    assert code_of([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_numbers_and_folders_of_a_command_have_defaults_and_bounds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An option for each name; a number below 1 is refused with the option as it was typed."""
    known = {"texts_each": (3, "texts"), "pair": (Path("pair"), "models")}
    given = command.options("bench.tried", None, ["--pair", "other"], **known)

    assert (given.texts_each, given.pair) == (3, Path("other"))
    with pytest.raises(SystemExit):
        command.options("bench.tried", None, ["--texts-each", "0"], **known)
    assert "--texts-each is 0; expected at least 1" in capsys.readouterr().err
