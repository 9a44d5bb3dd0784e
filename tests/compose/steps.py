"""The steps of the compose test: what they say, and other people's programs with a deadline."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


class StepError(Exception):
    """A step of the test that failed; the message is what a person needs."""


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Say what happens, and how long it took."""
    print(f"compose-test: {name} ...", flush=True)
    begun_s = time.monotonic()
    try:
        yield
    except BaseException:
        print(f"compose-test: {name} FAILED after {time.monotonic() - begun_s:.1f} s", flush=True)
        raise
    print(f"compose-test: {name}: {time.monotonic() - begun_s:.1f} s", flush=True)


def say(line: str) -> None:
    """One figure or finding."""
    print(f"    {line}", flush=True)


def require(holds: bool, sentence: str) -> None:
    """StepError with the sentence if it does not hold."""
    if not holds:
        raise StepError(sentence)


def run(
    command: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """
    Run one command to its end.

    Args:
        timeout_s: then it is killed.
        env: all of its environment; None for ours.

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
            capture_output=True,
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
        said = (done.stdout + done.stderr).strip()[-3000:]
        raise StepError(f"`{words}` ended with exit code {done.returncode}\n{said}")
    return done.stdout
