"""
The wire: a TUN device in each namespace, and this process carries the IP packets between them.

It gives every message its time on the line, small and spaced ones included, which no token bucket does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from link import devices, linux
from link.carrier import CLOUD_ADDRESS, EDGE_ADDRESS, CarrierFacts, DirectionCounters, LinkCounters
from link.description import LinkDescription
from link.forwarding import Path
from link.namespaces import NamespaceThread
from link.shaper import Shaper

REAL_TIME_PRIORITY = 10
"""Above the self-test's probe (5), which must never hold up the wire it measures."""
_LARGEST_PACKET_BYTES = 65_535


class Wire:
    """
    The carrier of kind "wire".

    Raises:
        LinkUnavailableError: a TUN device cannot be had.
    """

    def __init__(
        self, edge: NamespaceThread, cloud: NamespaceThread, description: LinkDescription, seed: int
    ) -> None:
        mtu_bytes = description.mtu_bytes
        edge_tun = edge.call(
            lambda: devices.open_tun(
                devices.DEVICE, address=EDGE_ADDRESS, peer_address=CLOUD_ADDRESS, mtu_bytes=mtu_bytes
            )
        )
        cloud_tun = cloud.call(
            lambda: devices.open_tun(
                devices.DEVICE, address=CLOUD_ADDRESS, peer_address=EDGE_ADDRESS, mtu_bytes=mtu_bytes
            )
        )
        self._up = shaped_path(edge_tun, cloud_tun, Shaper(description.up, seed=2 * seed + 1))
        self._down = shaped_path(cloud_tun, edge_tun, Shaper(description.down, seed=2 * seed + 2))
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


def shaped_path(source_tun: int, target_tun: int, shaper: Shaper) -> Path:
    """From one TUN device through a shaper to the other."""
    return Path(
        source=source_tun,
        receive=partial(os.read, source_tun, _LARGEST_PACKET_BYTES),
        send=partial(os.write, target_tun),
        shaper=shaper,
    )


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
