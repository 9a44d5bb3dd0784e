"""TLS and tokens in gRPC: how a peer is dialled, what a call carries, and why a peer does not answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

import grpc

from thinwire.common.door.security import ClientSecurity
from thinwire.common.wire.transport import channel_options

_AUTHORIZATION = "authorization"
_SCHEME = "Bearer "
_PROBE_TIMEOUT_S = 0.5
"""For one connection and a TLS handshake to a daemon that has just refused another."""

Metadata = tuple[tuple[str, str], ...]


def open_channel(
    address: str, security: ClientSecurity, *, options: Iterable[tuple[str, Any]] = ()
) -> grpc.aio.Channel:
    """A channel to a daemon, by TLS unless `security` says otherwise; it connects when it is used."""
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


async def wrong_protection(address: str, security: ClientSecurity, *, option: str) -> str | None:
    """
    Half a sentence if an address that cannot be connected to speaks what it was not dialled by, else None.

    `option` is the one that names its authority.
    """
    encrypted = security.of(address).is_encrypted
    spoken = await _speaks_tls(address)
    if spoken is True and not encrypted:
        return f"TLS is spoken there and it was dialled without; expected {option} with its authority"
    if spoken is False and encrypted:
        return f"no TLS is spoken there and it was dialled by TLS; expected no {option}, or a daemon with TLS"
    return None


async def _speaks_tls(address: str) -> bool | None:
    """Whether a TLS handshake begins there; None if nobody says a word."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # nothing is sent on this connection, so whose it is does not matter
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
    except ssl.SSLError as error:
        return None if error.reason is None else error.reason not in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")
    except (OSError, TimeoutError):
        return None
    writer.transport.abort()
    return True
