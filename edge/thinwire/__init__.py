"""
Thinwire: exact large-model text over a thin link.

    import thinwire

    with thinwire.Client("127.0.0.1:7072") as client:
        for piece in client.generate("def is_prime(n):", scheme="c-sqs", max_tokens=64):
            print(piece, end="", flush=True)

docs/python-client.md is the page on it. A name is loaded when it is first used.

The repository has three roots of this package (`common/`, `edge/`, `cloud/`), each installed into one name.
This file belongs to the edge: a cloud alone needs no face.
"""

from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thinwire.common.errors import (
        ConfigError,
        ModelError,
        RemoteProtocolError,
        ResourceExhaustedError,
        ThinwireError,
        TransportError,
        UnauthenticatedError,
    )
    from thinwire.edge.blocking_client import Client, Generation
    from thinwire.edge.client import AsyncClient, AsyncGeneration

__path__ = extend_path(__path__, __name__)

__all__ = [
    "AsyncClient",
    "AsyncGeneration",
    "Client",
    "ConfigError",
    "Generation",
    "ModelError",
    "RemoteProtocolError",
    "ResourceExhaustedError",
    "ThinwireError",
    "TransportError",
    "UnauthenticatedError",
]
_CLIENTS = {"Client": "blocking_client", "Generation": "blocking_client"}


def __getattr__(name: str) -> Any:
    """The public name, from the module that defines it."""
    if name not in __all__:
        raise AttributeError(f"module 'thinwire' has no attribute {name!r}")
    home = "common.errors" if name.endswith("Error") else f"edge.{_CLIENTS.get(name, 'client')}"
    return getattr(import_module(f"thinwire.{home}"), name)
