"""Command lines made from settings dataclasses: a field is an option, and the docstring under it the help."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, TypeVar, get_args, get_origin

from thinwire.common.config import Option, options_of
from thinwire.common.daemon.exit_codes import EXIT_CODES_HELP
from thinwire.common.errors import ConfigError, ThinwireError

Settings = TypeVar("Settings")

_HOST = re.compile(r"\[[0-9A-Fa-f:.%\w]+\]|[^\s:/@\[\]\ud800-\udfff]+")
"""A name or an IPv4 address, or an IPv6 address in brackets, whose colons are then not the port's."""
_PORT = re.compile(r"[0-9]{1,5}")


def address(text: str) -> str:
    """HOST:PORT, checked for its shape only; ArgumentTypeError if it is not of that shape."""
    host, _, port = text.rpartition(":")
    if not _HOST.fullmatch(host) or not _PORT.fullmatch(port) or int(port) > 65535:
        looks_like = ", not a URL" if "/" in text else ", an IPv6 address in brackets" if ":" in host else ""
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT{looks_like}")
    return text


def peer_address(text: str) -> str:
    """HOST:PORT of somebody else; ArgumentTypeError for port 0 too, which is any free one, so nobody's."""
    if int(address(text).rpartition(":")[2]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} has port 0; expected the port that its daemon listens on")
    return text


PeerAddress = Annotated[str, Option("HOST:PORT", parse=peer_address)]


class CommandParser(argparse.ArgumentParser):
    """
    An ArgumentParser, of the command or of a subcommand, that takes no abbreviated options.

    An abbreviation that is accepted today is another option, or none, after the next release.
    What it parses holds the parser itself as `parser`, so that `option_names` can be asked of it.

    Args:
        fill: adds the arguments once they are needed; so a command does not wait for another's.
    """

    def __init__(self, *, fill: Callable[[CommandParser], None] | None = None, **keywords: Any) -> None:
        roomy = {"formatter_class": _RoomyFormatter, "epilog": EXIT_CODES_HELP}
        super().__init__(**{**roomy, **keywords, "allow_abbrev": False})
        self._fill = fill
        self.more_help: Callable[[], str] | None = None
        """Makes what stands before the exit codes, when help is asked for."""
        self.set_defaults(parser=self)

    def filled(self) -> CommandParser:
        """This parser with all its arguments."""
        fill, self._fill = self._fill, None
        if fill is not None:
            fill(self)
        return self

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.filled()
        return super().parse_known_args(args, namespace)

    def format_help(self) -> str:
        if self.more_help is not None:
            self.epilog, self.more_help = f"{self.more_help()}\n{self.epilog}", None
        return super().format_help()

    def _print_message(self, message: str, file: Any = None) -> None:
        """As argparse's, which says nothing of a standard output that cannot be written."""
        if file is sys.stdout:
            file.write(message)
        else:
            super()._print_message(message, file)


class _RoomyFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the table of exit codes, and gives the options room."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=100)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Fold a description that is one line."""
        return super()._fill_text(text if "\n" in text else textwrap.fill(text, width), width, indent)


def add_options(
    parser: argparse.ArgumentParser,
    kind: type,
    title: str,
    *,
    prefix: str = "",
    without: tuple[str, ...] = (),
    **defaults: object,
) -> None:
    """
    Add the options of a settings dataclass, all but `without`, as one group of the help.

    `prefix` stands before each option's name, such as "cloud-"; `defaults` in place of the fields' own.
    """
    group = parser.add_argument_group(title)
    help_of = _docstrings(kind)
    own = {field.name: field for field in fields(kind)}
    for name, (type_, option) in options_of(kind).items():
        if name in without:
            continue
        bare = name.removesuffix("_s") if option.unit == "seconds" else name
        flag = option.name or f"--{prefix}{bare.replace('_', '-')}"
        field_default = own[name].default
        default = defaults.get(name, None if field_default is MISSING else field_default)
        keywords: dict[str, Any] = {"dest": _dest(prefix, name), "default": default}
        if type_ is bool:
            keywords["action"] = "store_true"
        else:
            item = type_ if get_origin(type_) is None else get_args(type_)[0]
            keywords |= {"type": option.parse or item, "metavar": option.unit.upper().replace(" ", "_")}
            if get_origin(type_) is tuple:
                keywords |= {"action": "append", "default": []}
            elif option.choices:
                keywords |= {"choices": option.choices, "metavar": None}
            if default is None:
                keywords["required"] = field_default is own[name].default_factory is MISSING
        group.add_argument(flag, help=help_of[name].replace("%", "%%") + _shown(default), **keywords)


def from_arguments(
    kind: Callable[..., Settings], arguments: argparse.Namespace, *, prefix: str = "", **given: Any
) -> Settings:
    """
    The settings that `add_options` understood; what was not typed and has no default takes the field's own.

    `given` are fields that no option sets; ConfigError for a value that the settings refuse.
    """
    typed = {name: getattr(arguments, _dest(prefix, name), None) for name in options_of(kind)}
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in typed.items()
        if value is not None
    }
    return kind(**(values | given))


def option_names(arguments: argparse.Namespace) -> Mapping[str, str]:
    """Setting → option, as the command in `arguments` has them."""
    actions = arguments.parser._actions
    return {action.dest: action.option_strings[-1] for action in actions if action.option_strings}


def as_typed(error: ThinwireError, names: Mapping[str, str]) -> str:
    """The error's sentence, with the option that its reader typed (`option_names`) for the setting's name."""
    setting = error.setting if isinstance(error, ConfigError) else ""
    if setting not in names or not error.message.startswith(setting):
        return error.message
    return names[setting] + error.message.removeprefix(setting)


def _dest(prefix: str, name: str) -> str:
    return prefix.replace("-", "_") + name


def _shown(default: object) -> str:
    """What the help says of a default; a switch is off, and a docstring says what none is."""
    if default is None or isinstance(default, (bool, tuple)):
        return ""
    return f" (default {default:g})" if isinstance(default, float) else f" (default {default})"


@cache
def _docstrings(kind: type) -> Mapping[str, str]:
    """Field of a dataclass → the docstring under it, on one line, without its last full stop."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for statement, below in pairwise(definition.body):
        match statement, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split()).removesuffix(".")
    return found
