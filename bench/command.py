"""What the commands of `bench` share: errors as one sentence and an exit code, Ctrl-C and SIGTERM alike."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from bench.grid.records import RecordError
from bench.grid.store import StoreError
from link.errors import LinkDescriptionError, LinkError, LinkRefusedError, LinkUnavailableError
from thinwire.common.daemon.launcher import DaemonDiedError
from thinwire.common.errors import ConfigError

FAILED, USAGE, REFUSED, UNAVAILABLE, INTERRUPTED = 1, 2, 3, 4, 130
"""Exit codes: something failed; bad usage or input; a link is not what it says; no link; Ctrl-C."""
GOES_ON = "interrupted; the same command goes on from here."


class CommandError(Exception):
    """A failure that a command foresaw; the message says it all."""


_CODES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], int], ...] = (
    ((ConfigError, StoreError, RecordError, LinkDescriptionError), USAGE),
    (LinkUnavailableError, UNAVAILABLE),
    (LinkRefusedError, REFUSED),
    ((LinkError, DaemonDiedError, CommandError), FAILED),
)
"""The first that fits holds."""


def run(name: str, work: Callable[[], int], *, interrupted: str = GOES_ON) -> int:
    """
    A command's work; what it raises becomes one sentence on standard error and an exit code.

    Args:
        name: of the command, before the sentence.
        work: returns the exit code of its own.
        interrupted: the sentence after Ctrl-C or SIGTERM.

    Returns:
        the exit code. Errors that are none of bench's own go through: they are bugs.
    """
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return work()
    except KeyboardInterrupt:
        code, words = INTERRUPTED, interrupted
    except Exception as error:
        known = next((code for kinds, code in _CODES if isinstance(error, kinds)), None)
        if known is None:
            raise
        code, words = known, getattr(error, "message", str(error))
    finally:
        signal.signal(signal.SIGTERM, before)
    print(f"{name}: {words}", file=sys.stderr)
    return code


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Of `python -m NAME`; the description is printed as it is written."""
    return argparse.ArgumentParser(
        allow_abbrev=False,
        prog=f"python -m {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def options(
    name: str, description: str | None, argv: Sequence[str] | None, **known: tuple[int | Path, str]
) -> argparse.Namespace:
    """Options that are folders or whole numbers from 1 up: the default and the help of each, by its name."""
    made = parser(name, description)
    for option, (default, words) in known.items():
        kind, metavar = (int, "N") if isinstance(default, int) else (Path, "DIR")
        flag, words = f"--{option.replace('_', '-')}", f"{words} (default: %(default)s)"
        made.add_argument(flag, type=kind, metavar=metavar, default=default, help=words)
    given = made.parse_args(argv)
    for option, value in vars(given).items():
        if isinstance(value, int) and value < 1:
            made.error(f"--{option.replace('_', '-')} is {value}; expected at least 1")
    return given


def run_on_folder(
    name: str, description: str | None, words: Callable[[Path], str], argv: Sequence[str] | None
) -> int:
    """A command of one argument, a run's folder, that prints some words; returns the exit code."""
    made = parser(name, description)
    made.add_argument("folder", type=Path, metavar="DIR")
    folder: Path = made.parse_args(argv).folder

    def work() -> int:
        print(words(folder), end="")
        return 0

    return run(name, work)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
