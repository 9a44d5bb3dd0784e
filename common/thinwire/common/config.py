"""
Settings as frozen dataclasses, checked when made, and the limits both ends enforce.

Environment variables and argv are read by the command lines only; everything below is plain data.
"""

from __future__ import annotations

import enum
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
"""Of a prompt in UTF-8, whatever the context: about 250 000 tokens, and seconds of a tokenizer's time."""
MAX_SECONDS = 86_400
"""Of any time that a daemon or client is told to wait; the timers below have limits of their own."""
MAX_SEED = 2**64 - 1
MIN_TEMPERATURE = 0.01
MAX_TEMPERATURE = 10.0


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """
    Refuse `value` unless it is an integer in [low, high].

    Raises:
        ConfigError: naming the value received and the range expected.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        sentence = f"{name} is {value!r}; expected an integer from {low} to {high}."
        raise ConfigError(sentence, setting=name.partition(" ")[0])


def check_real(name: str, value: object, expected: str, ok: bool) -> None:
    """
    Refuse `value` unless it is a finite number and `ok` holds.

    Raises:
        ConfigError: naming the value received and the range expected.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and ok):
        raise ConfigError(f"{name} is {value!r}; expected {expected}.", setting=name.partition(" ")[0])


def check_seconds(name: str, value: object, *, or_none: bool = False) -> None:
    """
    Refuse `value` unless it is a time to wait: more than 0 seconds and at most a day.

    Args:
        or_none: take 0 too, for no time at all.

    Raises:
        ConfigError: naming the value received and the range expected.
    """
    ok = isinstance(value, (int, float)) and (0 < value <= MAX_SECONDS or (or_none and value == 0))
    check_real(name, value, f"{'0' if or_none else 'more than 0'} to {MAX_SECONDS} seconds", ok)


@dataclass(frozen=True, slots=True)
class Option:
    """
    What a field of a settings dataclass says in `Annotated`, besides its type, its default and its docstring.

    Such a field is an option of a command line (see `common.daemon.options`), and `check_fields` checks it.
    """

    unit: str = ""
    """Of the value; empty for a switch."""
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
    return Option(unit, lambda name, value: check_integer(name, value, low, high))


def real(unit: str, expected: str, is_allowed: Callable[[float], bool]) -> Option:
    """A finite number for which `is_allowed` holds; `expected` says so in words."""

    def check(name: str, value: object) -> None:
        check_real(name, value, expected, isinstance(value, (int, float)) and is_allowed(value))

    return Option(unit, check)


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


class Rollback(enum.Enum):
    """What happens to the support threshold of drafted tokens that were discarded."""

    COMMITTED = "committed"
    """Updates behind the first rejection are undone, so Theorem 2 speaks of the output sequence."""
    DRAFTED = "drafted"
    """Never roll back: every drafted token's update is kept."""


@dataclass(frozen=True, slots=True)
class SchemeParameters:
    """
    One scheme and its parameters.

    A scheme reads the fields it needs; `scheme`, `lattice_resolution`, `support_size` and `max_support_size`
    are all the cloud ever learns of them (they decode the payload).
    """

    scheme: str = "k-sqs"
    """Name in the registry of `common.schemes`."""
    lattice_resolution: int = 100
    """ℓ, integer from 1 to 4096 (dense-qs has a lower limit of its own)."""
    support_size: int = 8
    """K of k-sqs, from 1 to 256."""
    max_support_size: int = 256
    """K_max of c-sqs, from 1 to 256: the most points a threshold support may keep. See `default_scheme`."""
    initial_threshold: float = 0.05
    """β_1 of c-sqs, at most 1; a value at or below 0 keeps everything (up to K_max)."""
    threshold_step: float = 0.01
    """η of c-sqs, in (0, 1]. A small one keeps β steady, so that K_max binds less."""
    target_dropped_mass: float = 0.3
    """α* of c-sqs, in [0, 1). See `default_scheme`."""
    rollback: Rollback = Rollback.COMMITTED
    frozen_threshold: bool = False
    """c-sqs with β fixed at β_1; carries no Theorem 2."""

    def __post_init__(self) -> None:
        check_integer("lattice_resolution", self.lattice_resolution, 1, MAX_LATTICE_RESOLUTION)
        check_integer("support_size", self.support_size, 1, MAX_SUPPORT_SIZE)
        check_integer("max_support_size", self.max_support_size, 1, MAX_SUPPORT_SIZE)
        beta, eta, target = self.initial_threshold, self.threshold_step, self.target_dropped_mass
        check_real("initial_threshold", beta, "a number at most 1", beta <= 1)
        check_real("threshold_step", eta, "a number in (0, 1]", 0 < eta <= 1)
        check_real("target_dropped_mass", target, "a number in [0, 1)", 0 <= target < 1)


@dataclass(frozen=True, slots=True)
class DroppedMassDefault:
    """What c-sqs aims at, up to a temperature."""

    temperature: float
    target_dropped_mass: float
    """α*."""
    max_support_size: int
    """K_max."""


DROPPED_MASS_DEFAULTS = (
    DroppedMassDefault(0.3, 0.01, 64),
    DroppedMassDefault(0.6, 0.05, 256),
    DroppedMassDefault(1.0, 0.3, 256),
    DroppedMassDefault(MAX_TEMPERATURE, 0.7, 256),
)
"""
Ascending in temperature; the first row that reaches a temperature holds for it.

Chosen by `python -m bench.c_sqs_defaults` so that K_max binds on under 1 % of the bundled pair's steps: where
it binds, Theorem 2 is void. The last row is chosen at temperature 1.5.
"""


def default_scheme(temperature: float, **given: Any) -> SchemeParameters:
    """
    Scheme parameters in which what is not given takes its default: α* and K_max by the temperature, the rest
    that of `SchemeParameters`.

    Args:
        temperature: 0 to 10; one out of range takes the last row, since another check refuses it.
        given: fields of `SchemeParameters`.

    Raises:
        ConfigError: a given value out of its range.
    """
    rows = DROPPED_MASS_DEFAULTS
    row = next((row for row in rows if temperature <= row.temperature), rows[-1])
    by_temperature = {
        "target_dropped_mass": row.target_dropped_mass,
        "max_support_size": row.max_support_size,
    }
    return SchemeParameters(**{**by_temperature, **given})
