"""Dataclasses ↔ messages whose fields have the same names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar

_Value = TypeVar("_Value")
_Message = TypeVar("_Message")


def to_message(message: Callable[..., _Message], value: Any, **given: Any) -> _Message:
    """
    A message with the fields that it shares with a dataclass instance.

    `given` are fields in another form than `value` has them; None leaves an optional one out.
    """
    shared = {
        name: getattr(value, name) for name, _, _ in _shared(value.__class__, message) if name not in given
    }
    return message(**shared, **given)


def from_message(kind: Callable[..., _Value], message: Any, **given: Any) -> _Value:
    """
    A dataclass instance with the fields that it shares with a message; what is absent takes its default.

    `given` are fields in another form than the message has them; ConfigError as by the dataclass itself.
    """
    for name, optional, repeated in _shared(kind, message.__class__):
        if name not in given and (not optional or message.HasField(name)):
            value = getattr(message, name)
            given[name] = tuple(value) if repeated else value
    return kind(**given)


@cache
def _shared(kind: Any, message: Any) -> tuple[tuple[str, bool, bool], ...]:
    """(name, optional, repeated) of each field that a dataclass and a type of message share."""
    described = message.DESCRIPTOR.fields_by_name
    found = [described[field.name] for field in fields(kind) if field.name in described]
    return tuple((field.name, field.has_presence, field.is_repeated) for field in found)
