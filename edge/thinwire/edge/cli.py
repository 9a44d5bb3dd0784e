"""`thinwire`: the edge daemon, and the client that talks to one; `thinwire --help` names its exit codes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Coroutine, Sequence
from typing import Any

from thinwire.common.daemon.command import run_command
from thinwire.edge.arguments import make_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    return run_command(make_parser(os.environ), _command, argv)


def _command(arguments: argparse.Namespace) -> Coroutine[Any, Any, int]:
    from thinwire.edge.commands import command  # here, so that --help waits for no library

    return command(arguments)
