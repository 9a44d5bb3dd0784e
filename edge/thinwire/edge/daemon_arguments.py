"""The arguments of `thinwire edge`, and their translation into settings; nothing runs here."""

from __future__ import annotations

import argparse
from typing import Any

from thinwire.common import demo_pair
from thinwire.common.daemon.arguments import add_daemon_arguments, add_trace_argument, peer_address
from thinwire.common.daemon.command_parser import RoomyFormatter
from thinwire.common.daemon.exit_codes import EXIT_CODES_HELP
from thinwire.common.door.security_arguments import add_dialling_arguments
from thinwire.edge.settings import EdgeSettings

DEFAULT_EDGE = "127.0.0.1:7072"
DEFAULT_CLOUD = "127.0.0.1:7071"

_SETTINGS = EdgeSettings()


def edge_settings(arguments: argparse.Namespace) -> EdgeSettings:
    """
    What `thinwire edge` was told besides model and address.

    Raises:
        ConfigError: a value out of its range.
    """
    return EdgeSettings(
        connect_timeout_s=arguments.connect_timeout,
        round_timeout_s=arguments.round_timeout,
        write_timeout_s=arguments.write_timeout,
        max_generations=arguments.max_generations,
        max_prompt_bytes=arguments.max_prompt_bytes,
        drain_grace_s=arguments.drain_grace,
        keepalive_s=arguments.keepalive,
        patience_s=arguments.patience,
    )


def add_edge(commands: Any) -> None:
    """The subcommand."""
    parser = commands.add_parser(
        "edge",
        help="run the edge daemon: the draft model, facing a cloud",
        description="Run the edge daemon: load a draft model, serve Generate, have a cloud verify.",
        epilog=EXIT_CODES_HELP,
        formatter_class=RoomyFormatter,
    )
    parser.add_argument(
        "--cloud",
        type=peer_address,
        default=DEFAULT_CLOUD,
        metavar="HOST:PORT",
        help="the cloud (default %(default)s)",
    )
    add_daemon_arguments(parser, role="draft", model=demo_pair.model("draft"), listen=DEFAULT_EDGE)
    tokenizer = "tokenizer in place of the draft model's own: the target's, where the two differ"
    parser.add_argument("--tokenizer", metavar="PATH_OR_ID", help=tokenizer)
    add_trace_argument(parser)
    add_dialling_arguments(parser, peer="cloud", prefix="cloud-")
    limits = parser.add_argument_group("limits and records")
    for flag, seconds, text in (
        ("--connect-timeout", _SETTINGS.connect_timeout_s, "to wait for a connection to the cloud"),
        ("--round-timeout", _SETTINGS.round_timeout_s, "for one round"),
        ("--write-timeout", _SETTINGS.write_timeout_s, "a client may take nothing that waits for it"),
        ("--patience", _SETTINGS.patience_s, "a text goes on reconnecting after a loss of the cloud"),
        ("--drain-grace", _SETTINGS.drain_grace_s, "generations may go on after SIGTERM"),
        ("--keepalive", _SETTINGS.keepalive_s, "between pings of the link in a generation, 0 for none"),
    ):
        limits.add_argument(
            flag, type=float, default=seconds, metavar="SECONDS", help=f"{text} (default %(default)g)"
        )
    for flag, default, text in (
        ("--max-generations", _SETTINGS.max_generations, "at once"),
        ("--max-prompt-bytes", _SETTINGS.max_prompt_bytes, "of a prompt in UTF-8, no more than the default"),
    ):
        limits.add_argument(
            flag, type=int, default=default, metavar="N", help=f"{text} (default %(default)s)"
        )
    limits.add_argument("--round-log", metavar="PATH", help="append one JSON line per round to this file")
    limits.add_argument(
        "--log-text",
        action="store_true",
        help="show prompt and text in a generation's line in the log, and exceptions with their messages",
    )
