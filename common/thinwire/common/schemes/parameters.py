"""
What one scheme is told: a frozen dataclass a scheme, in which each parameter is defined once.

A field says its range, its short name, what it means and whether the cloud needs it. The command line, its
help, the wire, the checksum and the table in docs/schemes.md are made from that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache, lru_cache, partial
from typing import Any, ClassVar, Self

from thinwire.common.config import check_integer, real_check
from thinwire.common.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Spec:
    """One parameter of a scheme, besides its name and default."""

    short: str
    """Short name, as a formula has it, such as K."""
    means: str
    expected: str
    """Its range, in words."""
    read: Callable[[str], Any]
    """The value that a text stands for; ValueError if there is none."""
    check: Callable[[str, Any], None]
    """Raises ConfigError, given the field's name and a value out of range."""
    decodes: bool
    """Whether the cloud needs it to decode a payload; it learns no other."""


def integer(default: int, *, short: str, means: str, low: int, high: int, decodes: bool = False) -> Any:
    """A dataclass field: an integer from `low` to `high`."""
    check = partial(check_integer, low=low, high=high)
    spec = Spec(short, means, f"{low} to {high}", int, check, decodes)
    return field(default=default, metadata={"spec": spec})


def real(default: float, *, short: str, means: str, expected: str, accepts: Callable[[float], bool]) -> Any:
    """A dataclass field: a finite number that `accepts` takes."""
    spec = Spec(short, means, expected, float, real_check(expected, accepts), False)
    return field(default=default, metadata={"spec": spec})


def choice(default: Any, *, short: str, means: str, values: dict[str, Any]) -> Any:
    """A dataclass field: one of a few values, by the words that stand for them."""
    expected = " or ".join(values)

    def read(text: str) -> Any:
        if text not in values:
            raise ValueError
        return values[text]

    def check(name: str, value: Any) -> None:
        if not any(
            value is known or (isinstance(value, str) and value == known) for known in values.values()
        ):
            raise ConfigError(f"{name} is {value!r}; expected {expected}.", setting=name)

    return field(default=default, metadata={"spec": Spec(short, means, expected, read, check, False)})


def switch(*, short: str, means: str) -> Any:
    """A dataclass field: off unless given as 1."""
    return choice(False, short=short, means=means, values={"0": False, "1": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeParameters:
    """Base of each scheme's `Parameters`; each field is made, and checked, by one of the functions above."""

    scheme: ClassVar[str]
    """Name of the scheme; the scheme's class sets it."""

    def __post_init__(self) -> None:
        for name, spec in self.specs().items():
            spec.check(name, getattr(self, name))

    @classmethod
    @cache
    def specs(cls) -> Mapping[str, Spec]:
        """Field → what is known of it, in the fields' order."""
        return {each.name: each.metadata["spec"] for each in fields(cls)}

    @classmethod
    def defaults(cls, temperature: float) -> Self:
        """What parameters take that are not given; a temperature out of range is refused elsewhere."""
        return cls()

    def values(self, *, decoding: bool = False) -> dict[str, Any]:
        """Field → value; with `decoding`, only those that the cloud needs."""
        specs = self.specs().items()
        return {name: getattr(self, name) for name, spec in specs if spec.decodes or not decoding}

    def canonical(self) -> bytes:
        """Name and decoding parameters, as the checksum of a round covers them (`proto/README.md`)."""
        return _canonical(self)

    def __str__(self) -> str:
        """As the command line takes it, every parameter by its short name."""
        given = ",".join(
            f"{spec.short}={written(getattr(self, name))}" for name, spec in self.specs().items()
        )
        return f"{self.scheme}:{given}" if given else self.scheme


@lru_cache(maxsize=256)  # each end asks once a round
def _canonical(parameters: SchemeParameters) -> bytes:
    given = ",".join(f"{name}={written(value)}" for name, value in parameters.values(decoding=True).items())
    return f"{parameters.scheme}:{given}".encode()


def written(value: Any) -> str:
    """A value as a parameter's `read` takes it; a number comes back exactly."""
    if isinstance(value, bool):
        return str(int(value))
    return value if isinstance(value, str) else repr(value)
