"""Messages as lines of a transcript show them."""

from __future__ import annotations

from typing import Any

UP, DOWN, EDGE, CLOUD, LINK = "edge  → cloud", "edge  ← cloud", "edge", "cloud", "link"


def fields_of(message: Any) -> str:
    """Every field that is there, and every number, as name=value; of more than 16 bytes the first four."""
    shown = []
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if message.HasField(field.name) if field.has_presence else isinstance(value, int) or value:
            values = value if field.is_repeated else [value]
            text = ",".join(_value(field, one) for one in values)
            shown.append(f"{field.name}={f'[{text}]' if field.is_repeated else text}")
    return " ".join(shown)


def _value(field: Any, value: Any) -> str:
    if field.message_type is not None:
        return f"({fields_of(value)})"
    if field.enum_type is not None:
        return str(field.enum_type.values_by_number[value].name)
    if isinstance(value, bytes):
        return value.hex() if len(value) <= 16 else value[:4].hex() + "…"
    return str(value)
