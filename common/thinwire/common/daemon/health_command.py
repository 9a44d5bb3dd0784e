"""`thinwire health` and `thinwire-cloud health`: one question to a daemon, for checks of containers."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from typing import Any

from thinwire.common.config import Seconds, check_fields
from thinwire.common.daemon.exit_codes import ExitCode
from thinwire.common.daemon.options import CommandParser, add_options, from_arguments, peer_address
from thinwire.common.daemon.standard_streams import writing_output
from thinwire.common.door.security import ClientSecurity, DialOptions
from thinwire.common.errors import ThinwireError, TransportError


@dataclass(frozen=True, slots=True)
class HealthOptions:
    """How a daemon is asked."""

    timeout_s: Seconds = 3.0
    """How long to wait for the answer."""

    def __post_init__(self) -> None:
        check_fields(self)


def add_peer(parser: CommandParser, peer: str, default: str) -> None:
    """Add the address of a daemon, "edge" or "cloud", as the option of that name, and how it is dialled."""
    parser.add_argument(
        f"--{peer}",
        dest="peer",
        type=peer_address,
        default=default,
        metavar="HOST:PORT",
        help=f"the {peer} to ask (default %(default)s)",
    )
    add_options(parser, DialOptions, f"getting into the {peer}")


def add_health_command(commands: Any, *, peer: str, default: str) -> None:
    """Add the subcommand `health`, for a `peer` as in `add_peer`."""

    def fill(parser: CommandParser) -> None:
        add_peer(parser, peer, default)
        add_options(parser, HealthOptions, "the question")

    summary = f"ask once, without a token, whether the {peer} is SERVING (0), NOT_SERVING (1) or silent (5)"
    commands.add_parser("health", fill=fill, help=summary)


async def health_asked(arguments: argparse.Namespace, service: str) -> ExitCode:
    """Ask once, as `add_health_command` understood it, and print a sentence; ConfigError by the options."""
    options = from_arguments(HealthOptions, arguments)
    security = from_arguments(DialOptions, arguments).security(os.environ)
    code, sentence = await health(arguments.peer, service, security, timeout_s=options.timeout_s)
    with writing_output():
        print(sentence)
    return code


async def health(
    at: str, service: str, security: ClientSecurity, *, timeout_s: float
) -> tuple[ExitCode, str]:
    """
    Ask once, whether a service, by its full name, serves at HOST:PORT; a code and a sentence.

    OK stands for SERVING, FAILED for anything else that it answers, UNREACHABLE for no answer.
    """
    from thinwire.common import wire  # here, so that a command line is understood without gRPC

    async with wire.open_channel(at, security) as channel:
        try:
            status = await wire.serving_status(channel, service, timeout_s=timeout_s)
        except TransportError as error:
            mistaken = await wire.wrong_protection(at, security, option="--ca")
            return ExitCode.UNREACHABLE, f"{at} does not answer: {mistaken or error.message}"
        except ThinwireError as error:
            return ExitCode.FAILED, f"{at} refuses: {error.message}"
    return ExitCode.OK if status == "SERVING" else ExitCode.FAILED, f"{service} at {at}: {status}"
