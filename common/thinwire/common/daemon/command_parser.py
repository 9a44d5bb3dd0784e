"""What the parsers of both commands have in common: whole options only, and sentences that name them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from thinwire.common.errors import ConfigError


class CommandParser(argparse.ArgumentParser):
    """
    An ArgumentParser, of the command or of a subcommand, that takes no abbreviated options.

    Its epilog may be a function, called when help is asked for.

    An abbreviation that is accepted today is another option, or none, after the next release.
    What it parses holds the parser itself as `parser`, so that `option_names` can be asked of it.
    """

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**{**keywords, "allow_abbrev": False})
        self.set_defaults(parser=self)

    def format_help(self) -> str:
        """As argparse's."""
        if callable(self.epilog):
            self.epilog = self.epilog()
        return super().format_help()

    def _print_message(self, message: str, file: Any = None) -> None:
        """As argparse's, which says nothing of a standard output that cannot be written."""
        if file is sys.stdout:
            file.write(message)
        else:
            super()._print_message(message, file)


class RoomyFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the table of exit codes, and gives the options room."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=100)


def option_names(arguments: argparse.Namespace) -> Mapping[str, str]:
    """
    Setting → option, as the command in `arguments` has them.

    A setting is called like its option's `dest`, or like the option itself, with its unit behind it or not:
    `support_size` is `--k`, `resume_ttl_s` is `--resume-ttl`.
    """
    names = {}
    for action in arguments.parser._actions:
        for option in action.option_strings[-1:]:
            for name in (action.dest, option.removeprefix("--").replace("-", "_")):
                names[name] = names[f"{name}_s"] = option
    return names


def as_typed(error: ConfigError, names: Mapping[str, str]) -> str:
    """
    The error's sentence, with the option that its reader typed in place of the setting's name.

    Args:
        names: of `option_names`; a setting that is not among them keeps its own.
    """
    option = names.get(error.setting)
    if option is None or not error.message.startswith(error.setting):
        return error.message
    return option + error.message.removeprefix(error.setting)
