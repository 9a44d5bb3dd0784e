"""What makes a link real inside its own process (`link.keeper`), and what it can say of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from link.description import LinkDescription
from link.forwarding import Path
from link.namespaces import NamespaceThread


@dataclass(frozen=True, slots=True)
class DirectionCounters:
    """What crossed one direction since the link was made."""

    carried_packets: int
    """Packets that used the line, lost ones included."""
    carried_bytes: int
    """Their bytes with Ethernet headers, whatever the kind."""
    dropped_packets: int
    """Found the queue full."""
    lost_packets: int
    """Used the line and did not arrive, as the description's loss wants it."""
    late_max_s: float | None = None
    """Longest time between due and released; None where the kernel keeps the time."""
    late_mean_s: float | None = None
    failed_sends: int = 0
    """Packets the receiving device refused."""


@dataclass(frozen=True, slots=True)
class LinkCounters:
    """Both directions."""

    up: DirectionCounters
    down: DirectionCounters


@dataclass(frozen=True, slots=True)
class CarrierFacts:
    """How the link is made, read back where the kernel can be asked."""

    reproduces: tuple[str, ...]
    """Fields of the description that the link has."""
    lacks: tuple[str, ...]
    """Fields of the description that it has not."""
    real_time: bool | None
    """Whether the process that moves packets runs under SCHED_FIFO; None where the kernel moves them."""
    details: dict[str, Any] = field(default_factory=dict)


class Carrier(Protocol):
    """One kind of link."""

    paths: Sequence[Path]
    """What the keeper's loop must move; empty where the kernel moves it."""

    def __init__(
        self, edge: NamespaceThread, cloud: NamespaceThread, description: LinkDescription, seed: int
    ) -> None:
        """Make the devices; LinkUnavailableError if they cannot be had."""

    def facts(self) -> CarrierFacts:
        """What this link has and has not."""

    def counters(self) -> LinkCounters:
        """The counters now."""


EDGE_ADDRESS = "10.78.0.1"
CLOUD_ADDRESS = "10.78.0.2"
"""The same in every link: no two links share a namespace."""
