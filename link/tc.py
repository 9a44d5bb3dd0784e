"""
tc: a veth pair, the kernel's token bucket (tbf) for the rate, and netem for the rest where the kernel has it.

A token bucket caps throughput and nothing else: after a pause it lets a message of up to one burst through at
once, whatever the rate.
Without netem there is no delay either; such a link is good for bytes and throughput only, and says so.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence

from link import devices
from link.carrier import CLOUD_ADDRESS, EDGE_ADDRESS, CarrierFacts, DirectionCounters, LinkCounters
from link.description import Direction, LinkDescription
from link.devices import DEVICE
from link.errors import LinkUnavailableError
from link.forwarding import Path
from link.namespaces import NamespaceThread

TICK_S = 0.004
"""The bucket refills at least this often (HZ=250), so it must hold what the rate brings in between."""
SMALLEST_BURST_BYTES = 1600
"""One full frame; a bigger bucket only makes the link less like a link."""
_NETEM_QUEUE_PACKETS = 100_000
"""netem's own list holds what is under way; the queue that may drop is tbf's."""
_COMMAND_TIMEOUT_S = 10.0


def burst_bytes(rate_bps: int, mtu_bytes: int) -> int:
    """Size of the token bucket: one frame, or one tick of a fast line."""
    return max(SMALLEST_BURST_BYTES, mtu_bytes + 100, round(rate_bps * TICK_S / 8))


def qdisc_commands(direction: Direction, *, mtu_bytes: int, netem: bool) -> list[list[str]]:
    """
    The tc commands for one end's egress.

    Args:
        netem: put delay, jitter and loss in front of the bucket. netem's jitter may reorder packets.
    """
    bucket = [
        *("tbf", "rate", f"{direction.rate_bps}bit"),
        *("burst", str(burst_bytes(direction.rate_bps, mtu_bytes)), "limit", str(direction.queue_bytes)),
    ]
    if not netem:
        return [["tc", "qdisc", "replace", "dev", DEVICE, "root", *bucket]]
    delay = ["delay", f"{direction.delay_s * 1000:.3f}ms"]
    if direction.jitter_s:
        delay.append(f"{direction.jitter_s * 1000:.3f}ms")
    loss = ["loss", f"{direction.loss * 100:.4f}%"] if direction.loss else []
    emulator = ["netem", *delay, *loss, "limit", str(_NETEM_QUEUE_PACKETS)]
    return [
        ["tc", "qdisc", "replace", "dev", DEVICE, "root", "handle", "1:", *emulator],
        ["tc", "qdisc", "add", "dev", DEVICE, "parent", "1:1", "handle", "10:", *bucket],
    ]


class Tc:
    """
    The carrier of kind "tc".

    Raises:
        LinkUnavailableError: iproute2 is missing, or the kernel has no tbf or veth.
    """

    paths: Sequence[Path] = ()

    def __init__(
        self, edge: NamespaceThread, cloud: NamespaceThread, description: LinkDescription, seed: int
    ) -> None:
        del seed  # the kernel draws its own numbers
        self._edge, self._cloud, self._description = edge, cloud, description
        peer = ["peer", "name", DEVICE, "netns", str(cloud.thread_id)]
        _run(edge, ["ip", "link", "add", DEVICE, "type", "veth", *peer])
        for end, address in ((edge, EDGE_ADDRESS), (cloud, CLOUD_ADDRESS)):
            _run(end, ["ip", "address", "add", f"{address}/24", "dev", DEVICE])
            _run(end, ["ip", "link", "set", DEVICE, "mtu", str(description.mtu_bytes), "up"])
            end.call(lambda: devices.switch_offloads_off(DEVICE))
        self._netem = _has_netem(edge)
        for end, direction in ((edge, description.up), (cloud, description.down)):
            for command in qdisc_commands(direction, mtu_bytes=description.mtu_bytes, netem=self._netem):
                _run(end, command)

    def facts(self) -> CarrierFacts:
        """Rate and queue; the rest only with netem."""
        bursts = {
            name: burst_bytes(rate_bps, self._description.mtu_bytes)
            for name, rate_bps in (
                ("burst_up_bytes", self._description.rate_up_bps),
                ("burst_down_bytes", self._description.rate_down_bps),
            )
        }
        optional = ("rtt", "jitter", "loss")
        return CarrierFacts(
            reproduces=("rate", "queue", *(optional if self._netem else ())),
            lacks=("serialisation", *(() if self._netem else optional)),
            real_time=None,
            details={"netem": self._netem, **bursts},
        )

    def counters(self) -> LinkCounters:
        """From the devices: a veth counts a packet when it leaves the bucket."""
        return LinkCounters(up=self._sent_by(self._edge), down=self._sent_by(self._cloud))

    def _sent_by(self, end: NamespaceThread) -> DirectionCounters:
        sent = end.call(lambda: devices.interface_counters(DEVICE))
        queues = json.loads(_run(end, ["tc", "-s", "-j", "qdisc", "show", "dev", DEVICE]))
        return DirectionCounters(
            carried_packets=sent.sent_packets,
            carried_bytes=sent.sent_bytes,
            dropped_packets=sum(queue.get("drops", 0) for queue in queues if queue["kind"] == "tbf"),
            lost_packets=sum(queue.get("drops", 0) for queue in queues if queue["kind"] == "netem"),
        )


def _has_netem(end: NamespaceThread) -> bool:
    try:
        _run(end, ["tc", "qdisc", "add", "dev", DEVICE, "root", "netem", "delay", "1ms"])
    except LinkUnavailableError:
        return False
    _run(end, ["tc", "qdisc", "del", "dev", DEVICE, "root"])
    return True


def _run(end: NamespaceThread, command: list[str]) -> str:
    """Run one command of iproute2 inside a namespace; returns what it printed."""
    try:
        result = end.call(
            lambda: subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S
            )
        )
    except FileNotFoundError as error:
        raise LinkUnavailableError(
            f"{command[0]} is not installed; kind tc needs iproute2 (apt-get install iproute2)."
        ) from error
    if result.returncode != 0:
        raise LinkUnavailableError(f"{' '.join(command)!r} failed: {result.stderr.strip()}")
    return result.stdout
