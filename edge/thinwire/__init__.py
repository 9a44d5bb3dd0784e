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
    from thinwire.common.errors import ConfigError as ConfigError
    from thinwire.common.errors import ModelError as ModelError
    from thinwire.common.errors import RemoteProtocolError as RemoteProtocolError
    from thinwire.common.errors import ResourceExhaustedError as ResourceExhaustedError
    from thinwire.common.errors import ThinwireError as ThinwireError
    from thinwire.common.errors import TransportError as TransportError
    from thinwire.common.errors import UnauthenticatedError as UnauthenticatedError
    from thinwire.edge.blocking_client import Client as Client
    from thinwire.edge.blocking_client import Generation as Generation
    from thinwire.edge.client import AsyncClient as AsyncClient
    from thinwire.edge.client import AsyncGeneration as AsyncGeneration

__path__ = extend_path(__path__, __name__)

_HOMES = {
    "AsyncClient": "thinwire.edge.client",
    "AsyncGeneration": "thinwire.edge.client",
    "Client": "thinwire.edge.blocking_client",
    "ConfigError": "thinwire.common.errors",
    "Generation": "thinwire.edge.blocking_client",
    "ModelError": "thinwire.common.errors",
    "RemoteProtocolError": "thinwire.common.errors",
    "ResourceExhaustedError": "thinwire.common.errors",
    "ThinwireError": "thinwire.common.errors",
    "TransportError": "thinwire.common.errors",
    "UnauthenticatedError": "thinwire.common.errors",
}
"""Public name → the module that defines it."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """The public name, from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'thinwire' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
