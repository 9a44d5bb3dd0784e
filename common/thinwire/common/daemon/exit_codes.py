"""Exit codes of the `thinwire` and `thinwire-cloud` commands; printed by `--help`."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """What `EXIT_CODES_HELP` says of each."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CANNOT_LISTEN = 3
    MODEL = 4
    UNREACHABLE = 5
    INTERRUPTED = 130


EXIT_CODES_HELP = """\
exit codes:
  0    done
  1    the generation failed (its status is printed), health is not SERVING, or edge and cloud are no pair
  2    bad usage or bad input
  3    the address cannot be listened on
  4    the model cannot be loaded, or a daemon of the demo died
  5    the edge or the cloud cannot be reached
  130  interrupted
"""
