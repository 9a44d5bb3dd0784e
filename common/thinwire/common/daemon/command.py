"""Run a command of either program: errors are one sentence on standard error and an exit code."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from thinwire.common.daemon.exit_codes import ExitCode
from thinwire.common.daemon.options import CommandParser, as_typed, option_names
from thinwire.common.daemon.standard_streams import OutputError, prepare_streams, writing_output
from thinwire.common.errors import ConfigError, ThinwireError

_CODES = {
    "INVALID_ARGUMENT": ExitCode.USAGE,
    "OUT_OF_RANGE": ExitCode.USAGE,
    "UNAVAILABLE": ExitCode.UNREACHABLE,
}
"""By the status of a failed call."""


def run_command(
    parser: CommandParser,
    command: Callable[[argparse.Namespace], int | Coroutine[Any, Any, int]],
    argv: Sequence[str] | None,
) -> int:
    """
    Understand a command line (None: the process's own) and do what it says; returns the exit code.

    `command` gets the arguments; what it returns is run to its end if it is a coroutine.
    """
    prepare_streams()
    try:
        with writing_output():  # --help does
            arguments = parser.parse_args(argv)
        result = command(arguments)
        return int(result if isinstance(result, int) else asyncio.run(result))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return ExitCode.OK
    except ConfigError as error:
        sentence, code = as_typed(error, option_names(arguments)), ExitCode.USAGE
    except ThinwireError as error:
        code = _CODES.get(error.status, ExitCode.FAILED)
        sentence = f"{error.message} [{error.status}]"
    except OutputError as error:
        sentence, code = str(error), ExitCode.FAILED
    print(f"{parser.prog}: {sentence}", file=sys.stderr)
    return code
