"""
Settings as frozen dataclasses, checked when made, and the limits both ends enforce.

Environment variables and argv are read by the command lines only; everything below is plain data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Any, get_type_hints

from thinwire.common.errors import ConfigError

MAX_DRAFT_LENGTH = 64
"""Draft tokens a round; 64 keeps a block's decoding bounded, and acceptance makes longer blocks pointless."""
MAX_SUPPORT_SIZE = 256
"""Support points a drafted token (K and K_max) of a sparse scheme."""
MAX_LATTICE_RESOLUTION = 4096
"""Lattice resolution of a sparse scheme; beyond it quantisation error is far below any dropped mass."""
MAX_ROUND_BYTES = 256 * 1024
"""Serialised bytes of one round."""
MAX_PROMPT_BYTES = 1024 * 1024
"""Bytes of a prompt in UTF-8, whatever the context: about 250 000 tokens, seconds of a tokenizer's time."""
MAX_PREDICTION_BYTES = 256 * 1024
"""Bytes of an expected text in UTF-8; it is looked through where the text departs from it."""
MAX_SECONDS = 86_400
"""The longest time that a daemon or client can be told to wait; the timers below have limits of their own."""
MAX_SEED = 2**64 - 1
MIN_TEMPERATURE = 0.01
MAX_TEMPERATURE = 10.0


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """Refuse `value` with a ConfigError unless it is an integer in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        sentence = f"{name} is {value!r}; expected an integer from {low} to {high}."
        raise ConfigError(sentence, setting=name.partition(" ")[0])


def check_real(name: str, value: object, expected: str, ok: bool) -> None:
    """Refuse `value` with a ConfigError unless it is a finite number and `ok` holds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and ok):
        raise ConfigError(f"{name} is {value!r}; expected {expected}.", setting=name.partition(" ")[0])


def real_check(expected: str, is_allowed: Callable[[float], bool]) -> Callable[[str, object], None]:
    """A check of a field: `check_real` by a rule on finite numbers."""

    def check(name: str, value: object) -> None:
        check_real(name, value, expected, isinstance(value, (int, float)) and is_allowed(value))

    return check


def check_seconds(name: str, value: object, *, or_none: bool = False) -> None:
    """Refuse `value` unless it is a time to wait: over 0 seconds (0 too with `or_none`), at most a day."""
    ok = isinstance(value, (int, float)) and (0 < value <= MAX_SECONDS or (or_none and value == 0))
    check_real(name, value, f"{'0' if or_none else 'more than 0'} to {MAX_SECONDS} seconds", ok)


@dataclass(frozen=True, slots=True)
class Option:
    """
    What a field of a settings dataclass says in `Annotated`, besides its type, its default and its docstring.

    Such a field is an option of a command line (see `common.daemon.options`), and `check_fields` checks it.
    """

    unit: str = ""
    """Unit of the value; empty for a switch."""
    check: Callable[[str, object], None] | None = None
    """Called with the field's name and its value, unless that is None; raises ConfigError."""
    choices: tuple[str, ...] = ()
    """The only values, unless empty."""
    parse: Callable[[str], object] | None = None
    """Makes the value from a word of the command line; the field's type when None."""
    name: str = ""
    """The option as it is typed; made from the field's name unless given."""


@cache
def options_of(kind: type) -> Mapping[str, tuple[type, Option]]:
    """The fields of a dataclass that are options: name → (type, which `Annotated` has, and `Option`)."""
    hints = get_type_hints(kind, include_extras=True)
    marks = {name: getattr(hint, "__metadata__", (None,))[0] for name, hint in hints.items()}
    return {name: (hints[name].__origin__, mark) for name, mark in marks.items() if isinstance(mark, Option)}


def check_fields(settings: object) -> None:
    """
    Refuse settings of which a field with an `Option` has a value that this does not allow.

    Raises:
        ConfigError: naming the field, the value received and what was expected.
    """
    kind: Any = type(settings)
    for name, (_, option) in options_of(kind).items():
        value = getattr(settings, name)
        if option.choices and value not in option.choices:
            sentence = f"{name} is {value!r}; expected one of {', '.join(option.choices)}."
            raise ConfigError(sentence, setting=name)
        if option.check is not None and value is not None:
            option.check(name, value)


def whole(unit: str, low: int, high: int) -> Option:
    """An integer in [low, high]."""
    return Option(unit, partial(check_integer, low=low, high=high))


def real(unit: str, expected: str, is_allowed: Callable[[float], bool]) -> Option:
    """A finite number for which `is_allowed` holds; `expected` says so in words."""
    return Option(unit, real_check(expected, is_allowed))


Seconds = Annotated[float, Option("seconds", check_seconds)]
"""A time to wait."""
SecondsOrNone = Annotated[float, Option("seconds", partial(check_seconds, or_none=True))]
"""A time to wait; 0 for none."""
Switch = Annotated[bool, Option()]
"""Off unless the option is given."""
Temperature = Annotated[
    float,
    real(
        "number",
        f"0 (greedy) or {MIN_TEMPERATURE} to {MAX_TEMPERATURE:g}",
        lambda t: t == 0 or MIN_TEMPERATURE <= t <= MAX_TEMPERATURE,
    ),
]


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """Warping of both models' logits, in transformers' order: temperature, then top-k, then top-p."""

    temperature: Temperature = 1.0
    """0 is greedy (ties to the smaller id), otherwise 0.01 to 10."""
    top_k: Annotated[int, whole("tokens", 0, 2**31 - 1)] = 0
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: Annotated[float, real("mass", "a number in (0, 1]", lambda p: 0 < p <= 1)] = 1.0
    """Keep the smallest set of most likely tokens whose mass reaches this; in (0, 1], 1 keeps all."""

    def __post_init__(self) -> None:
        check_fields(self)
