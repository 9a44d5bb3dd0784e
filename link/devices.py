"""
Network devices and per-namespace settings of the calling thread's network namespace.

By ioctl and /proc instead of iproute2 and ethtool: the wire and the side-car then need nothing installed.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from link.errors import LinkUnavailableError

DEVICE = "link0"
"""The link's device at either end."""

# From <linux/if_tun.h>, <linux/sockios.h>, <linux/if.h>, <linux/ethtool.h>.
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFDSTADDR = 0x8913, 0x8914, 0x8916, 0x8918
_SIOCSIFMTU, _SIOCSIFTXQLEN, _SIOCETHTOOL = 0x8922, 0x8943, 0x8946
_IFF_UP = 0x1
_OFFLOADS = {"tso": (0x1E, 0x1F), "gso": (0x23, 0x24), "gro": (0x2B, 0x2C)}
"""Name → (ETHTOOL_G…, ETHTOOL_S…)."""
_SOCKADDR_IN = struct.Struct("=HH4s8x")
_TRANSMIT_QUEUE_PACKETS = 1000


@dataclass(frozen=True, slots=True)
class InterfaceCounters:
    """One line of /proc/net/dev; a TUN device counts IP packets, a veth Ethernet frames."""

    received_bytes: int
    received_packets: int
    sent_bytes: int
    sent_packets: int
    sent_dropped: int


def open_tun(device: str, *, address: str, peer_address: str, mtu_bytes: int) -> int:
    """
    A TUN device, up, with a route to the peer.

    Returns:
        its non-blocking file descriptor; the device goes when that is closed.

    Raises:
        LinkUnavailableError: there is no /dev/net/tun, or this user may not have a device.
    """
    try:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise LinkUnavailableError(
            f"/dev/net/tun cannot be opened ({error.strerror}); the wire needs it."
        ) from error
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _IFF_TUN | _IFF_NO_PI))
        _set(_SIOCSIFMTU, device, struct.pack("=i", mtu_bytes))
        with contextlib.suppress(PermissionError):
            # Room for a late wire; only the host's root may ask, others keep TUN's own 500.
            _set(_SIOCSIFTXQLEN, device, struct.pack("=i", _TRANSMIT_QUEUE_PACKETS))
        _set(_SIOCSIFADDR, device, _address(address))
        _set(_SIOCSIFDSTADDR, device, _address(peer_address))
        switch_offloads_off(device)
        set_up(device)
    except OSError as error:
        os.close(descriptor)
        raise LinkUnavailableError(
            f"the TUN device {device} cannot be made ({error.strerror}); "
            f"it takes CAP_NET_ADMIN and a free name."
        ) from error
    return descriptor


def set_up(device: str) -> None:
    """Bring a device up."""
    request = struct.pack("16sH22x", device.encode(), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = struct.unpack("16sH22x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", device.encode(), flags | _IFF_UP))


def switch_offloads_off(device: str) -> None:
    """One packet on the line is then one packet in the counters."""
    for _, setter in _OFFLOADS.values():
        _ethtool(device, setter, 0)


def offloads(device: str) -> dict[str, bool]:
    """TSO, GSO and GRO of a device as the kernel has them."""
    return {name: bool(_ethtool(device, getter, 0)) for name, (getter, _) in _OFFLOADS.items()}


def switch_ipv6_off() -> None:
    """Keep router solicitations and MLD out of the counters; nothing happens where IPv6 is absent."""
    for scope in ("all", "default"):
        setting = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
        try:
            setting.write_text("1")
        except OSError:
            return


def ipv6_is_off() -> bool:
    """As the kernel has it."""
    return _read(Path("/proc/sys/net/ipv6/conf/all/disable_ipv6"), absent="1") == "1"


def congestion_control() -> str:
    """Congestion control of new TCP sockets."""
    return _read(Path("/proc/sys/net/ipv4/tcp_congestion_control"), absent="unknown")


def tcp_timestamps() -> bool:
    """Whether TCP carries 12 bytes of time stamps in each packet."""
    return _read(Path("/proc/sys/net/ipv4/tcp_timestamps"), absent="1") != "0"


def interface_counters(device: str, table: Path = Path("/proc/thread-self/net/dev")) -> InterfaceCounters:
    """
    The kernel's counters of one device.

    Args:
        table: /proc/PID/task/TID/net/dev reads another thread's namespace without entering it.
    """
    for line in table.read_text().splitlines():
        name, _, values = line.partition(":")
        if name.strip() == device:
            numbers = [int(value) for value in values.split()]
            return InterfaceCounters(numbers[0], numbers[1], numbers[8], numbers[9], numbers[11])
    raise LinkUnavailableError(f"no device {device} in {table}; expected the link's own.")


def _read(setting: Path, *, absent: str) -> str:
    try:
        return setting.read_text().strip()
    except OSError:
        return absent


def _address(text: str) -> bytes:
    return _SOCKADDR_IN.pack(socket.AF_INET, 0, socket.inet_aton(text))


def _set(number: int, device: str, value: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, number, struct.pack("16s24s", device.encode(), value))


def _ethtool(device: str, command: int, value: int) -> int:
    data = ctypes.create_string_buffer(struct.pack("=II", command, value), 8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sP16x", device.encode(), ctypes.addressof(data))
        fcntl.ioctl(control, _SIOCETHTOOL, request)
    return int(struct.unpack("=II", data.raw)[1])
