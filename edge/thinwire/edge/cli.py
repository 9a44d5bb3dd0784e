"""
`thinwire`: the edge daemon, and the client that talks to one.

Exit codes: 0 done; 1 the generation failed, health is not SERVING, or edge and cloud are no pair; 2 bad usage
or bad input; 3 the address cannot be listened on; 4 the model cannot be loaded; 5 the edge or the cloud
cannot be reached; 130 interrupted.
Errors are one sentence on standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console

from thinwire.common import wire
from thinwire.common.config import MAX_PROMPT_BYTES, check_seconds
from thinwire.common.daemon.arguments import daemon_options
from thinwire.common.daemon.command_parser import as_typed, option_names
from thinwire.common.daemon.exit_codes import ExitCode, exit_code_of
from thinwire.common.daemon.health_command import health
from thinwire.common.daemon.process import run_daemon
from thinwire.common.daemon.standard_streams import OutputError, prepare_streams, read_input, writing_output
from thinwire.common.door.security import ClientSecurity
from thinwire.common.door.security_arguments import dialling_security
from thinwire.common.errors import ConfigError, ThinwireError
from thinwire.common.observe.tracing import NO_TRACING, start_tracing
from thinwire.common.session.generation import GenerationRequest
from thinwire.edge.arguments import generation_request, make_parser
from thinwire.edge.client import connect
from thinwire.edge.daemon import EdgeServer, ModelShown
from thinwire.edge.daemon_arguments import edge_settings
from thinwire.edge.demo import DEFAULT_PROMPT, run_demo
from thinwire.edge.report import Display, JsonLines, print_rows, status_rows
from thinwire.edge.telemetry import RoundLog

if TYPE_CHECKING:
    from thinwire.common.language_model import LanguageModel


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    prepare_streams()
    try:
        with writing_output():  # --help does
            arguments = make_parser(os.environ).parse_args(argv)
        return int(asyncio.run(_command(arguments)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return ExitCode.INTERRUPTED
    except ConfigError as error:
        return _failed(as_typed(error, option_names(arguments)), ExitCode.USAGE)
    except ThinwireError as error:
        return _failed(f"{error.message} [{error.status}]", exit_code_of(error.status))
    except OutputError as error:
        return _failed(str(error), ExitCode.FAILED)
    except BrokenPipeError:
        return ExitCode.OK


def _failed(sentence: str, code: ExitCode) -> ExitCode:
    print(f"thinwire: {sentence}", file=sys.stderr)
    return code


def _command(arguments: argparse.Namespace) -> Coroutine[Any, Any, int]:
    """The command, not yet begun; standard input is read here, where Ctrl-C still breaks a wait for it."""
    match arguments.command:
        case "edge":
            return _edge(arguments)
        case "generate":
            prompt = read_input(MAX_PROMPT_BYTES) if arguments.prompt == "-" else arguments.prompt
            request = generation_request(arguments, prompt)
            security = dialling_security(arguments, os.environ)
            return _generate(arguments.edge, request, arguments, security=security)
        case "status":
            security = dialling_security(arguments, os.environ)
            return _status(arguments.edge, security, as_json=arguments.json)
        case "health":
            return _health(arguments)
        case _:
            request = generation_request(arguments, arguments.prompt or DEFAULT_PROMPT)
            return run_demo(
                lambda edge: _generate(edge, request, arguments, security=ClientSecurity(), echo=True),
                pair=arguments.pair,
                console=Console(stderr=True),
                quiet=arguments.quiet,
            )


async def _edge(arguments: argparse.Namespace) -> int:
    """Run the edge daemon until a signal."""
    options = replace(
        daemon_options(arguments),
        tokenizer=arguments.tokenizer,
        log_exception_messages=arguments.log_text,
    )
    settings = edge_settings(arguments)
    cloud_security = dialling_security(arguments, os.environ)
    round_log = _round_log(arguments.round_log)
    exporter = os.environ.get("OTEL_TRACES_EXPORTER")
    tracing = start_tracing("thinwire-edge", exporter) if arguments.trace else NO_TRACING
    executor = ThreadPoolExecutor(1, thread_name_prefix="draft-model")
    server = EdgeServer(
        None,
        vocabulary=None,
        cloud_address=arguments.cloud,
        settings=settings,
        executor=executor,
        round_log=round_log,
        security=options.security,
        cloud_security=cloud_security,
        log_text=arguments.log_text,
        tracing=tracing,
    )

    async def on_loaded(model: LanguageModel) -> None:
        shown = ModelShown(model.name, model.dtype, model.device)
        await server.model_loaded(model, vocabulary=model.vocabulary, shown=shown)

    try:
        return await run_daemon(
            server,
            options,
            program="thinwire edge",
            executor=executor,
            on_loaded=on_loaded,
            metrics=server.metrics,
            warnings=cloud_security.warnings(arguments.cloud),
        )
    finally:
        await asyncio.to_thread(tracing.close)
        if round_log is not None:
            round_log.close()


def _round_log(path: str | None) -> RoundLog | None:
    """The round log at `path`; ConfigError if it cannot be opened."""
    if path is None:
        return None
    try:
        return RoundLog(path)
    except OSError as error:
        raise ConfigError(
            f"round_log is {path!r}; expected a file that can be written ({error.strerror}).",
            setting="round_log",
        ) from None


async def _generate(
    edge: str,
    request: GenerationRequest,
    arguments: argparse.Namespace,
    *,
    security: ClientSecurity,
    echo: bool = False,
) -> int:
    """Stream one completion to standard output, and what it took to standard error."""
    check_seconds("timeout", arguments.timeout)
    console = Console(highlight=False)
    prompt = request.prompt if echo or console.is_terminal else None
    statistics = None if arguments.quiet else Console(highlight=False, stderr=True)
    display = JsonLines(sys.stdout) if arguments.json else Display(console, statistics, prompt=prompt)
    traceparent = os.environ.get("TRACEPARENT")
    async with connect(
        edge, event_timeout_s=arguments.timeout, security=security, traceparent=traceparent
    ) as client:
        try:
            async for event in client.generate(request):
                with writing_output():
                    display.show(event)
        except ThinwireError:
            with writing_output():
                display.broken_off()
            raise
    return ExitCode.OK


async def _status(edge: str, security: ClientSecurity, *, as_json: bool) -> int:
    """Print what the edge says of itself and of its cloud."""
    async with connect(edge, security=security) as client:
        status = await client.status(timeout_s=10.0)
    edge_security = security.of(edge)
    with writing_output():
        if as_json:
            known = {"is_pair": status.is_pair, "common_schemes": status.common_schemes}
            shown = {**asdict(status), **known, "edge_security": edge_security.value}
            print(json.dumps(shown, default=lambda value: value.hex()))
        else:
            print_rows(Console(highlight=False), status_rows(status, edge_security=edge_security))
    if status.cloud_info is None:
        return ExitCode.UNREACHABLE
    return ExitCode.FAILED if status.is_pair is False else ExitCode.OK


async def _health(arguments: argparse.Namespace) -> int:
    """Ask an edge whether it serves."""
    security = dialling_security(arguments, os.environ)
    code, sentence = await health(
        arguments.health_address, wire.GENERATOR_SERVICE, security, timeout_s=arguments.timeout
    )
    with writing_output():
        print(sentence)
    return code
