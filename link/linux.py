"""The system calls of Linux that Python 3.11 does not wrap."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
CAP_NET_ADMIN = 12
CAP_SYS_ADMIN = 21
_PR_SET_TIMERSLACK = 29
_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Give the calling thread (network) or this single-threaded process (user) new namespaces."""
    _check(_libc.unshare(flags), "unshare")


def set_namespace(descriptor: int, flags: int) -> None:
    """Move the calling thread (network) or this single-threaded process (user) into a namespace."""
    _check(_libc.setns(descriptor, flags), "setns")


def enter_new_user_namespace() -> None:
    """
    Become root in a user namespace of one's own; this process must have one thread.

    Raises:
        OSError: the kernel or its security module forbids it.
    """
    user, group = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"0 {user} 1")
    (own / "gid_map").write_text(f"0 {group} 1")


def has_capabilities(*numbers: int) -> bool:
    """Whether this process has all of them, where it is."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return all(int(value, 16) >> number & 1 for number in numbers)
    return False


def become_real_time(priority: int) -> bool:
    """
    Run the calling thread before every ordinary one (SCHED_FIFO) and let it sleep to the microsecond.

    Children run as ordinary processes again.

    Returns:
        whether the kernel allowed SCHED_FIFO.
    """
    _libc.prctl(_PR_SET_TIMERSLACK, 1000, 0, 0, 0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except OSError:
        return False
    return True


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
