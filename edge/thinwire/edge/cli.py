"""
`thinwire`: the edge daemon, and the client that talks to one.

Exit codes: 0 done; 1 the generation failed, health is not SERVING, or edge and cloud are no pair; 2 bad usage
or bad input; 3 the address cannot be listened on; 4 the model cannot be loaded; 5 the edge or the cloud
cannot be reached; 130 interrupted.
Errors are one sentence on standard error.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from thinwire.common.daemon.exit_codes import ExitCode, exit_code_of
from thinwire.common.daemon.options import as_typed, option_names
from thinwire.common.daemon.standard_streams import OutputError, prepare_streams, writing_output
from thinwire.common.errors import ConfigError, ThinwireError
from thinwire.edge.arguments import make_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    prepare_streams()
    try:
        with writing_output():  # --help does
            arguments = make_parser(os.environ).parse_args(argv)
        from thinwire.edge.commands import command  # here, so that --help waits for no library

        return int(asyncio.run(command(arguments)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return ExitCode.INTERRUPTED
    except ConfigError as error:
        return _failed(as_typed(error, option_names(arguments)), ExitCode.USAGE)
    except ThinwireError as error:
        return _failed(f"{error.message} [{error.status}]", exit_code_of(error.status))
    except OutputError as error:
        return _failed(str(error), ExitCode.FAILED)
    except BrokenPipeError:
        return ExitCode.OK


def _failed(sentence: str, code: ExitCode) -> ExitCode:
    print(f"thinwire: {sentence}", file=sys.stderr)
    return code
