"""
The registry of schemes: one file each, one line here; a package outside enters by an entry point.

The entry point's group is `thinwire.schemes`, its name the scheme's, its object the subclass of `Scheme`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from thinwire.common.errors import ConfigError
from thinwire.common.schemes.auto import AUTO as AUTO
from thinwire.common.schemes.auto import SUMMARY, AutoParameters
from thinwire.common.schemes.base import Scheme as Scheme
from thinwire.common.schemes.c_sqs import CSqs
from thinwire.common.schemes.cloud_ar import CloudAr
from thinwire.common.schemes.coupled import Coupled
from thinwire.common.schemes.dense_f16 import DenseF16
from thinwire.common.schemes.dense_qs import DenseQs
from thinwire.common.schemes.k_sqs import KSqs
from thinwire.common.schemes.parameters import SchemeParameters as SchemeParameters
from thinwire.common.schemes.parameters import written

SCHEMES: dict[str, type[Scheme]] = {
    kind.name: kind for kind in (KSqs, CSqs, DenseQs, Coupled, CloudAr, DenseF16)
}
"""Those of this package."""
DEFAULT_SCHEME = KSqs.name
ENTRY_POINTS = "thinwire.schemes"
"""Group of the entry points of other packages' schemes."""


def scheme_names() -> tuple[str, ...]:
    """Names a client may ask for, other packages' last."""
    return (*SCHEMES, *_plugins())


def load_schemes() -> None:
    """Find and import other packages' schemes, so that a daemon's requests do not wait for files."""
    for name in _plugins():
        with suppress(ConfigError):  # said to whoever asks for it
            find_scheme(name)


def find_scheme(name: str) -> type[Scheme]:
    """The scheme of a name; ConfigError if there is none, or another package's cannot be imported."""
    if name in SCHEMES:
        return SCHEMES[name]
    plugin = _plugins().get(name)
    if plugin is None:
        sentence = f"scheme is {name!r}; expected one of {', '.join(scheme_names())}."
        raise ConfigError(sentence + _suggestion(name, scheme_names()), setting="scheme")
    try:
        kind: type[Scheme] = plugin.load()
    except Exception as error:
        raise ConfigError(f"scheme {name!r} cannot be imported from {plugin.value}: {error!r}.") from error
    if kind.Parameters.scheme != name:
        called = kind.Parameters.scheme
        raise ConfigError(f"the parameters of scheme {name!r} are those of {called!r}; expected its own.")
    return kind


def parameters_of(name: str) -> type[SchemeParameters]:
    """The parameters of a scheme, or of `AUTO`; ConfigError as of `find_scheme`."""
    return AutoParameters if name == AUTO else find_scheme(name).Parameters


def is_auto(parameters: SchemeParameters) -> bool:
    """Whether the edge is to take a scheme."""
    return isinstance(parameters, AutoParameters)


def runs_free(parameters: SchemeParameters) -> bool:
    """Whether a text with this scheme has a target that writes by itself; not known before of `AUTO`."""
    return not is_auto(parameters) and find_scheme(parameters.scheme).would_run_free(parameters)


def scheme_parameters(
    name: str = DEFAULT_SCHEME, temperature: float = 1.0, /, **given: Any
) -> SchemeParameters:
    """
    A scheme's parameters; what is not given takes the scheme's default for the temperature.

    Raises:
        ConfigError: no such scheme or parameter, or a value out of its range.
    """
    kind = parameters_of(name)
    for unknown in given.keys() - kind.specs().keys():
        raise _unknown_parameter(kind, unknown)
    return replace(kind.defaults(temperature), **given)


def read_scheme(text: str) -> tuple[str, dict[str, Any]]:
    """
    What `NAME` or `NAME:PARAMETER=VALUE,...` says, defaults left out.

    A parameter goes by its field's name or its short one, in either case, with - or _.

    Returns:
        the scheme's name; field → value.

    Raises:
        ConfigError: no such scheme or parameter, a value that is none, or a parameter given twice.
    """
    name, colon, rest = text.partition(":")
    parts = [part.partition("=") for part in rest.split(",")] if colon else []
    return name, read_values(name, [(word, value) for word, _, value in parts])


def read_values(name: str, texts: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Field → value, of (parameter, text) pairs; see `read_scheme`."""
    kind = parameters_of(name)
    specs = kind.specs()
    known = {_folded(word): field for field, spec in specs.items() for word in (field, spec.short)}
    given: dict[str, Any] = {}
    for word, text in texts:
        field = known.get(_folded(word))
        if field is None:
            raise _unknown_parameter(kind, word)
        if field in given:
            raise ConfigError(f"{word} of {name} is given twice; expected it once.", setting="scheme")
        try:
            given[field] = specs[field].read(text)
            specs[field].check(f"{word} of {name}", given[field])
        except ValueError:
            sentence = f"{word} of {name} is {text!r}; expected {specs[field].expected}."
            raise ConfigError(sentence, setting="scheme") from None
    return given


def parse_scheme(text: str, temperature: float = 1.0) -> SchemeParameters:
    """
    The scheme that `NAME` or `NAME:PARAMETER=VALUE,...` stands for, such as k-sqs:K=8,ell=100.

    Errors are those of `read_scheme` and `scheme_parameters`.
    """
    name, given = read_scheme(text)
    return scheme_parameters(name, temperature, **given)


def make_scheme(parameters: SchemeParameters, *, vocabulary_size: int) -> Scheme:
    """The scheme that `parameters` belong to; ConfigError for a V that it cannot honour."""
    return find_scheme(parameters.scheme)(parameters, vocabulary_size=vocabulary_size)


def schemes_help() -> str:
    """Every scheme with its parameters and their defaults, for a command's help."""
    lines = ["schemes, as --scheme NAME or NAME:PARAMETER=VALUE,...:", f"  {AUTO:<12}{SUMMARY}"]
    for name in scheme_names():
        try:
            kind = find_scheme(name)
        except ConfigError as error:
            lines.append(f"  {name:<12}{error.message}")
            continue
        lines.append(f"  {name:<12}{kind.summary()}")
        lines += [
            f"    {spec.short + '=' + default:<22}{spec.means}; {spec.expected.removeprefix('a number ')}"
            for _, default, spec in parameter_rows(kind.Parameters)
        ]
    return "\n".join(lines) + "\n"


def parameter_rows(kind: type[SchemeParameters]) -> list[tuple[str, str, Any]]:
    """A scheme's parameters: field, default as the command line takes it (BY-TEMPERATURE), and `Spec`."""
    cold, hot = kind.defaults(0.0).values(), kind.defaults(10.0).values()
    return [
        (name, written(cold[name]) if cold[name] == hot[name] else "BY-TEMPERATURE", spec)
        for name, spec in kind.specs().items()
    ]


@cache
def _plugins() -> dict[str, EntryPoint]:
    """Other packages' entry points by name; one of a name of ours is passed over."""
    found = entry_points(group=ENTRY_POINTS)
    return {point.name: point for point in found if point.name.replace("_", "-") not in SCHEMES}


def _unknown_parameter(kind: type[SchemeParameters], name: str) -> ConfigError:
    known = [spec.short for spec in kind.specs().values()]
    expected = f"one of {', '.join(known)}" if known else "none"
    sentence = f"{kind.scheme} has no parameter {name!r}; expected {expected}."
    return ConfigError(sentence + _suggestion(name, (*known, *kind.specs())), setting="scheme")


def _suggestion(received: str, known: Iterable[str]) -> str:
    """A second sentence with the known name that comes nearest, if one does."""
    # A peer's may be long.
    near = difflib.get_close_matches(received, known, n=1) if len(received) < 64 else []
    return f" Did you mean {near[0]}?" if near else ""


def _folded(word: str) -> str:
    return word.strip().replace("-", "_").casefold()
