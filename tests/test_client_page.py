"""docs/python-client.md against the code: every argument with its option and its default."""

from __future__ import annotations

import re
from pathlib import Path

import thinwire
from thinwire.edge.arguments import make_parser
from thinwire.edge.async_client import ClientOptions, GenerationOptions

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "python-client.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_argument_of_a_text_is_there_with_its_option_and_default() -> None:
    """The command line's defaults are the client's."""
    found = {}
    for argument, option, default, _ in rows("What can be asked for"):
        arguments = make_parser({}).parse_args(["generate", "a"])
        value = vars(arguments)[option.strip("`-").replace("-", "_")]
        assert default == {"None": "fresh bits", "False": "off", "[]": "none"}.get(str(value), str(value))
        found[argument.strip("`")] = option

    assert list(found) == list(GenerationOptions.__annotations__)


def test_every_argument_of_the_client_is_there() -> None:
    """In their order, behind the address."""
    named = [name for row in rows("The client") for name in re.findall(r"`(\w+)`", row[0])]

    assert named == ["address", *ClientOptions.__annotations__]


def test_every_public_error_is_there() -> None:
    """With the module's name in front, as it is caught."""
    errors = {name for name in thinwire.__all__ if name.endswith("Error")}

    assert set(re.findall(r"`thinwire\.(\w+Error)`", PAGE)) == errors
