"""
A daemon's log on standard error: one line an event, as text for a person or as one JSON object for a machine.

A request leaves one line, with its fields; nothing of a prompt, a text or a token id is among them unless it
was asked for.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

FORMATS = ("auto", "text", "json")
"""auto is text on a terminal and JSON elsewhere."""
INTERVAL_S = 60.0
"""Between two lines about what one stranger does."""
MAX_HOSTS = 64
"""With a line in one interval; those beyond have none."""
SESSION_DIGITS = 8
"""Hexadecimal digits of a session's id that a log shows: enough to find it, too few to resume it."""


def log_request(
    logger: logging.Logger, event: str, fault: BaseException | None = None, /, **fields: Any
) -> None:
    """
    One line for one request: what became of it, in a few words that are always the same, and plain fields.

    A field of None is left out; a fault of ours is shown with its traceback, and the line is then an error.
    """
    shown = {name: value for name, value in fields.items() if value is not None}
    level = logging.INFO if fault is None else logging.ERROR
    logger.log(level, event, exc_info=fault, extra={"fields": shown})


def announce(program: str, sentence: str, level: int = logging.INFO) -> None:
    """One sentence of what becomes of the daemon itself; a person reads `program` in front of it."""
    logging.getLogger(program).log(level, "%s", sentence, extra={"announced": True})


@contextmanager
def logging_to(stream: TextIO, *, format_: str, exception_messages: bool = True) -> Iterator[None]:
    """
    Send everything that is logged to a stream, in one of `FORMATS`, while the context lasts.

    Without `exception_messages` a traceback ends without the exception's message, which may quote a text.
    """
    as_json = format_ == "json" or (format_ == "auto" and not stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter((JsonFormatter if as_json else TextFormatter)(exception_messages))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)  # of Python's libraries, which would else be lines of another format
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        root.setLevel(level)


class LogLimiter:
    """One line by address and minute, and no more addresses in a minute than a log can bear."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._logged_at_s: dict[str, float] = {}

    def allows(self, host: str) -> bool:
        """Whether this host (`door.peers.peer_host`) may have a line now; if so, it has had it."""
        now = self._now()
        self._logged_at_s = {one: at_s for one, at_s in self._logged_at_s.items() if now - at_s < INTERVAL_S}
        if host in self._logged_at_s or len(self._logged_at_s) >= MAX_HOSTS:
            return False
        self._logged_at_s[host] = now
        return True


class _Formatter(logging.Formatter):
    """A record's own words, its fields and its traceback, for one form of a line."""

    def __init__(self, exception_messages: bool = True) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s:")
        self._exception_messages = exception_messages

    def _parts(self, record: logging.LogRecord) -> tuple[str, dict[str, Any], str | None]:
        """
        (sentence, fields as JSON has them, traceback).

        asyncio's sentences go on, on further lines, with the exception that they are about.
        """
        text = record.getMessage()
        text = text if self._exception_messages else text.partition("\n")[0]
        fields = {name: _plain(value) for name, value in getattr(record, "fields", {}).items()}
        error = record.exc_info[1] if record.exc_info else None
        return text, fields, None if error is None else _traceback(error, messages=self._exception_messages)


class JsonFormatter(_Formatter):
    """One strict JSON object a record: time (UTC), level, event, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        sentence, fields, trace = self._parts(record)
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        head = {"time": f"{seconds}.{int(record.msecs):03d}Z", "level": record.levelname, "event": sentence}
        values = {**head, **fields, **({} if trace is None else {"exception": trace})}
        return json.dumps(values, allow_nan=False, default=str)


class TextFormatter(_Formatter):
    """One line a record, the fields after it as name=value; an announcement as `PROGRAM: SENTENCE`."""

    def format(self, record: logging.LogRecord) -> str:
        if getattr(record, "announced", False):
            return f"{record.name}: {record.getMessage()}"
        sentence, fields, trace = self._parts(record)
        record.asctime = self.formatTime(record)
        shown = [f"{name}={_shown(value)}" for name, value in fields.items()]
        line = " ".join([self.formatMessage(record), sentence, *shown])
        return line if trace is None else f"{line}\n{trace}"


def short_session(session_id: str) -> str | None:
    """What a log shows of a session id in hexadecimal; None for none."""
    return session_id[:SESSION_DIGITS] or None


def _plain(value: Any) -> Any:
    """Seconds to the microsecond; what JSON has no number for as null."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    quoted = not text or any(c.isspace() or c in '"=' or not c.isprintable() for c in text)
    return json.dumps(text) if quoted and isinstance(value, str) else text


def _traceback(error: BaseException, *, messages: bool) -> str:
    """A traceback with those it came from; without messages each exception is its type alone."""
    if messages:
        return "".join(traceback.format_exception(error)).rstrip("\n")
    parts: list[str] = []
    one: BaseException | None = error
    while one is not None:
        parts.append("".join(traceback.format_tb(one.__traceback__)) + type(one).__name__)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return "\ncame from\n".join(parts)


def quiet_core_log() -> None:
    """
    Have gRPC's core write none, unless GRPC_VERBOSITY says otherwise; called before grpc is imported.

    Its lines would stand beside a log of JSON objects, and strangers can provoke as many as they like: one
    for each TLS handshake that fails. What they say reaches our own log by the errors of calls.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
