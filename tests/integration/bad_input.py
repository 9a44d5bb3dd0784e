"""A small cloud for bad input: its target, an Open past the edge's own checks, and whether it serves on."""

from __future__ import annotations

from typing import Any

from fakes import TableModel
from thinwire.common import wire
from verify_peer import TARGET, EdgeText, RunningCloud, whole_text

CONTEXT = 64


def model() -> TableModel:
    """A small target."""
    return TableModel(TARGET, context_length=CONTEXT)


async def serves_on(cloud: RunningCloud) -> None:
    """A good session still gets its text, and nothing of a bad one is held."""
    await whole_text(cloud, EdgeText(), 2)
    assert cloud.server.sessions == 0


def open_proto(**fields: Any) -> Any:
    """A good Open with fields set past the edge's own checks; `scheme__x` sets scheme.x."""
    request = wire.EdgeStreamWriter().to_proto(EdgeText().open)
    for name, value in fields.items():
        *outer, leaf = name.split("__")
        owner = request.open
        for part in outer:
            owner = getattr(owner, part)
        if isinstance(value, list):
            del getattr(owner, leaf)[:]
            getattr(owner, leaf).extend(value)
        else:
            setattr(owner, leaf, value)
    return request
