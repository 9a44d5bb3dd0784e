"""The standard streams of a command: UTF-8 both ways, and one sentence where that cannot be."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from thinwire.common.errors import ConfigError


class OutputError(Exception):
    """Standard output is closed or full; the argument is one sentence."""


@contextmanager
def writing_output() -> Iterator[None]:
    """
    Write to standard output in this context, and to nothing else: what fails is said of standard output.

    OutputError for a full disk, for example; BrokenPipeError if the reader has gone, no error of ours.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        # Python flushes at exit, and must not complain of the same once more.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(
            f"standard output cannot be written ({error.strerror}); expected room for all of it."
        ) from None


def prepare_streams() -> None:
    """
    Make standard output take any text: a terminal shows what it can, everything else gets UTF-8.

    A stream that the caller closed (`>&-`), for which Python has None, leads nowhere.
    """
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - to the end of the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - likewise
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() not in ("utf-8", "utf8"):
        if sys.stdout.isatty():
            sys.stdout.reconfigure(errors="replace")
        else:
            sys.stdout.reconfigure(encoding="utf-8")


def read_input(max_bytes: int) -> str:
    """
    All of standard input, every line end as it is.

    ConfigError if it is closed, cannot be read, is longer than `max_bytes`, or is not UTF-8.
    """
    if sys.stdin is None:
        raise ConfigError("standard input is closed; expected the prompt there.")
    try:
        content = sys.stdin.buffer.read(max_bytes + 1)
    except OSError as error:
        raise ConfigError(
            f"standard input cannot be read ({error.strerror}); expected the prompt there."
        ) from None
    if len(content) > max_bytes:
        raise ConfigError(
            f"standard input holds more than {max_bytes} bytes; expected a prompt of at most these."
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"standard input has byte 0x{content[error.start]:02x} at offset {error.start}; expected UTF-8."
        ) from None


def check_utf8(name: str, text: str) -> None:
    """
    Refuse a text of the command line or the environment that is not UTF-8 with a ConfigError that says where.

    Python keeps bytes that are not UTF-8 as lone surrogates.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        wrong = os.fsencode(text[error.start])
        shown = f"byte 0x{wrong[0]:02x}" if len(wrong) == 1 else f"{text[error.start]!r}"
        raise ConfigError(f"{name} has {shown}; expected UTF-8.", setting=name) from None
