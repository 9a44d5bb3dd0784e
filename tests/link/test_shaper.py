"""One direction of a line under a manual clock."""

from __future__ import annotations

import math
import random

import pytest

from link.description import Direction
from link.shaper import Shaper

RATE_BPS = 80_000
"""10 000 bytes a second: 100 frame bytes take 10 ms."""
PACKET = bytes(86)
"""100 bytes with the Ethernet header."""


def direction(
    *, delay_s: float = 0.0, jitter_s: float = 0.0, loss: float = 0.0, queue_bytes: int = 10**9
) -> Direction:
    """A line of `RATE_BPS`."""
    return Direction(RATE_BPS, delay_s=delay_s, jitter_s=jitter_s, loss=loss, queue_bytes=queue_bytes)


def numbered(number: int) -> bytes:
    """A packet that can be told from others."""
    return number.to_bytes(86, "big")


def arrivals(shaper: Shaper) -> list[tuple[float, bytes]]:
    """Everything under way, each at the moment it is due."""
    found = []
    while (due_s := shaper.next_due_s) is not None:
        packet = shaper.pop(due_s)
        assert packet is not None
        found.append((due_s, packet))
    return found


def test_a_lone_packet_takes_its_time_on_the_line_and_the_delay() -> None:
    """However long the line was idle: there is no bucket."""
    shaper = Shaper(direction(delay_s=0.5), seed=1)
    shaper.push(0.0, PACKET)
    arrivals(shaper)
    shaper.push(1000.0, PACKET)

    assert shaper.pop(1000.509) is None
    assert shaper.pop(1000.5101) == PACKET


def test_packets_behind_each_other_arrive_at_the_rate_in_order() -> None:
    """100 packets at once: one every 10 ms, first in first out."""
    shaper = Shaper(direction(delay_s=0.1), seed=1)
    for number in range(100):
        shaper.push(5.0, numbered(number))

    assert arrivals(shaper) == [(pytest.approx(5.1 + 0.01 * (n + 1)), numbered(n)) for n in range(100)]


def test_the_line_never_carries_more_than_its_rate() -> None:
    """Under random arrivals, any k frames in a row span at least the time of k - 1."""
    draws = random.Random(3)
    shaper = Shaper(direction(queue_bytes=3000), seed=1)
    now_s, times_s = 0.0, []
    for _ in range(2000):
        now_s += draws.expovariate(150)
        shaper.push(now_s, PACKET)
        while (due_s := shaper.next_due_s) is not None and due_s <= now_s:
            times_s.append(due_s)
            shaper.pop(now_s)

    assert shaper.counters.dropped_packets > 0
    assert all(times_s[n + 20] - times_s[n] >= 20 * 0.01 - 1e-9 for n in range(len(times_s) - 20))


def test_a_full_queue_drops_the_newcomer() -> None:
    """1000 bytes hold ten frames; the eleventh is lost to the sender, and one fits again 10 ms later."""
    shaper = Shaper(direction(queue_bytes=1000), seed=1)

    assert [shaper.push(0.0, numbered(n)) for n in range(11)] == [True] * 10 + [False]
    assert shaper.waiting_bytes(0.0) == pytest.approx(1000)
    assert shaper.push(0.0101, numbered(11))
    assert not shaper.push(0.0101, numbered(12))
    assert [packet for _, packet in arrivals(shaper)] == [numbered(n) for n in (*range(10), 11)]
    assert (shaper.counters.carried_packets, shaper.counters.dropped_packets) == (11, 2)
    assert shaper.counters.carried_bytes == 1100


def test_the_queue_is_never_longer_than_its_bound() -> None:
    """For random sizes and arrivals."""
    draws = random.Random(4)
    shaper = Shaper(direction(queue_bytes=4000), seed=1)
    now_s = 0.0
    for _ in range(3000):
        now_s += draws.expovariate(40)
        shaper.push(now_s, bytes(draws.randrange(20, 1500)))

        assert shaper.waiting_bytes(now_s) <= 4000 + 1e-6
    assert shaper.counters.dropped_packets > 0


def test_a_lost_packet_has_used_the_line() -> None:
    """What follows it arrives as late as if it had not been lost, and it counts as carried."""
    shaper = Shaper(direction(loss=0.5), seed=7)
    arrived = [shaper.push(0.0, numbered(n)) for n in range(200)]

    counters = shaper.counters
    assert [due_s for due_s, _ in arrivals(shaper)] == [
        pytest.approx(0.01 * (n + 1)) for n in range(200) if arrived[n]
    ]
    assert (counters.carried_packets, counters.carried_bytes) == (200, 20_000)
    assert counters.lost_packets == arrived.count(False) > 0


def test_the_loss_is_what_the_description_says() -> None:
    """20 000 packets at 3 %: within 5 standard deviations (false alarm below 1e-6)."""
    shaper = Shaper(direction(loss=0.03), seed=11)
    for n in range(20_000):
        shaper.push(n * 0.01, PACKET)
        shaper.pop(n * 0.01)

    share = shaper.counters.lost_packets / 20_000
    assert abs(share - 0.03) < 5 * math.sqrt(0.03 * 0.97 / 20_000), share


def test_jitter_moves_packets_but_never_reorders_them() -> None:
    """A jitter of ten packet times: in order, each within the jitter unless the one before it was later."""
    shaper = Shaper(direction(delay_s=0.2, jitter_s=0.1), seed=5)
    for n in range(1000):
        shaper.push(0.0, numbered(n))
    found = arrivals(shaper)

    assert [packet for _, packet in found] == [numbered(n) for n in range(1000)]
    offsets_s = [due_s - 0.2 - 0.01 * (n + 1) for n, (due_s, _) in enumerate(found)]
    assert all(-0.1 <= offset_s <= 0.1 + 1e-9 for offset_s in offsets_s)
    assert max(offsets_s) - min(offsets_s) > 0.1


def test_the_same_seed_draws_the_same_line() -> None:
    """Losses and jitter repeat; another seed draws others."""

    def drawn(seed: int) -> list[tuple[float, bytes]]:
        shaper = Shaper(direction(delay_s=0.1, jitter_s=0.05, loss=0.2), seed=seed)
        for n in range(50):
            shaper.push(n, numbered(n))
        return arrivals(shaper)

    assert drawn(1) == drawn(1) != drawn(2)


def test_lateness_is_the_time_between_due_and_released() -> None:
    """Mean and maximum come from these."""
    shaper = Shaper(direction(), seed=1)
    shaper.push(0.0, PACKET)
    shaper.push(0.0, PACKET)
    shaper.pop(0.013)
    shaper.pop(0.021)

    assert shaper.counters.released_packets == 2
    assert shaper.counters.late_max_s == pytest.approx(0.003)
    assert shaper.counters.late_total_s == pytest.approx(0.004)
