"""The description of a link as options of a command line: `link` and the side-car share them."""

from __future__ import annotations

import argparse

from link.description import DEFAULT_MTU_BYTES, LinkDescription, parse_rate_bps
from link.errors import LinkDescriptionError


def add_description_arguments(parser: argparse.ArgumentParser, *, mtu_bytes: int = DEFAULT_MTU_BYTES) -> None:
    """Add the options `description_from` reads."""
    add = parser.add_argument
    add("--up", type=_rate, required=True, metavar="RATE", help="edge to cloud: 64000, 32k, 1.5M")
    add("--down", type=_rate, required=True, metavar="RATE", help="cloud to edge")
    add("--rtt-ms", type=float, default=0.0, help="round trip of an infinitely short packet")
    add("--jitter-ms", type=float, default=0.0, help="half-width, each direction")
    add("--loss-percent", type=float, default=0.0, help="each direction")
    add("--queue-bytes", type=int, help="each direction (default: by the rate, 32 to 128 KiB)")
    add("--mtu", type=int, default=mtu_bytes, help="largest IP packet (default: %(default)s)")
    add("--seed", type=int, default=0, help="of jitter and loss (default: %(default)s)")


def description_from(arguments: argparse.Namespace) -> LinkDescription:
    """
    The description those options give.

    Raises:
        LinkDescriptionError: one of them is outside its range.
    """
    return LinkDescription(
        rate_up_bps=arguments.up,
        rate_down_bps=arguments.down,
        rtt_s=arguments.rtt_ms / 1000,
        jitter_s=arguments.jitter_ms / 1000,
        loss=arguments.loss_percent / 100,
        queue_bytes=arguments.queue_bytes,
        mtu_bytes=arguments.mtu,
    )


def _rate(text: str) -> int:
    try:
        return parse_rate_bps(text)
    except LinkDescriptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
