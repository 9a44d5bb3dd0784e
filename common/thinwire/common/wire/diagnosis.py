"""Why a daemon does not answer: by TLS where it was dialled without, or the other way round."""

from __future__ import annotations

import asyncio
import ssl

from thinwire.common.door.security import ClientSecurity

_PROBE_TIMEOUT_S = 0.5
"""For one connection and a TLS handshake to a daemon that has just refused another."""


async def wrong_protection(address: str, security: ClientSecurity, *, option: str) -> str | None:
    """
    Whether an address that cannot be connected to speaks what it was not dialled by.

    Args:
        address: HOST:PORT.
        security: how it was dialled.
        option: that names its authority, for the sentence.

    Returns:
        half a sentence that says so; None if that is not the reason.
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
