"""TLS and tokens in gRPC: how a peer is dialled, and what a call carries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc

from thinwire.common.door.security import ClientSecurity
from thinwire.common.wire.transport import channel_options

_AUTHORIZATION = "authorization"
_SCHEME = "Bearer "

Metadata = tuple[tuple[str, str], ...]


def open_channel(
    address: str, security: ClientSecurity, *, options: Iterable[tuple[str, Any]] = ()
) -> grpc.aio.Channel:
    """
    A channel to a daemon, by TLS unless `security` says otherwise; it connects when it is used.

    Args:
        options: beside `channel_options`.
    """
    every = [*channel_options(), *options]
    if not security.of(address).is_encrypted:
        return grpc.aio.insecure_channel(address, options=every)
    pair = security.key_pair
    credentials = grpc.ssl_channel_credentials(
        root_certificates=security.authority,
        private_key=pair.private_key if pair else None,
        certificate_chain=pair.certificate_chain if pair else None,
    )
    return grpc.aio.secure_channel(address, credentials, options=every)


def call_metadata(security: ClientSecurity) -> Metadata:
    """What every call carries: the token, if there is one."""
    return () if security.token is None else ((_AUTHORIZATION, _SCHEME + security.token),)


def token_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> str | None:
    """The token of a call's metadata; None without exactly one."""
    found = [value for key, value in metadata or () if key == _AUTHORIZATION]
    if len(found) != 1 or not isinstance(found[0], str) or not found[0].startswith(_SCHEME):
        return None
    return found[0].removeprefix(_SCHEME)
