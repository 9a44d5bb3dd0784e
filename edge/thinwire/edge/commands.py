"""What the commands of `thinwire` do, once their arguments are understood."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Any

from rich.console import Console

from thinwire.common import wire
from thinwire.common.config import MAX_PROMPT_BYTES
from thinwire.common.daemon.exit_codes import ExitCode
from thinwire.common.daemon.health_command import health_asked
from thinwire.common.daemon.options import from_arguments
from thinwire.common.daemon.process import load_tokenizer, run_daemon
from thinwire.common.daemon.settings import daemon_options
from thinwire.common.daemon.standard_streams import read_input, writing_output
from thinwire.common.door.security import ClientSecurity, DialOptions
from thinwire.common.door.whole_file import usable_file
from thinwire.common.errors import ThinwireError
from thinwire.common.observe.tracing import NO_TRACING, start_tracing
from thinwire.common.schemes import load_schemes
from thinwire.common.session.generation import GenerationRequest
from thinwire.edge.cli import EdgeOptions, OutputOptions, generation_request
from thinwire.edge.client import connect
from thinwire.edge.daemon import EdgeServer
from thinwire.edge.demo import DEFAULT_PROMPT, run_demo
from thinwire.edge.no_draft import served_without_draft
from thinwire.edge.report import Display, JsonLines, print_rows, status_rows
from thinwire.edge.settings import EdgeSettings
from thinwire.edge.telemetry import RoundLog


def command(arguments: argparse.Namespace) -> Coroutine[Any, Any, int]:
    """
    The command, not yet begun; standard input is read here, where Ctrl-C still breaks a wait for it.

    Raises:
        ConfigError: a value out of its range, or a file that is not what it should be.
    """
    match arguments.command:
        case "edge":
            return _edge(arguments)
        case "generate":
            prompt = read_input(MAX_PROMPT_BYTES) if arguments.prompt == "-" else arguments.prompt
            request = generation_request(arguments, prompt)
            output = from_arguments(OutputOptions, arguments)
            return _generate(arguments.peer, request, output, security=_security(arguments))
        case "status":
            return _status(arguments.peer, _security(arguments), as_json=arguments.json)
        case "health":
            return health_asked(arguments, wire.GENERATOR_SERVICE)
        case _:
            request = generation_request(arguments, arguments.prompt or DEFAULT_PROMPT)
            output = from_arguments(OutputOptions, arguments)
            return run_demo(
                lambda edge: _generate(edge, request, output, security=ClientSecurity(), echo=True),
                pair=arguments.pair,
                console=Console(stderr=True),
                quiet=output.quiet,
            )


def _security(arguments: argparse.Namespace) -> ClientSecurity:
    return from_arguments(DialOptions, arguments).security(os.environ)


async def _edge(arguments: argparse.Namespace) -> int:
    given = from_arguments(EdgeOptions, arguments)
    options = daemon_options(arguments, log_exception_messages=given.log_text)
    plaintext = options.security.insecure_plaintext
    dialling = from_arguments(DialOptions, arguments, prefix="cloud-", insecure_plaintext=plaintext)
    cloud_security = dialling.security(os.environ, prefix="cloud-")
    settings = from_arguments(EdgeSettings, arguments)
    round_log = None
    if given.round_log is not None:
        with usable_file("round_log", given.round_log, "written"):
            round_log = RoundLog(given.round_log)
    exporter = os.environ.get("OTEL_TRACES_EXPORTER")
    tracing = start_tracing("thinwire-edge", exporter) if options.trace else NO_TRACING
    server = EdgeServer(
        None,
        cloud_address=given.cloud,
        settings=settings,
        round_log=round_log,
        security=options.security,
        cloud_security=cloud_security,
        log_text=given.log_text,
        tracing=tracing,
    )

    async def on_loaded(loaded: Any) -> None:
        served = served_without_draft(loaded) if given.no_draft else loaded.served
        await server.model_loaded(served)

    try:
        load_schemes()
        return await run_daemon(
            server,
            options,
            program="thinwire edge",
            executor=server.executor,
            on_loaded=on_loaded,
            metrics=server.metrics,
            warnings=cloud_security.warnings(given.cloud),
            load=load_tokenizer if given.no_draft else None,
        )
    finally:
        await asyncio.to_thread(tracing.close)
        if round_log is not None:
            round_log.close()


async def _generate(
    edge: str,
    request: GenerationRequest,
    output: OutputOptions,
    *,
    security: ClientSecurity,
    echo: bool = False,
) -> int:
    console = Console(highlight=False)
    prompt = request.prompt if echo or console.is_terminal else None
    statistics = None if output.quiet else Console(highlight=False, stderr=True)
    display = (
        JsonLines(sys.stdout, explains=output.explain)
        if output.json
        else Display(console, statistics, prompt=prompt, explains=statistics if output.explain else None)
    )
    traceparent = os.environ.get("TRACEPARENT")
    async with connect(
        edge, event_timeout_s=output.timeout_s, security=security, traceparent=traceparent
    ) as client:
        try:
            async for event in client.events(request):
                with writing_output():
                    display.show(event)
        except ThinwireError:
            with writing_output():
                display.broken_off()
            raise
    return ExitCode.OK


async def _status(edge: str, security: ClientSecurity, *, as_json: bool) -> int:
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
