"""The arguments of `thinwire`, and their translation into a request; nothing runs here."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from thinwire.common.config import (
    MAX_DRAFT_LENGTH,
    Rollback,
    SamplingParameters,
    default_scheme,
)
from thinwire.common.daemon.arguments import peer_address
from thinwire.common.daemon.command_parser import CommandParser, RoomyFormatter
from thinwire.common.daemon.exit_codes import EXIT_CODES_HELP
from thinwire.common.daemon.health_command import add_health_command
from thinwire.common.daemon.standard_streams import check_utf8
from thinwire.common.door.security_arguments import add_dialling_arguments
from thinwire.common.release import version
from thinwire.common.schemes import scheme_names
from thinwire.common.session.generation import GenerationRequest
from thinwire.edge.daemon_arguments import DEFAULT_EDGE, add_edge

_DEFAULTS = GenerationRequest("", seed=0)


def make_parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """
    The whole command line.

    Args:
        environment: THINWIRE_EDGE names the default edge, THINWIRE_PROMPT the default prompt of the demo.
    """
    parser = CommandParser(
        prog="thinwire",
        description="Text with exactly a large model's law, drafted by a small one over a thin link.",
        epilog=EXIT_CODES_HELP,
        formatter_class=RoomyFormatter,
    )
    parser.add_argument("--version", action="version", version=f"thinwire {version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_edge(commands)
    _add_generate(commands, environment)
    _add_status(commands, environment)
    add_health_command(commands, peer="edge", default=environment.get("THINWIRE_EDGE", DEFAULT_EDGE))
    _add_demo(commands, environment)
    return parser


def generation_request(arguments: argparse.Namespace, prompt: str) -> GenerationRequest:
    """
    What the generation flags ask for.

    Raises:
        ConfigError: a value out of its range.
    """
    check_utf8("the prompt", prompt)
    for text in arguments.stop:
        check_utf8("stop", text)
    check_utf8("scheme", arguments.scheme)
    sampling = SamplingParameters(arguments.temperature, arguments.top_k, arguments.top_p)
    by_temperature = {
        "max_support_size": arguments.max_support_size,
        "target_dropped_mass": arguments.target_dropped_mass,
    }
    scheme = default_scheme(
        sampling.temperature,
        scheme=arguments.scheme,
        lattice_resolution=arguments.lattice_resolution,
        support_size=arguments.support_size,
        initial_threshold=arguments.initial_threshold,
        threshold_step=arguments.threshold_step,
        rollback=Rollback(arguments.rollback),
        frozen_threshold=arguments.frozen_threshold,
        **{name: value for name, value in by_temperature.items() if value is not None},
    )
    seed = {} if arguments.seed is None else {"seed": arguments.seed}
    return GenerationRequest(
        prompt=prompt,
        scheme=scheme,
        sampling=sampling,
        max_tokens=arguments.max_tokens,
        draft_length=arguments.draft_length,
        uplink_budget_bits=arguments.uplink_budget_bits,
        min_block_acceptance=arguments.min_block_acceptance,
        stop=tuple(arguments.stop),
        ignore_eos=arguments.ignore_eos,
        stop_token_ids=tuple(arguments.stop_token_id),
        **seed,
    )


def _add_generate(commands: Any, environment: Mapping[str, str]) -> None:
    parser = commands.add_parser(
        "generate",
        help="stream a completion from an edge",
        description="Stream a completion of a prompt from an edge.",
        epilog=EXIT_CODES_HELP,
        formatter_class=RoomyFormatter,
    )
    parser.add_argument("prompt", metavar="PROMPT", help="text to continue; - reads standard input")
    _add_edge_address(parser, environment)
    _add_generation_flags(parser)


def _add_status(commands: Any, environment: Mapping[str, str]) -> None:
    parser = commands.add_parser(
        "status",
        help="what an edge and its cloud serve",
        description="Show what an edge and its cloud serve.",
        epilog=EXIT_CODES_HELP,
        formatter_class=RoomyFormatter,
    )
    _add_edge_address(parser, environment)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_demo(commands: Any, environment: Mapping[str, str]) -> None:
    parser = commands.add_parser(
        "demo",
        help="start a cloud and an edge on this machine with the bundled pair and stream one completion",
        description="Start a cloud and an edge as two processes on loopback, stream one text, stop both.",
        epilog=EXIT_CODES_HELP,
        formatter_class=RoomyFormatter,
    )
    parser.add_argument(
        "prompt",
        nargs="?",
        metavar="PROMPT",
        default=environment.get("THINWIRE_PROMPT"),
        help="text to continue (default: THINWIRE_PROMPT, else the head of a Python function)",
    )
    parser.add_argument(
        "--pair", metavar="DIR", help="folder with the models draft/ and target/ (default: the bundled pair)"
    )
    _add_generation_flags(parser)


def _add_edge_address(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    parser.add_argument(
        "--edge",
        type=peer_address,
        default=environment.get("THINWIRE_EDGE", DEFAULT_EDGE),
        metavar="HOST:PORT",
        help="the edge (default: THINWIRE_EDGE, else " + DEFAULT_EDGE + ")",
    )
    add_dialling_arguments(parser, peer="edge")
    parser.add_argument(
        "--insecure-plaintext",
        action="store_true",
        help="off loopback, dial without TLS where no authority and no certificate is given",
    )


def _add_generation_flags(parser: argparse.ArgumentParser) -> None:
    scheme, sampling = _DEFAULTS.scheme, _DEFAULTS.sampling
    group = parser.add_argument_group("scheme")
    add = group.add_argument
    default = "(default %(default)s)"
    add("--scheme", default=scheme.scheme, help=f"one of {', '.join(scheme_names())} {default}")
    add(
        "--ell",
        dest="lattice_resolution",
        metavar="ELL",
        type=int,
        default=scheme.lattice_resolution,
        help=f"lattice resolution ℓ {default}",
    )
    add(
        "--k",
        dest="support_size",
        metavar="K",
        type=int,
        default=scheme.support_size,
        help=f"support size K of k-sqs {default}",
    )
    add(
        "--beta",
        dest="initial_threshold",
        metavar="BETA",
        type=float,
        default=scheme.initial_threshold,
        help=f"first threshold β of c-sqs {default}",
    )
    add(
        "--eta",
        dest="threshold_step",
        metavar="ETA",
        type=float,
        default=scheme.threshold_step,
        help=f"threshold step η of c-sqs {default}",
    )
    add(
        "--target-dropped-mass",
        type=float,
        metavar="MASS",
        help="α* of c-sqs (default: by the temperature)",
    )
    add(
        "--k-max",
        dest="max_support_size",
        metavar="K_MAX",
        type=int,
        help="largest support of c-sqs (default: by the temperature)",
    )
    add(
        "--rollback",
        default=scheme.rollback.value,
        choices=[mode.value for mode in Rollback],
        help=f"fate of the threshold updates of discarded drafts {default}",
    )
    add("--frozen-threshold", action="store_true", help="keep β fixed (no guarantee)")
    group = parser.add_argument_group("drafting")
    add = group.add_argument
    add(
        "--draft-length",
        type=int,
        default=_DEFAULTS.draft_length,
        metavar="N",
        help=f"draft tokens a round, 0 to {MAX_DRAFT_LENGTH} {default}",
    )
    add(
        "--uplink-budget-bits",
        type=int,
        default=_DEFAULTS.uplink_budget_bits,
        metavar="BITS",
        help=f"payload a round at most; 0 is no budget {default}",
    )
    add(
        "--min-block-acceptance",
        type=float,
        default=_DEFAULTS.min_block_acceptance,
        metavar="P",
        help=f"draft on while the block's estimated acceptance is so high; 0 is always {default}",
    )
    group = parser.add_argument_group("text")
    add = group.add_argument
    add(
        "--max-tokens",
        type=int,
        default=_DEFAULTS.max_tokens,
        metavar="N",
        help=f"output tokens at most {default}",
    )
    add("--temperature", type=float, default=sampling.temperature, help=f"0 is greedy {default}")
    add("--top-k", type=int, default=sampling.top_k, metavar="N", help=f"0 keeps all {default}")
    add("--top-p", type=float, default=sampling.top_p, metavar="MASS", help=f"1 keeps all {default}")
    add("--seed", type=int, help="makes the text reproducible (default: fresh bits, printed at the end)")
    add(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="end the text before this string, or at the special token of this name; repeatable",
    )
    add(
        "--stop-token-id",
        type=int,
        action="append",
        default=[],
        metavar="N",
        help="end the text at this token; repeatable",
    )
    add("--ignore-eos", action="store_true", help="go on after an end-of-text token")
    group = parser.add_argument_group("output")
    form = group.add_mutually_exclusive_group()
    form.add_argument(
        "--json",
        action="store_true",
        help="one JSON object a line: tokens, then the whole text and its statistics",
    )
    form.add_argument(
        "--quiet", action="store_true", help="the text alone, without its statistics on standard error"
    )
    group.add_argument(
        "--timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="give up when the edge sends nothing for so long (default %(default)g)",
    )
