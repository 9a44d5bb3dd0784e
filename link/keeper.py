"""
The link's own process: `python -m link.keeper SETTINGS`, started by `link.link` and nobody else.

It makes both namespaces and the carrier, moves the packets if the carrier wants that, and keeps everything
alive; when it ends, everything on the link ends first.
It ends when its standard input closes (the owner closed the link) or when the owner dies in whatever way: it
watches the owner's process through a pidfd.
PR_SET_PDEATHSIG would fire when the *thread* that opened the link ends, and a pipe alone stays open in a
forked copy of the owner; the pidfd has neither fault.
It speaks lines of JSON: one when ready (or one error), then the counters for each line "counters" it reads.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

from link import devices, linux, runs
from link.carrier import Carrier
from link.description import LinkDescription
from link.errors import LinkError, LinkUnavailableError
from link.forwarding import forward
from link.namespaces import NamespaceThread, set_congestion_control
from link.tc import Tc
from link.wire import Wire

CARRIERS: dict[str, type[Carrier]] = {"wire": Wire, "tc": Tc}
_STANDARD_INPUT = 0


@dataclass(frozen=True, slots=True)
class KeeperSettings:
    """What the owner asks for."""

    run_id: str
    owner_pid: int
    kind: str
    description: LinkDescription
    congestion_control: str
    seed: int

    def as_json(self) -> str:
        """One argument of the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> KeeperSettings:
        """The other way."""
        fields = json.loads(text)
        return cls(**{**fields, "description": LinkDescription(**fields["description"])})


def main() -> int:
    """Keep one link until it is no longer wanted."""
    settings = KeeperSettings.from_json(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's
    signal.signal(signal.SIGTERM, _end)
    if os.getppid() != settings.owner_pid:
        return 1  # it died before we could watch it
    owner = os.pidfd_open(settings.owner_pid)
    namespaces: list[NamespaceThread] = []
    try:
        in_user_namespace = _become_capable()
        namespaces += [NamespaceThread(), NamespaceThread()]
        edge, cloud = namespaces
        for namespace in namespaces:
            set_congestion_control(namespace, settings.congestion_control)
        carrier = CARRIERS[settings.kind](edge, cloud, settings.description, settings.seed)
        _say(_ready(edge, cloud, carrier, in_user_namespace))
        forward(carrier.paths, {owner: lambda: False, _STANDARD_INPUT: lambda: _answer(carrier)})
    except LinkError as error:
        _say({"error": str(error)})
        return 1
    except OSError as error:
        _say({"error": f"the link cannot be made: {error}"})
        return 1
    finally:
        runs.end_processes_in({namespace.inode for namespace in namespaces})
    return 0


def _become_capable() -> bool:
    """
    Make sure this process may make namespaces and devices.

    Returns:
        whether it had to become root in a user namespace for that.
    """
    if linux.has_capabilities(linux.CAP_SYS_ADMIN, linux.CAP_NET_ADMIN):
        return False
    try:
        linux.enter_new_user_namespace()
    except OSError as error:
        raise LinkUnavailableError(
            f"a user namespace cannot be made ({error.strerror}), and this user is not root."
        ) from error
    return True


def _ready(
    edge: NamespaceThread, cloud: NamespaceThread, carrier: Carrier, in_user_namespace: bool
) -> dict[str, Any]:
    return {
        "edge_thread": edge.thread_id,
        "cloud_thread": cloud.thread_id,
        "namespace_inodes": [edge.inode, cloud.inode],
        "in_user_namespace": in_user_namespace,
        "facts": asdict(carrier.facts()),
        "ends": {
            name: {
                "congestion_control": end.call(devices.congestion_control),
                "tcp_timestamps": end.call(devices.tcp_timestamps),
                "ipv6_off": end.call(devices.ipv6_is_off),
                "offloads": end.call(lambda: devices.offloads(devices.DEVICE)),
            }
            for name, end in (("edge", edge), ("cloud", cloud))
        },
    }


def _answer(carrier: Carrier) -> bool:
    """Serve the owner's lines; False once it has closed its end."""
    asked = os.read(_STANDARD_INPUT, 4096)
    for _ in range(asked.count(b"\n")):
        _say(asdict(carrier.counters()))
    return bool(asked)


def _say(message: dict[str, Any]) -> None:
    try:
        print(json.dumps(message), flush=True)
    except BrokenPipeError:
        # The owner is gone; its pidfd ends the loop, and nothing is left to flush at exit.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
