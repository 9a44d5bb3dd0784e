"""IP addresses, and whether an address can be reached from another machine."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address


def is_loopback(address: str) -> bool:
    """
    Whether everything `address` stands for stays on this machine.

    A name is resolved, and must give loopback addresses only; `0.0.0.0` and `[::]`, which listen everywhere,
    and a name that cannot be resolved do not count.

    Args:
        address: HOST:PORT as gRPC takes it, or `unix:PATH`.
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
