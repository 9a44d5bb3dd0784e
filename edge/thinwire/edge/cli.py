"""`thinwire`: the edge daemon, and the client that talks to one; `thinwire --help` names its exit codes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Annotated

from thinwire.common import demo_pair
from thinwire.common.config import (
    MAX_PREDICTION_BYTES,
    Option,
    SamplingParameters,
    Seconds,
    Switch,
    check_fields,
)
from thinwire.common.daemon.command import run_command
from thinwire.common.daemon.health_command import add_health_command, add_peer
from thinwire.common.daemon.options import CommandParser, PeerAddress, add_options, from_arguments
from thinwire.common.daemon.settings import add_daemon_options
from thinwire.common.daemon.standard_streams import check_utf8
from thinwire.common.door.security import DialOptions
from thinwire.common.door.whole_file import usable_file
from thinwire.common.errors import ConfigError
from thinwire.common.release import version
from thinwire.common.schemes import DEFAULT_SCHEME, parse_scheme, schemes_help
from thinwire.common.session.generation import GenerationRequest
from thinwire.edge.settings import DEFAULT_EDGE, EdgeSettings

DEFAULT_CLOUD = "127.0.0.1:7071"


@dataclass(frozen=True, slots=True)
class EdgeOptions:
    """What `thinwire edge` is told besides the model, the listener and `EdgeSettings`."""

    cloud: PeerAddress = DEFAULT_CLOUD
    """The cloud to dial."""
    round_log: Annotated[str | None, Option("path")] = None
    """
    Append one JSON line a round to this file; it has ids of sessions and no text.
    It is written between rounds: a disk that stalls stalls the texts.
    """
    no_draft: Switch = False
    """No draft model, only the tokenizer of --model: for the schemes coupled and cloud-ar."""
    log_text: Switch = False
    """Show prompt and text in a generation's line in the log, and exceptions with their messages."""


@dataclass(frozen=True, slots=True)
class ExpectedOptions:
    prediction: Annotated[str | None, Option("file")] = None
    """
    File with a text that is expected behind the prompt, such as one that is to be edited: where it is right
    it saves time. For a scheme that runs free (coupled).
    """


@dataclass(frozen=True, slots=True)
class OutputOptions:
    json: Switch = False
    """One JSON object a line: tokens, then the whole text and its statistics."""
    quiet: Switch = False
    """The text alone, without its statistics on standard error."""
    explain: Switch = False
    """
    One more line on standard error (with --json a field more): what was measured and chosen, and the speed
    that follows from it beside the one that was seen.
    """
    timeout_s: Seconds = 300.0
    """How long the edge may send nothing before it is given up."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.json and self.quiet:
            raise ConfigError("--json and --quiet are both given; expected one of them.")
        if self.explain and self.quiet:
            raise ConfigError("--explain and --quiet are both given; expected one of them.")


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(os.environ)
    # Imported for a command, so that --help waits for no library.
    return run_command(parser, lambda given: import_module("thinwire.edge.commands").command(given), argv)


def make_parser(environment: Mapping[str, str]) -> CommandParser:
    """
    The whole command line.

    Of the environment THINWIRE_EDGE names the default edge, THINWIRE_PROMPT the default prompt of the demo.
    """
    parser = CommandParser(
        prog="thinwire",
        description="Text with exactly a large model's law, drafted by a small one over a thin link.",
    )
    parser.add_argument("--version", action="version", version=f"thinwire {version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    edge = environment.get("THINWIRE_EDGE", DEFAULT_EDGE)
    prompt = environment.get("THINWIRE_PROMPT")
    for name, fill, summary in (
        ("edge", _edge, "run the edge daemon: load a draft model, serve Generate, have a cloud verify"),
        ("generate", partial(_generate, edge=edge), "stream a completion of a prompt from an edge"),
        ("status", partial(_status, edge=edge), "show what an edge and its cloud serve"),
        ("demo", partial(_demo, prompt=prompt), "run a cloud and an edge on loopback for one text"),
    ):
        commands.add_parser(name, fill=fill, help=summary)
    add_health_command(commands, peer="edge", default=edge)
    return parser


def generation_request(arguments: argparse.Namespace, prompt: str) -> GenerationRequest:
    """What the generation flags ask for; ConfigError for a value out of its range."""
    check_utf8("the prompt", prompt)
    for text in arguments.stop:
        check_utf8("stop", text)
    check_utf8("scheme", arguments.scheme)
    sampling = from_arguments(SamplingParameters, arguments)
    scheme = parse_scheme(arguments.scheme, sampling.temperature)
    return from_arguments(
        GenerationRequest,
        arguments,
        prompt=prompt,
        sampling=sampling,
        scheme=scheme,
        prediction=prediction_of(from_arguments(ExpectedOptions, arguments)),
    )


def prediction_of(options: ExpectedOptions) -> str:
    """The expected text, empty without one; ConfigError for a file that cannot be read, or holds no text."""
    if options.prediction is None:
        return ""
    with usable_file("prediction", options.prediction, "read"), open(options.prediction, "rb") as file:
        content = file.read(MAX_PREDICTION_BYTES + 1)
    if len(content) > MAX_PREDICTION_BYTES:
        raise ConfigError(
            f"prediction is {options.prediction!r}, over {MAX_PREDICTION_BYTES} bytes; expected no more.",
            setting="prediction",
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"prediction is {options.prediction!r}, with bytes that are no UTF-8 at {error.start}; expected "
            "text in UTF-8.",
            setting="prediction",
        ) from None


def _edge(parser: CommandParser) -> None:
    add_options(parser, EdgeOptions, "the cloud, and records")
    add_daemon_options(parser, model=demo_pair.model("draft"), listen=DEFAULT_EDGE)
    add_options(
        parser, DialOptions, "getting into the cloud", prefix="cloud-", without=("insecure_plaintext",)
    )
    add_options(parser, EdgeSettings, "limits")


def _generate(parser: CommandParser, edge: str) -> None:
    parser.add_argument("prompt", metavar="PROMPT", help="text to continue; - reads standard input")
    add_peer(parser, "edge", edge)
    _add_generation(parser)


def _status(parser: CommandParser, edge: str) -> None:
    add_peer(parser, "edge", edge)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _demo(parser: CommandParser, prompt: str | None) -> None:
    parser.add_argument(
        "prompt",
        nargs="?",
        metavar="PROMPT",
        default=prompt,
        help="text to continue (default: THINWIRE_PROMPT, else the head of a Python function)",
    )
    parser.add_argument(
        "--pair", metavar="DIR", help="folder with the models draft/ and target/ (default: the bundled pair)"
    )
    _add_generation(parser)


def _add_generation(parser: CommandParser) -> None:
    parser.add_argument(
        "--scheme",
        default=DEFAULT_SCHEME,
        help="NAME or NAME:PARAMETER=VALUE,... such as k-sqs:K=4,ell=50, or auto; listed below "
        "(default %(default)s)",
    )
    parser.more_help = schemes_help
    add_options(parser, GenerationRequest, "text")
    add_options(parser, ExpectedOptions, "what is expected")
    add_options(parser, SamplingParameters, "sampling")
    add_options(parser, OutputOptions, "output")
