"""
The wire: a TUN device in each namespace, and this process carries the IP packets between them.

It gives every message its time on the line, small and spaced ones included, which no token bucket does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial

from link import devices, linux
from link.carrier import CLOUD_ADDRESS, EDGE_ADDRESS, CarrierFacts, DirectionCounters, LinkCounters
from link.description import LinkDescription
from link.forwarding import Path
from link.namespaces import NamespaceThread
from link.shaper import Shaper

REAL_TIME_PRIORITY = 10
"""Above the self-test's probe (5), which must never hold up the wire it measures."""
LARGEST_PACKET_BYTES = 65_535


class Wire:
    """
    The carrier of kind "wire".

    Raises:
        LinkUnavailableError: a TUN device cannot be had.
    """

    def __init__(
        self, edge: NamespaceThread, cloud: NamespaceThread, description: LinkDescription, seed: int
    ) -> None:
        open_tun = partial(devices.open_tun, devices.DEVICE, mtu_bytes=description.mtu_bytes)
        edge_tun = edge.call(partial(open_tun, address=EDGE_ADDRESS, peer_address=CLOUD_ADDRESS))
        cloud_tun = cloud.call(partial(open_tun, address=CLOUD_ADDRESS, peer_address=EDGE_ADDRESS))
        up, down = shapers(description, seed)
        self._up = shaped_path(edge_tun, partial(os.write, cloud_tun), up)
        self._down = shaped_path(cloud_tun, partial(os.write, edge_tun), down)
        self.paths: Sequence[Path] = (self._up, self._down)
        self._real_time = linux.become_real_time(REAL_TIME_PRIORITY)

    def facts(self) -> CarrierFacts:
        """Everything the description says."""
        return CarrierFacts(
            reproduces=("rate", "serialisation", "rtt", "jitter", "loss", "queue"),
            lacks=(),
            real_time=self._real_time,
        )

    def counters(self) -> LinkCounters:
        """From the shapers: TUN devices count packets before the queue and without Ethernet headers."""
        return LinkCounters(up=path_counters(self._up), down=path_counters(self._down))


def shapers(description: LinkDescription, seed: int) -> tuple[Shaper, Shaper]:
    """Up and down: one seed draws the same losses whoever runs them."""
    return Shaper(description.up, seed=2 * seed + 1), Shaper(description.down, seed=2 * seed + 2)


def shaped_path(tun: int, send: Callable[[bytes], object], shaper: Shaper) -> Path:
    """From a TUN device through a shaper on to whatever `send` reaches."""
    return Path(tun, partial(os.read, tun, LARGEST_PACKET_BYTES), send, shaper)


def path_counters(path: Path) -> DirectionCounters:
    """What a shaped path has done."""
    assert path.shaper is not None, "a shaped path"
    counted = path.shaper.counters
    return DirectionCounters(
        carried_packets=counted.carried_packets,
        carried_bytes=counted.carried_bytes,
        dropped_packets=counted.dropped_packets,
        lost_packets=counted.lost_packets,
        late_max_s=counted.late_max_s,
        late_mean_s=counted.late_total_s / counted.released_packets if counted.released_packets else 0.0,
        failed_sends=path.failed_sends,
    )
