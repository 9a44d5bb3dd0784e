"""Command-line arguments that both daemons take."""

from __future__ import annotations

import argparse
import re

from thinwire.common.daemon.command_parser import option_names
from thinwire.common.daemon.process import DaemonOptions
from thinwire.common.door.security_arguments import add_listener_arguments, listener_security
from thinwire.common.observe.log import FORMATS

_HOST = re.compile(r"\[[0-9A-Fa-f:.%\w]+\]|[^\s:/@\[\]\ud800-\udfff]+")
"""A name or an IPv4 address, or an IPv6 address in brackets, whose colons are then not the port's."""
_PORT = re.compile(r"[0-9]{1,5}")


def address(text: str) -> str:
    """
    HOST:PORT, checked for its shape only.

    Raises:
        argparse.ArgumentTypeError: not of that shape.
    """
    host, _, port = text.rpartition(":")
    if not _HOST.fullmatch(host) or not _PORT.fullmatch(port) or int(port) > 65535:
        looks_like = ", not a URL" if "/" in text else ", an IPv6 address in brackets" if ":" in host else ""
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT{looks_like}")
    return text


def peer_address(text: str) -> str:
    """
    HOST:PORT of somebody else: port 0, which is any free one, is nobody's.

    Raises:
        argparse.ArgumentTypeError: not of that shape.
    """
    if int(address(text).rpartition(":")[2]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} has port 0; expected the port that its daemon listens on")
    return text


def add_daemon_arguments(
    parser: argparse.ArgumentParser, *, role: str, model: str | None, listen: str
) -> None:
    """
    --model, --listen, --port-file, --revision, --dtype, --device, --threads, who gets in, and what is seen.

    Args:
        role: "draft" or "target".
        model: default model, a folder or hub id; None where one must be given.
        listen: default address.
    """
    where = parser.add_argument_group("address")
    where.add_argument(
        "--listen",
        type=address,
        default=listen,
        metavar="HOST:PORT",
        help="address to serve on, port 0 for any free one (default %(default)s)",
    )
    where.add_argument("--port-file", metavar="PATH", help="write the bound port into this file")
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default=model,
        required=model is None,
        metavar="PATH_OR_ID",
        help=f"{role} model: a folder in Hugging Face format or a hub id (default: the bundled {role})",
    )
    group.add_argument("--revision", help="branch, tag or commit of a hub id")
    group.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "float64", "bfloat16", "float16"),
        help="float32 and float64 give equal texts for equal seeds (default %(default)s)",
    )
    group.add_argument("--device", default="cpu", help="torch device (default %(default)s)")
    group.add_argument("--threads", type=int, metavar="N", help="threads of the model (default: torch's)")
    add_listener_arguments(parser)
    group = parser.add_argument_group("what can be seen of it")
    group.add_argument(
        "--metrics-listen",
        type=address,
        metavar="HOST:PORT",
        help="serve Prometheus' metrics here under /metrics; loopback only (default: no metrics)",
    )
    group.add_argument(
        "--log-format",
        default="auto",
        choices=FORMATS,
        help="auto is text on a terminal and one JSON object a line elsewhere (default %(default)s)",
    )


def add_trace_argument(parser: argparse.ArgumentParser) -> None:
    """`--trace`, of the two daemons themselves."""
    parser.add_argument(
        "--trace",
        action="store_true",
        help="OpenTelemetry spans, set by the OTEL_* variables; needs the extra otel",
    )


def daemon_options(arguments: argparse.Namespace) -> DaemonOptions:
    """
    What `add_daemon_arguments` understood.

    Raises:
        ConfigError: a value out of its range.
    """
    return DaemonOptions(
        model=arguments.model,
        listen=arguments.listen,
        revision=arguments.revision,
        dtype=arguments.dtype,
        device=arguments.device,
        threads=arguments.threads,
        port_file=arguments.port_file,
        security=listener_security(arguments),
        metrics_listen=arguments.metrics_listen,
        log_format=arguments.log_format,
        option_names=option_names(arguments),
    )
