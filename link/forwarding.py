"""
The loop that moves packets: wait for a source or the next due packet, shape, deliver.

The wire between two namespaces and the side-car both run it; it knows nothing of either.
"""

from __future__ import annotations

import gc
import select
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from link.shaper import Shaper

_BATCH = 32
"""Packets read from one source before the others are looked at."""


@dataclass(slots=True)
class Path:
    """One way through this process."""

    source: int
    """File descriptor to wait on."""
    receive: Callable[[], bytes]
    """Reads one packet; BlockingIOError when there is none, b"" for nothing to forward."""
    send: Callable[[bytes], object]
    """Delivers one packet; its OSError (device down, peer gone) counts as a failure."""
    shaper: Shaper | None
    """None delivers at once."""
    failed_sends: int = 0


def forward(paths: Sequence[Path], controls: Mapping[int, Callable[[], bool]]) -> None:
    """
    Move packets until a control says stop.

    Args:
        controls: file descriptor → what to do when it is readable; returns False to stop.
    """
    gc.disable()  # a collection is a pause, and the loop makes no cycles
    sources = {path.source: path for path in paths}
    waiting_on = [*sources, *controls]
    while True:
        next_due_s = _release(paths)
        # select, not epoll: its timeout has microseconds.
        timeout_s = None if next_due_s is None else max(0.0, next_due_s - time.monotonic())
        for readable in select.select(waiting_on, (), (), timeout_s)[0]:
            if readable in sources:
                _take_in(sources[readable])
            elif not controls[readable]():
                return


def _release(paths: Sequence[Path]) -> float | None:
    """Deliver what is due; returns when the next packet is."""
    next_due_s: float | None = None
    for path in paths:
        if path.shaper is None:
            continue
        while (packet := path.shaper.pop(time.monotonic())) is not None:
            _deliver(path, packet)
        due_s = path.shaper.next_due_s
        if due_s is not None and (next_due_s is None or due_s < next_due_s):
            next_due_s = due_s
    return next_due_s


def _take_in(path: Path) -> None:
    for _ in range(_BATCH):
        try:
            packet = path.receive()
        except BlockingIOError:
            return
        except ConnectionError:
            # A UDP socket passes on the peer's "port unreachable"; the peer may come back.
            path.failed_sends += 1
            continue
        if not packet:
            continue
        if path.shaper is None:
            _deliver(path, packet)
        else:
            path.shaper.push(time.monotonic(), packet)


def _deliver(path: Path, packet: bytes) -> None:
    try:
        path.send(packet)
    except OSError:
        path.failed_sends += 1
