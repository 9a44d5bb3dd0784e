"""Command lines made from settings dataclasses."""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Annotated

import pytest

from thinwire.common.config import Option, Seconds, Switch, check_fields, whole
from thinwire.common.daemon.options import CommandParser, add_options, as_typed, from_arguments, option_names
from thinwire.common.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Settings:
    """One field of each kind."""

    path: Annotated[str, Option("path")]
    """Has no default."""
    pause_s: Seconds = 2.5
    """How long,
    in 100% of cases."""
    count: Annotated[int | None, whole("things", 1, 9)] = None
    """Things; none is any number."""
    words: Annotated[tuple[str, ...], Option("word", name="--word")] = ()
    """Repeatable."""
    form: Annotated[str, Option("name", choices=("a", "b"))] = "a"
    """Either."""
    is_on: Switch = False
    """Off unless given."""
    fresh: Annotated[int, Option("number")] = field(default_factory=lambda: 7)
    """Drawn unless given."""
    inner: int = 3
    """No option."""

    def __post_init__(self) -> None:
        check_fields(self)


def parse(*argv: str, **defaults: object) -> argparse.Namespace:
    """Arguments of a command that has the settings behind a prefix."""
    parser = CommandParser(
        prog="it", fill=lambda it: add_options(it, Settings, "group", prefix="x-", **defaults)
    )
    return parser.parse_args(argv)


def test_every_kind_of_field_is_an_option() -> None:
    """What is typed reaches its field; what is not takes the field's default."""
    typed = "--x-path p --x-pause 1 --x-count 4 --word u --word v --x-form b --x-is-on --x-fresh 1"

    assert from_arguments(Settings, parse(*typed.split()), prefix="x-", inner=5) == Settings(
        path="p", pause_s=1, count=4, words=("u", "v"), form="b", is_on=True, fresh=1, inner=5
    )
    assert from_arguments(Settings, parse("--x-path", "p"), prefix="x-") == Settings("p")
    assert from_arguments(Settings, parse(path="here"), prefix="x-") == Settings("here")


@pytest.mark.parametrize(
    "argv", [[], ["--x-path", "p", "--x-form", "c"], ["--x-path", "p", "--x-inner", "1"]]
)
def test_what_is_missing_or_unknown_is_a_usage_error(argv: list[str]) -> None:
    """A field without default must be given, and one without `Option` cannot be."""
    with pytest.raises(SystemExit) as ended:
        parse(*argv)

    assert ended.value.code == 2


def test_the_help_is_the_docstring_with_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    """On as many lines as it takes; a switch and a default of none show none."""
    with pytest.raises(SystemExit):
        parse("--help")
    said = " ".join(capsys.readouterr().out.split())

    assert "--x-pause SECONDS How long, in 100% of cases (default 2.5)" in said
    assert "--x-count THINGS Things; none is any number --word WORD Repeatable --x-form {a,b} Either" in said
    assert "--x-is-on Off unless given --x-fresh" in said


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("--count 0", "--count is 0; expected an integer from 1 to 9."),
        ("--pause 0", "--pause is 0.0; expected more than 0 to 86400 seconds."),
    ],
)
def test_a_refusal_names_the_option(typed: str, sentence: str) -> None:
    """As it is typed, not as its field is called."""
    parser = CommandParser(prog="it", fill=lambda it: add_options(it, Settings, "group"))
    arguments = parser.parse_args(["--path", "p", *typed.split()])
    with pytest.raises(ConfigError) as refused:
        from_arguments(Settings, arguments)

    assert as_typed(refused.value, option_names(arguments)) == sentence


def test_a_value_that_is_no_choice_is_refused_without_a_command_line_too() -> None:
    """The settings know their choices themselves."""
    with pytest.raises(ConfigError, match="form is 'c'; expected one of a, b"):
        Settings("p", form="c")


@pytest.mark.parametrize("program", ["thinwire.edge.cli", "thinwire.cloud.cli"])
def test_help_waits_for_no_library(program: str) -> None:
    """`--help` loads neither gRPC nor a model's libraries."""
    script = (
        f"import sys\nfrom {program} import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('LOADED', sorted({'grpc', 'torch', 'rich', 'prometheus_client'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

    assert ended.stdout.endswith("LOADED []\n"), ended.stderr
