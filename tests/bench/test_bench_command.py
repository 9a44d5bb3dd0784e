"""Errors of bench's commands: one sentence, one exit code, and what is nobody's fault goes through."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from bench import command
from bench.grid.records import RecordError
from bench.grid.store import StoreError
from link.errors import LinkBrokenError, LinkRefusedError, LinkUnavailableError
from thinwire.common.daemon.launcher import DaemonDiedError
from thinwire.common.errors import ConfigError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("words."), 2),
        (StoreError("words."), 2),
        (RecordError("words."), 2),
        (LinkRefusedError("words."), 3),
        (LinkUnavailableError("words."), 4),
        (LinkBrokenError("words."), 1),
        (DaemonDiedError("words."), 1),
        (command.CommandError("words."), 1),
    ],
)
def test_an_expected_error_is_a_sentence_and_a_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, after the command's name."""

    def work() -> int:
        raise error

    assert command.run("bench.tried", work) == code
    assert capsys.readouterr().err == "bench.tried: words.\n"


@pytest.fixture
def ignored() -> Iterator[None]:
    """SIGTERM is ignored for the test."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("ignored")
def test_ctrl_c_and_sigterm_end_alike(capsys: pytest.CaptureFixture[str]) -> None:
    """130 and what the same command does next; the handler of before is back."""

    def work() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 5)  # interrupted by the handler's error
        return 0

    assert command.run("bench.tried", work) == 130
    assert capsys.readouterr().err == "bench.tried: interrupted; the same command goes on from here.\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_the_works_own_code_is_the_commands() -> None:
    """A run whose texts failed says so without an error."""
    assert command.run("bench.tried", lambda: 1) == 1


def test_a_bug_is_not_made_a_sentence() -> None:
    """Its traceback is wanted."""

    def work() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command.run("bench.tried", work)
