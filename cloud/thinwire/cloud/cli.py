"""`thinwire-cloud`: the command line of the cloud daemon, and of its certificates and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from thinwire.cloud.settings import CloudSettings
from thinwire.common import demo_pair
from thinwire.common.daemon.command import run_command
from thinwire.common.daemon.health_command import add_health_command
from thinwire.common.daemon.options import CommandParser, add_options
from thinwire.common.daemon.settings import add_daemon_options
from thinwire.common.door.tenants import Quotas
from thinwire.common.release import version

DEFAULT_LISTEN = "127.0.0.1:7071"
PROGRAM = "thinwire-cloud"


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser()
    # Imported for a command, so that --help waits for no library.
    return run_command(parser, lambda given: import_module("thinwire.cloud.commands").command(given), argv)


def make_parser() -> CommandParser:
    parser = CommandParser(
        prog=PROGRAM, description="The cloud's half of Thinwire: verifies drafted tokens with a large model."
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, fill, summary in (
        ("serve", _serve, "run the cloud daemon: load a target model, verify the rounds of many edges"),
        ("certs", _certs, "make a development authority (its key is thrown away) and a pair for either end"),
        ("token", _token, "draw a token for a tenant, and keep its SHA-256 in a file for --tokens"),
    ):
        commands.add_parser(name, fill=fill, help=summary)
    add_health_command(commands, peer="cloud", default=DEFAULT_LISTEN)
    return parser


def _serve(parser: CommandParser) -> None:
    add_daemon_options(parser, model=demo_pair.model("target"), listen=DEFAULT_LISTEN, without=("tokenizer",))
    add_options(parser, CloudSettings, "limits")


def _certs(parser: CommandParser) -> None:
    parser.add_argument(
        "folder", metavar="DIR", help="where to; made if it is not there, and nothing in it is overwritten"
    )
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        help="host name or IP address that either end is dialled by, beside localhost; repeatable",
    )


def _token(parser: CommandParser) -> None:
    add = parser.add_argument
    add("tenant", metavar="TENANT", help="a new one, or one in the file, which keeps its other tokens")
    add("--file", dest="tokens", required=True, metavar="FILE", help="token file; made if it is not there")
    add("--out", metavar="FILE", help="new file, mode 0600, for the token (default: standard output)")
    add("--revoke", action="store_true", help="take all its tokens from the tenant instead")
    add_options(parser, Quotas, "quotas (default: no limit)")
