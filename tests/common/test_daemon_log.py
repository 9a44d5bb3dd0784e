"""A daemon's log: JSON for machines, text for people, one line a request."""

from __future__ import annotations

import io
import json
import logging

import pytest

from thinwire.common.observe.log import (
    JsonFormatter,
    TextFormatter,
    announce,
    log_request,
    logging_to,
    short_session,
)

LOGGER = logging.getLogger("tests.daemon_log")
WORD = "swordfish"
"""Stands for a text; a traceback quotes source lines, and those show its name only."""


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def logged(stream: io.StringIO, *, format_: str = "auto", exception_messages: bool = True) -> str:
    """What a request, a sentence and a fault leave on `stream`."""
    with logging_to(stream, format_=format_, exception_messages=exception_messages):
        log_request(LOGGER, "session ended", session="ab12cd34", total_s=1.23456789, tenant=None, note="a b")
        announce("thinwire-cloud", "draining")
        try:
            raise ValueError(WORD) from KeyError(WORD)
        except ValueError:
            LOGGER.exception("a stream failed")
            LOGGER.error("a task failed\nfuture: <%r>", WORD)
    return stream.getvalue()


def test_json_is_one_strict_object_a_line() -> None:
    """Time in UTC, level, event, then the fields; a traceback stays within its line."""
    lines = logged(io.StringIO()).splitlines()
    ended, said, fault, _ = (json.loads(line) for line in lines)

    assert len(lines) == 4
    assert list(ended) == ["time", "level", "event", "session", "total_s", "note"]
    assert ended["time"].endswith("Z")
    assert ended["total_s"] == 1.234568
    assert (said["level"], said["event"]) == ("INFO", "draining")
    assert (fault["level"], fault["event"]) == ("ERROR", "a stream failed")
    assert fault["exception"].splitlines()[-1] == f"ValueError: {WORD}"


def test_a_terminal_gets_text() -> None:
    """Fields behind the event as name=value, values with blanks in quotes; sentences as they always were."""
    lines = logged(Terminal()).splitlines()

    assert lines[0].endswith(
        'INFO tests.daemon_log: session ended session=ab12cd34 total_s=1.234568 note="a b"'
    )
    assert lines[1] == "thinwire-cloud: draining"


@pytest.mark.parametrize(("stream", "format_"), [(Terminal(), "json"), (io.StringIO(), "text")])
def test_a_format_that_is_asked_for_wins(stream: io.StringIO, format_: str) -> None:
    """Whatever the stream is."""
    assert logged(stream, format_=format_).startswith("{") is (format_ == "json")


@pytest.mark.parametrize("format_", ["json", "text"])
def test_an_exceptions_message_can_be_left_out(format_: str) -> None:
    """Frames and types remain, of those it came from too."""
    text = logged(io.StringIO(), format_=format_, exception_messages=False)

    assert WORD not in text
    assert "ValueError" in text
    assert "KeyError" in text
    assert "test_daemon_log.py" in text


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_nothing_breaks_a_line_or_the_format(formatter: logging.Formatter) -> None:
    """Line ends, quotes, half characters and numbers that JSON lacks."""
    record = LOGGER.makeRecord(LOGGER.name, logging.INFO, "", 0, "ended", (), None)
    record.fields = {"text": 'a\n"b"=\ud800\u2028', "rate": float("nan"), "on": True}
    line = formatter.format(record)

    assert len(line.splitlines()) == 1
    line.encode("utf-8")


def test_the_root_logger_is_left_as_it_was() -> None:
    """Two daemons in one process, one after the other, do not log twice."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    logged(io.StringIO())

    assert (root.handlers, root.level) == before


def test_a_session_is_shown_by_eight_digits() -> None:
    """Enough to find it, too few to resume it."""
    assert short_session("ab12cd34" + "0" * 24) == "ab12cd34"
    assert short_session("") is None
