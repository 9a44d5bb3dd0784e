"""Connections that do not prove themselves: how many of one address, how long, and whom that never hits."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from fakes import ManualClock
from thinwire.common.door import doorkeeper
from thinwire.common.door.doorkeeper import CROWD_FACTOR, CROWD_S, HEALTH_S, LOOK_INTERVAL_S, Doorkeeper

BOUND, TIMEOUT_S = 3, 10.0


class Door:
    """A listener of the test's own, those who dialled it, and its doorkeeper with a clock set by hand."""

    def __init__(self, stack: ExitStack, *, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.clock = ManualClock()
        self.closed: Counter[str] = Counter()
        self.keeper = Doorkeeper(
            max_unproved=BOUND, timeout_s=TIMEOUT_S, on_closed=self._count, now=self.clock
        )
        self._stack = stack
        self._listener = stack.enter_context(socket.socket(family))
        if family == socket.AF_INET6:
            self._listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._listener.bind(("::" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self._listener.listen(100)
        self.port = self._listener.getsockname()[1]
        self._accepted: list[socket.socket] = []
        self.keeper.watch(self.port)

    def _count(self, reason: str) -> None:
        self.closed[reason] += 1

    def drop(self) -> None:
        """Close what was accepted."""
        for accepted in self._accepted:
            accepted.close()

    def dial(self, count: int = 1, *, source: str = "127.0.0.1", port: int = 0) -> list[socket.socket]:
        """Connections from an address, accepted."""
        dialled = []
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", self.port), 5, source_address=(source, port))
            dialled.append(self._stack.enter_context(client))
            self._accepted.append(self._stack.enter_context(self._listener.accept()[0]))
        return dialled

    def wait(self, seconds: float) -> None:
        """Look as often as in service, for so long."""
        until_s = self.clock() + seconds
        while self.clock() < until_s:
            self.clock.advance(min(LOOK_INTERVAL_S, until_s - self.clock()))
            self.keeper.look()

    def called(self, client: socket.socket, *, proves: bool = True) -> None:
        """As the guard tells it."""
        host, port = client.getsockname()
        self.keeper.called(f"ipv4:{host}:{port}", proves=proves)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes every socket of a test."""
    with ExitStack() as entered:
        yield entered


@pytest.fixture
def door(stack: ExitStack) -> Door:
    """On 127.0.0.1."""
    return Door(stack)


def open_of(clients: list[socket.socket]) -> list[bool]:
    """Which of them are still connected."""
    found = []
    for client in clients:
        client.setblocking(False)
        try:
            found.append(client.recv(1) != b"")
        except BlockingIOError:
            found.append(True)
    return found


def test_of_one_address_the_newest_go_and_another_address_is_not_asked_to(door: Door) -> None:
    """A crowd far above the bound at once, the rest of it after a second."""
    crowd = door.dial(CROWD_FACTOR * BOUND + 5, source="127.0.0.2")
    others = door.dial(BOUND, source="127.0.0.3")
    door.keeper.look()

    assert open_of(crowd) == [True] * CROWD_FACTOR * BOUND + [False] * 5
    door.wait(CROWD_S)
    assert open_of(crowd) == [True] * BOUND + [False] * (len(crowd) - BOUND)
    assert open_of(others) == [True] * BOUND
    assert door.closed == {"crowd": len(crowd) - BOUND}


def test_a_connection_without_a_call_goes_when_its_time_is_over(door: Door) -> None:
    """To the tick; it is counted once, however long its descriptor stays."""
    (silent,) = door.dial()
    door.keeper.look()
    door.wait(TIMEOUT_S - LOOK_INTERVAL_S)
    assert open_of([silent]) == [True]
    door.wait(LOOK_INTERVAL_S)

    assert open_of([silent]) == [False]
    door.wait(TIMEOUT_S)
    assert door.closed == {"silence": 1}


def test_whoever_made_a_call_stays_and_is_not_counted(door: Door) -> None:
    """Once is enough, before the first look or after it, with any number of others from the same address."""
    proved = door.dial(2 * BOUND)
    for client in proved[:BOUND]:
        door.called(client)
    door.keeper.look()
    for client in proved[BOUND:]:
        door.called(client)
    door.wait(CROWD_S)
    strangers = door.dial(BOUND)
    door.wait(HEALTH_S + TIMEOUT_S)

    assert all(open_of(proved))
    assert not any(open_of(strangers))
    assert door.closed == {"silence": BOUND}


def test_health_alone_lets_stay_longer_and_no_more(door: Door) -> None:
    """It counts among the strangers; a call with a token later on proves it like any other."""
    probes = door.dial(BOUND)
    for client in probes:
        door.called(client, proves=False)
    late = door.dial()
    door.wait(CROWD_S + LOOK_INTERVAL_S)
    assert (open_of(probes), open_of(late)) == ([True] * BOUND, [False])
    door.called(probes[0])
    door.wait(HEALTH_S - CROWD_S - 2 * LOOK_INTERVAL_S)
    assert all(open_of(probes))
    door.wait(2 * LOOK_INTERVAL_S)

    assert open_of(probes) == [True, False, False]


def test_a_look_that_comes_late_is_not_held_against_anybody(door: Door) -> None:
    """While this process slept nobody could prove anything."""
    (client,) = door.dial()
    door.keeper.look()
    door.clock.advance(100 * TIMEOUT_S)
    door.keeper.look()

    assert open_of([client]) == [True]


def test_a_call_of_one_connection_does_not_prove_another(door: Door) -> None:
    """Address and port must both be right, and a call of one that has gone proves nobody later on."""
    (gone,) = door.dial()
    door.keeper.look()
    door.called(gone)
    source = gone.getsockname()
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # its port is free at once
    gone.close()
    door.drop()
    door.keeper.look()
    (again,) = door.dial(source=source[0], port=source[1])
    door.keeper.called(f"ipv4:127.0.0.9:{source[1]}", proves=True)
    door.wait(TIMEOUT_S + LOOK_INTERVAL_S)

    assert open_of([again]) == [False]


def test_an_address_is_the_same_on_a_listener_for_both_kinds(stack: ExitStack) -> None:
    """`::ffff:127.0.0.1` there, `ipv4:127.0.0.1` in gRPC's words."""
    door = Door(stack, family=socket.AF_INET6)
    proved, stranger = door.dial(2)
    door.called(proved)
    door.wait(TIMEOUT_S + LOOK_INTERVAL_S)

    assert open_of([proved, stranger]) == [True, False]


def test_other_sockets_of_the_process_are_left_alone(door: Door, stack: ExitStack) -> None:
    """Those of another listener, and those that this process dialled itself."""
    other = Door(stack)
    beside = other.dial(20)
    inside = door.dial(1)
    door.called(inside[0])
    door.wait(2 * TIMEOUT_S)

    assert all(open_of(beside) + open_of(inside))
    assert door.closed == {}


def test_an_address_leaves_one_line_a_minute(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    """With its count, and the metrics count them all."""
    caplog.set_level(logging.INFO, "thinwire.common.door.doorkeeper")
    for source in ("127.0.0.2", "127.0.0.2", "127.0.0.3"):
        door.dial(CROWD_FACTOR * BOUND + 2, source=source)
        door.keeper.look()
    lines = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    door.wait(61)
    door.dial(CROWD_FACTOR * BOUND + 1, source="127.0.0.2")
    door.keeper.look()

    assert lines == [{"host": "127.0.0.2", "count": 2}, {"host": "127.0.0.3", "count": 2}]
    assert [record.fields["host"] for record in caplog.records[2:]][-1] == "127.0.0.2"  # type: ignore[attr-defined]


async def test_where_a_process_does_not_see_its_sockets_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once; calls are not remembered there."""
    keeper = Doorkeeper(max_unproved=1, timeout_s=1.0, sockets="/no/such/folder")
    keeper.watch(7071)
    await keeper.keep()
    keeper.called("ipv4:127.0.0.1:9", proves=True)

    assert [record.getMessage() for record in caplog.records] == [
        "connections are not bounded by address: this system has no /no/such/folder."
    ]
    assert keeper._calls == {}


def test_a_call_is_not_forgotten_while_there_is_no_descriptor_left_to_look_with(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever proved itself then is known by the first look that sees again."""

    def fail(descriptor: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    (client,) = door.dial()
    door.called(client)
    with monkeypatch.context() as blind:
        blind.setattr("os.dup", fail)
        with pytest.raises(OSError, match="Too many open files"):
            door.keeper.look()
    door.wait(2 * TIMEOUT_S)

    assert open_of([client]) == [True]


async def test_a_look_that_fails_is_not_the_last(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    """It is said, once a minute, and the next look may see."""
    looks = asyncio.Queue[None]()

    def look() -> None:
        looks.put_nowait(None)
        raise OSError(errno.EMFILE, "Too many open files")

    door.keeper.look = look  # type: ignore[method-assign]
    keeping = asyncio.create_task(door.keeper.keep())
    for _ in range(3):
        await asyncio.wait_for(looks.get(), 20)
    keeping.cancel()

    assert [record.getMessage() for record in caplog.records] == [
        "connections are not bounded by address just now: Too many open files."
    ]


def test_a_number_that_stands_for_another_socket_is_not_touched(stack: ExitStack) -> None:
    """The system gave a descriptor's number to somebody else between the look and the end."""
    ours, theirs = (stack.enter_context(socket.socket()) for _ in range(2))
    inode = doorkeeper._socket_inode(theirs.fileno())
    assert inode is not None

    assert doorkeeper._duplicate(ours.fileno(), inode) is None
    same = doorkeeper._duplicate(theirs.fileno(), inode)
    assert same is not None
    same.close()
