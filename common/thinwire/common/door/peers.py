"""Peers by their addresses: which are on this machine, which count as one, and how much one may hold."""

from __future__ import annotations

import socket
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from thinwire.common.errors import ResourceExhaustedError

_IPV6_NETWORK_BITS = 64
"""One host has a whole /64 to dial from."""

Endpoint = tuple[IPv4Address | IPv6Address, int]
"""Address and port."""


class PeerBound:
    """Counts up to `limit` of `what`, a plural, by peer, and behind a peer's address by owner where known."""

    def __init__(self, what: str, limit: int) -> None:
        self._what = what
        self._limit = limit
        self._held: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def held(self, peer: str, owner: str = "") -> Iterator[None]:
        """
        One more is held while the context lasts; ResourceExhaustedError if as many are held as may be.

        Args:
            peer: as gRPC names it, `ipv4:HOST:PORT`, `ipv6:[HOST]:PORT` or `unix:...`.
            owner: who has proved to be behind this address; each has a bound of its own, so that tenants
                behind one address translator do not take each other's room.
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
    """The address and port of a peer as gRPC names it; None for a local transport."""
    kind, _, rest = urllib.parse.unquote(peer).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return None
    host, _, port = rest.rpartition(":")
    return plain_ip(host.strip("[]")), int(port)


def host_of(endpoint: Endpoint) -> str:
    """Who is counted as one peer: the IPv4 address, or the IPv6 /64."""
    ip, _ = endpoint
    return str(ip if ip.version == 4 else ip_network((ip, _IPV6_NETWORK_BITS), strict=False))


def is_loopback(address: str) -> bool:
    """
    Whether everything that `address`, HOST:PORT or `unix:PATH`, stands for stays on this machine.

    A name is resolved, and must give loopback addresses only; `0.0.0.0` and `[::]`, which listen everywhere,
    and a name that cannot be resolved do not count.
    """
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        found = socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return bool(host) and all(plain_ip(str(entry[4][0])).is_loopback for entry in found)


def plain_ip(text: str) -> IPv4Address | IPv6Address:
    """An IP address without its zone; an IPv4 one is the same in both ways in which it can be written."""
    ip = ip_address(text.partition("%")[0])
    return (ip.ipv4_mapped if isinstance(ip, IPv6Address) else None) or ip
