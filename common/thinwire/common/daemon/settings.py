"""What both daemons can be told of address, model and what is seen of them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from thinwire.common.config import Option, Switch, check_fields, whole
from thinwire.common.daemon.options import CommandParser, add_options, address, from_arguments, option_names
from thinwire.common.door.security import ListenerOptions, ServerSecurity
from thinwire.common.observe.log import FORMATS


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """How a daemon is started; a field with an `Option` is an option of its command."""

    model: Annotated[str, Option("path or id")]
    """Draft model of an edge, target model of a cloud: a folder in Hugging Face format or a hub id."""
    listen: Annotated[str, Option("HOST:PORT", parse=address)]
    """Address to serve on; port 0 for any free one."""
    port_file: Annotated[str | None, Option("path")] = None
    """Write the bound port into this file."""
    revision: Annotated[str | None, Option("name or commit")] = None
    """Branch, tag or commit of a hub id."""
    tokenizer: Annotated[str | None, Option("path or id")] = None
    """Tokenizer in place of the model's own: the target's, where the two differ."""
    dtype: Annotated[str, Option("name", choices=("float32", "float64", "bfloat16", "float16"))] = "float32"
    """
    Numbers of the model; float32 and float64 give equal texts for equal seeds.
    On a CPU float32 keeps a 16-bit checkpoint's weights in 16 bits and loses nothing.
    """
    device: Annotated[str, Option("torch device")] = "cpu"
    """Where the model runs."""
    threads: Annotated[int | None, whole("threads", 1, 10_000)] = None
    """Threads of the model; none leaves torch's own choice."""
    metrics_listen: Annotated[str | None, Option("HOST:PORT", parse=address)] = None
    """
    Serve Prometheus' metrics here under /metrics; on loopback, port 0 for any free one, which the log names.
    """
    log_format: Annotated[str, Option("name", choices=FORMATS)] = "auto"
    """auto is text on a terminal and one JSON object a line elsewhere."""
    trace: Switch = False
    """OpenTelemetry spans, set by the OTEL_* variables; needs the extra otel."""
    for_pool: bool = False
    """Whether the model's sequences will be pooled as soon as it is loaded; see `load_language_model`."""
    security: ServerSecurity = field(default_factory=ServerSecurity)
    """How the listener is protected; the server has been made with the same."""
    log_exception_messages: bool = True
    """Whether a traceback in the log ends with the exception's message, which may quote a text."""
    option_names: Mapping[str, str] = field(default_factory=dict)
    """Setting → option, for the sentences that refuse one."""

    def __post_init__(self) -> None:
        check_fields(self)


def add_daemon_options(
    parser: CommandParser, *, model: str | None, listen: str, without: tuple[str, ...] = ()
) -> None:
    """Add what both daemons take, all of `DaemonOptions` but `without`; a model of None must be given."""
    add_options(parser, DaemonOptions, "the daemon", without=without, model=model, listen=listen)
    add_options(parser, ListenerOptions, "who gets in (off loopback, certificates and tokens are a must)")


def daemon_options(arguments: argparse.Namespace, **given: Any) -> DaemonOptions:
    """What `add_daemon_options` understood, and `given` besides; ConfigError for a wrong value or file."""
    security = from_arguments(ListenerOptions, arguments).security()
    names = option_names(arguments)
    return from_arguments(DaemonOptions, arguments, security=security, option_names=names, **given)
