"""
Telling our processes from others', and the living from the left-over.

Every process of a link carries `RUN_VARIABLE` in its environment: the link's own process, and whatever is
started at its ends.
Its value names the owner, so that a process whose owner is gone can be recognised, and ended, by anybody.
Namespaces and devices need no such care: nameless, they live as long as a process in them, and go with it.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Collection, Iterator
from pathlib import Path

RUN_VARIABLE = "THINWIRE_LINK_RUN"
END_GRACE_S = 0.5
"""Between SIGTERM and SIGKILL for what still runs on a link that ends."""
SWEEP_PATIENCE_S = 1.5
"""A link that has just lost its owner is still ending its processes, and does it more thoroughly."""
_POLL_S = 0.01


def new_run_id() -> str:
    """PIDNAMESPACE-PID-STARTTIME-RANDOM of the calling process, the owner."""
    return f"{_pid_namespace()}-{os.getpid()}-{_start_ticks(os.getpid())}-{secrets.token_hex(3)}"


def owner_is_alive(run_id: str) -> bool:
    """
    Whether the process that made the run id still runs.

    An owner in another PID namespace (a container) cannot be judged from here and counts as alive.
    """
    namespace, pid, start_ticks, _ = run_id.split("-")
    return int(namespace) != _pid_namespace() or _start_ticks(int(pid)) == int(start_ticks)


def processes_of_runs() -> Iterator[tuple[int, str]]:
    """(pid, run id) of every process that belongs to a link and may be looked at."""
    for pid in _pids():
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        for variable in variables:
            name, _, value = variable.partition(b"=")
            if name == RUN_VARIABLE.encode() and value.count(b"-") == 3:
                yield pid, value.decode()


def stale_processes() -> list[int]:
    """Processes of links whose owner is gone."""
    return [pid for pid, run_id in processes_of_runs() if not owner_is_alive(run_id)]


def sweep() -> list[int]:
    """
    Kill every process of a link whose owner is gone, once it has had the time to end by itself.

    Returns:
        their pids.
    """
    give_up_at_s = time.monotonic() + SWEEP_PATIENCE_S
    while (stale := stale_processes()) and time.monotonic() < give_up_at_s:
        time.sleep(_POLL_S)
    for pid in stale:
        _signal(pid, signal.SIGKILL)
    return stale


def processes_in(network_namespaces: Collection[int]) -> list[int]:
    """
    Processes other than this one inside one of the namespaces.

    Args:
        network_namespaces: inode numbers.
    """
    found = []
    for pid in _pids():
        try:
            inside = os.stat(f"/proc/{pid}/ns/net").st_ino in network_namespaces
        except OSError:
            continue
        if inside and pid != os.getpid():
            found.append(pid)
    return found


def end_processes_in(network_namespaces: Collection[int]) -> None:
    """End them, grandchildren and daemons included: SIGTERM, then SIGKILL until none is left."""
    for pid in processes_in(network_namespaces):
        _signal(pid, signal.SIGTERM)
    kill_at_s = time.monotonic() + END_GRACE_S
    give_up_at_s = kill_at_s + 5.0
    while (pids := processes_in(network_namespaces)) and time.monotonic() < give_up_at_s:
        if time.monotonic() >= kill_at_s:
            for pid in pids:
                _signal(pid, signal.SIGKILL)
        time.sleep(_POLL_S)


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def _start_ticks(pid: int) -> int | None:
    """When the process started; None if it is gone or dead and waiting for its parent."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
