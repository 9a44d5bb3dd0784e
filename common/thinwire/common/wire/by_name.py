"""Dataclasses ↔ messages whose fields have the same names; enums by the names of their members."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from functools import cache, partial
from typing import Any, NamedTuple, TypeVar, get_type_hints

from google.protobuf.message_factory import GetMessageClass

from thinwire.common.errors import RemoteProtocolError

_Value = TypeVar("_Value")
_Message = TypeVar("_Message")
_Convert = Callable[[Any], Any] | None
"""None where both sides have the same."""


class _Field(NamedTuple):
    """What a dataclass and a type of message share."""

    name: str
    may_be_absent: bool
    write: _Convert
    read: _Convert


def to_message(message: Callable[..., _Message], value: Any, **given: Any) -> _Message:
    """
    A message with the fields that it shares with a dataclass instance.

    `given` are fields in another form than `value` has them; None leaves an optional one out.
    """
    for name, _, write, _ in _shared(value.__class__, message):
        if name not in given:
            given[name] = getattr(value, name) if write is None else write(getattr(value, name))
    return message(**given)


def from_message(kind: Callable[..., _Value], message: Any, **given: Any) -> _Value:
    """
    A dataclass instance with the fields that it shares with a message; what is absent takes its default.

    `given` are fields in another form than the message has them.

    Raises:
        RemoteProtocolError: an enum's number that this release does not know; protobuf lets every one pass.
        ConfigError: by the dataclass itself.
    """
    for name, may_be_absent, _, read in _shared(kind, message.__class__):
        if name not in given and not (may_be_absent and not message.HasField(name)):
            given[name] = getattr(message, name) if read is None else read(getattr(message, name))
    return kind(**given)


@cache
def _shared(kind: Any, message: Any) -> tuple[_Field, ...]:
    """The fields that a dataclass and a type of message share; one that is a message counts as present."""
    described = message.DESCRIPTOR.fields_by_name
    hints = get_type_hints(kind)
    found = []
    for name in (field.name for field in fields(kind) if field.name in described):
        field = described[name]
        write: _Convert = None
        read: _Convert = None
        if field.message_type is not None:
            write = partial(to_message, GetMessageClass(field.message_type))
            read = partial(from_message, hints[name])
        elif field.enum_type is not None:
            write, read = enum_numbers(hints[name], field.enum_type)
        elif field.is_repeated:
            read = tuple
        found.append(_Field(name, field.has_presence and field.message_type is None, write, read))
    return tuple(found)


def enum_numbers(kind: Any, enum_type: Any) -> tuple[Callable[[Any], Any], Callable[[int], Any]]:
    """Member → number and back, by TYPE_MEMBER in the enum of protobuf; RemoteProtocolError for no member."""
    prefix = enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
    numbers = {value.name.removeprefix(prefix): value.number for value in enum_type.values if value.number}
    members = {numbers[member.name]: member for member in kind if member.name in numbers}
    what = re.sub("(?<!^)([A-Z])", r" \1", enum_type.name).lower()

    def read(received: int) -> Any:
        if received not in members:
            raise RemoteProtocolError(
                f"{what} is {received}; expected one of {', '.join(map(str, members))}."
            )
        return members[received]

    return lambda member: numbers[member.name], read
