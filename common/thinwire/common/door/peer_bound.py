"""How much one peer may hold of what it did not have to prove itself for."""

from __future__ import annotations

import ipaddress
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from thinwire.common.door.addresses import plain_ip
from thinwire.common.errors import ResourceExhaustedError

_IPV6_NETWORK_BITS = 64
"""One host has a whole /64 to dial from."""

Endpoint = tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]
"""Address and port."""


class PeerBound:
    """
    Counts something by peer, and behind one peer's address by owner where owners are known.

    Args:
        what: its name in the plural, for the refusal.
        limit: at once and peer.
    """

    def __init__(self, what: str, limit: int) -> None:
        self._what = what
        self._limit = limit
        self._held: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def held(self, peer: str, owner: str = "") -> Iterator[None]:
        """
        One more is held while the context lasts.

        Args:
            peer: as gRPC names it, `ipv4:HOST:PORT`, `ipv6:[HOST]:PORT` or `unix:...`.
            owner: who has proved to be the one behind this address that holds it; each has a bound of its
                own, so that tenants behind one address translator do not take each other's room.

        Raises:
            ResourceExhaustedError: as many are held as may be.
        """
        key = (peer_host(peer), owner)
        if self._held[key] >= self._limit:
            holder = f"tenant {owner} at this address" if owner else "this address"
            raise ResourceExhaustedError(
                f"{holder} holds {self._held[key]} {self._what}; expected fewer than {self._limit}."
            )
        self._held[key] += 1
        try:
            yield
        finally:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]


def peer_host(peer: str) -> str:
    """Who is counted as one peer: the IPv4 address, the IPv6 /64, or the kind of a local transport."""
    endpoint = peer_endpoint(peer)
    return peer.partition(":")[0] if endpoint is None else host_of(endpoint)


def peer_endpoint(peer: str) -> Endpoint | None:
    """
    The address and port of a peer.

    Args:
        peer: as gRPC names it.

    Returns:
        None for a local transport.
    """
    kind, _, rest = urllib.parse.unquote(peer).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return None
    host, _, port = rest.rpartition(":")
    return plain_ip(host.strip("[]")), int(port)


def host_of(endpoint: Endpoint) -> str:
    """Who is counted as one peer: the IPv4 address, or the IPv6 /64."""
    ip, _ = endpoint
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((ip, _IPV6_NETWORK_BITS), strict=False))
    return str(ip)
