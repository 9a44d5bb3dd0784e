"""What a container engine could leave behind on this machine."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class HostState:
    """Nothing of it may be new afterwards."""

    devices: frozenset[str]
    mounts: frozenset[str]
    control_groups: frozenset[str]
    """The engine's own parents."""
    firewall: str
    """iptables-save without its counters and comments; "" where there is no iptables."""
    forwarding: str

    @classmethod
    def now(cls) -> HostState:
        """The state at this moment."""
        return cls(
            devices=frozenset(os.listdir("/sys/class/net")),
            mounts=frozenset(
                line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()
            ),
            control_groups=frozenset(str(path) for path in CGROUPS.glob("**/docker")),
            firewall=_firewall(),
            forwarding=FORWARDING.read_text().strip(),
        )

    def differences(self, before: HostState) -> list[str]:
        """One sentence for each thing that has come or changed; what others took away is theirs."""
        found = []
        for name in ("devices", "mounts", "control_groups"):
            if new := getattr(self, name) - getattr(before, name):
                found.append(f"{name}: {sorted(new)}")
        for name in ("firewall", "forwarding"):
            if getattr(self, name) != getattr(before, name):
                found.append(f"{name}: {getattr(before, name)!r} became {getattr(self, name)!r}")
        return found


def processes_with(text: str) -> list[int]:
    """The ids of every process whose command line has the text, except this one."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in command:
                found.append(int(folder.name))
    return found


def remove_control_groups(paths: frozenset[str]) -> None:
    """Those an engine made; a group in use stays."""
    for path in paths:
        for folder, _, _ in os.walk(path, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                continue


def _firewall() -> str:
    try:
        saved = subprocess.run(
            ["iptables-save"], capture_output=True, text=True, check=False, timeout=20
        ).stdout
    except FileNotFoundError:
        return ""
    return "\n".join(line.partition(" [")[0] for line in saved.splitlines() if not line.startswith("#"))
