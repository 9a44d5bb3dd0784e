"""`thinwire-cloud`: the command line of the cloud daemon, and of its certificates and tokens."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from thinwire.cloud.settings import CloudSettings
from thinwire.common import demo_pair
from thinwire.common.daemon.exit_codes import ExitCode
from thinwire.common.daemon.health_command import add_health_command
from thinwire.common.daemon.options import CommandParser, add_options, as_typed, option_names
from thinwire.common.daemon.settings import add_daemon_options
from thinwire.common.daemon.standard_streams import OutputError, prepare_streams, writing_output
from thinwire.common.door.tenants import Quotas
from thinwire.common.errors import ConfigError
from thinwire.common.release import version

DEFAULT_LISTEN = "127.0.0.1:7071"
PROGRAM = "thinwire-cloud"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    prepare_streams()
    try:
        with writing_output():  # --help does
            arguments = make_parser().parse_args(argv)
        from thinwire.cloud.commands import command  # here, so that --help waits for no library

        return command(arguments)
    except ConfigError as error:
        print(f"{PROGRAM}: {as_typed(error, option_names(arguments))}", file=sys.stderr)
        return ExitCode.USAGE
    except OutputError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return ExitCode.FAILED
    except BrokenPipeError:
        return ExitCode.OK


def make_parser() -> CommandParser:
    """The whole command line."""
    parser = CommandParser(
        prog=PROGRAM, description="The cloud's half of Thinwire: verifies drafted tokens with a large model."
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "serve",
        fill=_serve,
        help="run the cloud daemon",
        description="Run the cloud daemon: load a target model, verify the rounds of many edges.",
    )
    commands.add_parser(
        "certs",
        fill=_certs,
        help="make a development authority and certificates for both ends",
        description="Make a development authority and one certificate with its key for either end; "
        "nothing is overwritten, and the authority's own key is thrown away.",
    )
    commands.add_parser(
        "token",
        fill=_token,
        help="draw a token for a tenant",
        description="Draw a token for a tenant, for a file of its owner's alone or for standard output, and "
        "keep its SHA-256 with the tenant's quotas in a file for --tokens of either daemon.",
    )
    add_health_command(commands, peer="cloud", default=DEFAULT_LISTEN)
    return parser


def _serve(parser: CommandParser) -> None:
    add_daemon_options(parser, model=demo_pair.model("target"), listen=DEFAULT_LISTEN, without=("tokenizer",))
    add_options(parser, CloudSettings, "limits")


def _certs(parser: CommandParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="where to; made if it is not there")
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
