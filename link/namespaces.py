"""
A network namespace as a thread that lives in it, and the settings both ends share.

The namespace has no name in /run/netns: it exists while the thread (or a process started in it) does, so
that no crash can leave it behind, and no mount namespace is needed to make one without root.
Others reach it as /proc/PID/task/TID/ns/net.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from link import devices, linux
from link.errors import LinkUnavailableError

T = TypeVar("T")
_CONGESTION = Path("/proc/sys/net/ipv4/tcp_congestion_control")
_ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
_AVAILABLE = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
_HOST_LOCK = "\0thinwire-link-congestion-control"
_HOST_LOCK_TIMEOUT_S = 5.0


class NamespaceThread:
    """
    A new network namespace with its loopback up and IPv6 off.

    Raises:
        LinkUnavailableError: this user may not make one.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        try:
            self._thread.submit(linux.unshare, linux.CLONE_NEWNET).result()
        except OSError as error:
            raise LinkUnavailableError(f"a network namespace cannot be made ({error.strerror}).") from error
        self.thread_id = self.call(threading.get_native_id)
        self.inode = self.call(lambda: os.stat("/proc/thread-self/ns/net").st_ino)
        self.call(lambda: devices.set_up("lo"))
        self.call(devices.switch_ipv6_off)

    def call(self, function: Callable[[], T]) -> T:
        """Run something inside, child processes included; returns what it returns."""
        return self._thread.submit(function).result()


def set_congestion_control(namespace: NamespaceThread, name: str) -> None:
    """
    Make `name` the congestion control of the namespace's new TCP sockets.

    The host may have it and yet not allow it in namespaces; it is then allowed for the moment of setting it,
    and the host's list restored.

    Raises:
        LinkUnavailableError: the kernel lacks it, or only the host's root can allow it.
    """
    try:
        namespace.call(lambda: _write(_CONGESTION, name))
        return
    except FileNotFoundError as error:
        raise LinkUnavailableError(
            f"congestion control is {name!r}; expected one the kernel has: {_AVAILABLE.read_text().strip()}."
        ) from error
    except PermissionError:
        pass
    try:
        with _host_lock():
            allowed = _ALLOWED.read_text().strip()
            _write(_ALLOWED, f"{allowed} {name}")
            try:
                namespace.call(lambda: _write(_CONGESTION, name))
            finally:
                _write(_ALLOWED, allowed)
    except PermissionError as error:
        raise LinkUnavailableError(
            f"congestion control is {name!r}; this host allows {_ALLOWED.read_text().strip()} in namespaces. "
            f"Choose one of those, or as root: sysctl -w "
            f"net.ipv4.tcp_allowed_congestion_control='{_ALLOWED.read_text().strip()} {name}'"
        ) from error


def _write(setting: Path, value: str) -> None:
    # Unbuffered: the error belongs to this call and to no later close.
    descriptor = os.open(setting, os.O_WRONLY)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _host_lock() -> Iterator[None]:
    """One link at a time; an abstract socket leaves no file and goes with its process."""
    give_up_at_s = time.monotonic() + _HOST_LOCK_TIMEOUT_S
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        while True:
            try:
                lock.bind(_HOST_LOCK)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > give_up_at_s:
                    raise
            time.sleep(0.01)
        yield
