"""Errors of bench's commands: one sentence, one exit code, and what is nobody's fault goes through."""

from __future__ import annotations

import os
import signal

import pytest

from bench import command
from bench.grid.records import RecordError
from bench.grid.store import StoreError
from link.errors import LinkBrokenError, LinkDescriptionError, LinkRefusedError, LinkUnavailableError
from thinwire.common.daemon.launcher import DaemonDiedError
from thinwire.common.errors import ConfigError


def run_into(error: Exception) -> int:
    """A command's exit code whose work raises an error."""

    def work() -> int:
        raise error

    return command.run("bench.tried", work)


@pytest.mark.parametrize(
    ("code", "kinds"),
    [
        (1, (LinkBrokenError, DaemonDiedError, command.CommandError)),
        (2, (ConfigError, StoreError, RecordError, LinkDescriptionError)),
        (3, (LinkRefusedError,)),
        (4, (LinkUnavailableError,)),
    ],
)
def test_an_expected_error_is_a_sentence_and_a_code(
    code: int, kinds: tuple[type[Exception], ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, after the command's name."""
    for kind in kinds:
        assert run_into(kind("words.")) == code
        assert capsys.readouterr().err == "bench.tried: words.\n"


def test_ctrl_c_and_sigterm_end_alike(capsys: pytest.CaptureFixture[str]) -> None:
    """130 and what the same command does next; the handler of before is back."""

    def work() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 5)  # interrupted by the handler's error
        return 0

    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert command.run("bench.tried", work) == 130
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err == "bench.tried: interrupted; the same command goes on from here.\n"


def test_the_works_own_code_is_the_commands_and_a_bug_is_not_made_a_sentence() -> None:
    """A run whose texts failed says so without an error; a bug's traceback is wanted."""
    assert command.run("bench.tried", lambda: 1) == 1
    with pytest.raises(ZeroDivisionError):
        run_into(ZeroDivisionError())
