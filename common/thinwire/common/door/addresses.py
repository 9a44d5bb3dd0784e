"""Whether an address can be reached from another machine."""

from __future__ import annotations

import ipaddress
import socket


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
    return bool(host) and all(_is_loopback_ip(str(entry[4][0])) for entry in found)


def _is_loopback_ip(text: str) -> bool:
    ip = ipaddress.ip_address(text.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
