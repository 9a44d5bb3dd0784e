"""Dataclasses ↔ messages whose fields have the same names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

_Value = TypeVar("_Value")
_Message = TypeVar("_Message")


def to_message(message: Callable[..., _Message], value: Any, **given: Any) -> _Message:
    """
    A message with the fields of a dataclass instance.

    Args:
        message: the type; a field that it does not have is left out.
        given: fields in another form than `value` has them.
    """
    names = {field.name for field in fields(value)} & message.DESCRIPTOR.fields_by_name.keys() - given.keys()  # type: ignore[attr-defined]
    return message(**{name: getattr(value, name) for name in names}, **given)


def from_message(kind: Callable[..., _Value], message: Any, **given: Any) -> _Value:
    """
    A dataclass instance with the fields of a message; an optional field that is absent takes its default.

    Args:
        kind: the dataclass; the message has every field that is not given.
        given: fields in another form than the message has them.

    Raises:
        ConfigError: as by the dataclass itself.
    """
    described = message.DESCRIPTOR.fields_by_name
    values = dict(given)
    for name in (field.name for field in fields(kind) if field.name not in given):  # type: ignore[arg-type]
        if not described[name].has_presence or message.HasField(name):
            value = getattr(message, name)
            values[name] = tuple(value) if described[name].is_repeated else value
    return kind(**values)
