"""What the commands of `bench` share: errors as one sentence and an exit code, Ctrl-C and SIGTERM alike."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType

from bench.grid.processes import DaemonError
from bench.grid.records import RecordError
from bench.grid.store import StoreError
from link.errors import LinkError, LinkRefusedError, LinkUnavailableError
from thinwire.common.errors import ConfigError

FAILED, USAGE, REFUSED, UNAVAILABLE, INTERRUPTED = 1, 2, 3, 4, 130
"""Exit codes: something failed; bad usage or input; a link is not what it says; no link; Ctrl-C."""
GOES_ON = "interrupted; the same command goes on from here."


class CommandError(Exception):
    """A failure that a command foresaw; the message says it all."""


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
    except ConfigError as error:
        code, words = USAGE, error.message
    except (StoreError, RecordError) as error:
        code, words = USAGE, str(error)
    except LinkUnavailableError as error:
        code, words = UNAVAILABLE, str(error)
    except LinkRefusedError as error:
        code, words = REFUSED, str(error)
    except (LinkError, DaemonError, CommandError) as error:
        code, words = FAILED, str(error)
    except KeyboardInterrupt:
        code, words = INTERRUPTED, interrupted
    finally:
        signal.signal(signal.SIGTERM, before)
    print(f"{name}: {words}", file=sys.stderr)
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
