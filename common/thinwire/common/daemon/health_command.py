"""`thinwire health` and `thinwire-cloud health`: one question to a daemon, for checks of containers."""

from __future__ import annotations

import argparse
from typing import Any

from thinwire.common import wire
from thinwire.common.config import check_seconds
from thinwire.common.daemon.arguments import peer_address
from thinwire.common.daemon.exit_codes import EXIT_CODES_HELP, ExitCode
from thinwire.common.door.security import ClientSecurity
from thinwire.common.door.security_arguments import add_dialling_arguments
from thinwire.common.errors import ThinwireError, TransportError

DEFAULT_TIMEOUT_S = 3.0


def add_health_command(commands: Any, *, peer: str, default: str) -> None:
    """
    The subcommand `health`.

    Args:
        commands: of argparse.
        peer: "edge" or "cloud", which is also its option.
        default: its address.
    """
    parser = commands.add_parser(
        "health",
        help=f"whether {'an' if peer == 'edge' else 'a'} {peer} is SERVING",
        description="Ask grpc.health.v1 once; it needs no token. Exit code 0: SERVING; 1: NOT_SERVING "
        "(loading or draining); 5: no answer.",
        epilog=EXIT_CODES_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        f"--{peer}",
        dest="health_address",
        type=peer_address,
        default=default,
        metavar="HOST:PORT",
        help="whom to ask (default %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help="to wait for the answer (default %(default)g)",
    )
    add_dialling_arguments(parser, peer=peer)
    parser.add_argument(
        "--insecure-plaintext",
        action="store_true",
        help="off loopback, dial without TLS where no authority and no certificate is given",
    )


async def health(
    at: str, service: str, security: ClientSecurity, *, timeout_s: float
) -> tuple[ExitCode, str]:
    """
    Ask once.

    Args:
        at: HOST:PORT.
        service: full name of the service.
        security: how the daemon is dialled.
        timeout_s: how long to wait.

    Returns:
        OK for SERVING, FAILED for anything else that it answers, UNREACHABLE for no answer; and a sentence.

    Raises:
        ConfigError: the timeout is no time to wait.
    """
    check_seconds("timeout", timeout_s)
    async with wire.open_channel(at, security) as channel:
        try:
            status = await wire.serving_status(channel, service, timeout_s=timeout_s)
        except TransportError as error:
            mistaken = await wire.wrong_protection(at, security, option="--ca")
            return ExitCode.UNREACHABLE, f"{at} does not answer: {mistaken or error.message}"
        except ThinwireError as error:
            return ExitCode.FAILED, f"{at} refuses: {error.message}"
    return ExitCode.OK if status == "SERVING" else ExitCode.FAILED, f"{service} at {at}: {status}"
