"""Other people's programs, each with a deadline."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class StepError(Exception):
    """A step of the test that failed; the message is what a person needs."""


def run(
    command: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    shown: bool = False,
) -> str:
    """
    Run one command to its end.

    Args:
        timeout_s: then it is killed.
        env: all of its environment; None for ours.
        shown: let its output through instead of returning it.

    Returns:
        what it printed on standard output.

    Raises:
        StepError: it failed, took too long or is not there; the message ends in the last it said.
    """
    words = " ".join(command)
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=None if shown else subprocess.PIPE,
            stderr=None if shown else subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env=env,
            cwd=cwd,
        )
    except FileNotFoundError as error:
        raise StepError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise StepError(f"`{words}` took over {timeout_s:.0f} s") from error
    if done.returncode != 0:
        said = "" if shown else "\n" + (done.stdout + done.stderr).strip()[-3000:]
        raise StepError(f"`{words}` ended with exit code {done.returncode}{said}")
    return done.stdout or ""
