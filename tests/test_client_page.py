"""docs/python-client.md against the code: every argument with its option and its default."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import pytest

import thinwire
from thinwire.edge.cli import generation_request, make_parser
from thinwire.edge.client import ClientOptions, GenerationOptions

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "python-client.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_argument_of_a_text_is_there_with_its_default() -> None:
    """The command line's defaults are the client's."""
    arguments = make_parser({}).parse_args(["generate", "a"])
    request = generation_request(arguments, "a")
    values = {**asdict(request.sampling), **{name: getattr(request, name) for name in request.__slots__}}
    values |= {"scheme": request.scheme.scheme, "seed": "fresh bits"}
    shown = {"False": "off", "()": "none", "": "none"}
    documented = {row[0].strip("`"): row[2] for row in rows("What can be asked for")}

    assert documented == {
        name: shown.get(str(values[name]), str(values[name])) for name in GenerationOptions.__annotations__
    }


def test_every_option_of_the_command_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    """By its name in the command's own help."""
    with pytest.raises(SystemExit):
        make_parser({}).parse_args(["generate", "--help"])
    help_text = capsys.readouterr().out

    assert all(row[1].strip("`") + " " in help_text for row in rows("What can be asked for"))


def test_every_argument_of_the_client_is_there() -> None:
    """In their order, behind the address."""
    named = [name for row in rows("The client") for name in re.findall(r"`(\w+)`", row[0])]

    assert named == ["address", *ClientOptions.__annotations__]


def test_every_public_error_is_there() -> None:
    """With the module's name in front, as it is caught."""
    errors = {name for name in thinwire.__all__ if name.endswith("Error")}

    assert set(re.findall(r"`thinwire\.(\w+Error)`", PAGE)) == errors
