"""
Closes connections that have not proved themselves: too many of one address, or one for too long; and, when
told to, one that reads nothing.

gRPC bounds connections in all and handshakes in time, and has no hook for either by address.
But what it accepts are file descriptors of this process, so somebody can look over them: several times a
second every connection of the watched port is seen, in whatever stage of TLS or HTTP/2 it is, and one that is
not wanted is shut down.
gRPC then finds its end and cleans up, as it does for a peer that left.

A connection is proved by a call that the guard lets pass (with a token where tokens are asked for), and stays
proved; health answers strangers, so a connection on which only health is asked may stay longer, and no more.
Only Linux shows a process its sockets (`/proc/self/fd`); elsewhere there is nobody at the door.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass

from thinwire.common.door.peers import Endpoint, host_of, peer_endpoint, plain_ip
from thinwire.common.observe.log import LogLimiter, log_request

LOOK_INTERVAL_S = 0.25
CROWD_FACTOR = 4
"""So many times the bound one address may have for `CROWD_S`: edges behind it may all dial at once."""
CROWD_S = 1.0
HEALTH_S = 600.0
"""How long a connection on which only health is asked may stay; a probe dials again."""
_SOCKETS = "/proc/self/fd"
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Connection:
    """One accepted socket; the inode tells it from another one under the same number."""

    descriptor: int
    inode: int
    endpoint: Endpoint
    host: str
    age_s: float = 0.0
    """As far as looks were made: a pause of ours is not held against it."""
    is_proved: bool = False
    asks_health: bool = False
    is_closed: bool = False
    """By us; it is seen until gRPC lets go of it."""


@dataclass(eq=False, kw_only=True)
class Doorkeeper:
    """One listener's."""

    max_unproved: int
    """Connections of one address without a call that was let in; above it the newest go."""
    timeout_s: float
    """Seconds such a connection may stay."""
    on_closed: Callable[[str], None] = lambda reason: None
    """Called with "crowd", "silence" or "unread" for every connection closed."""
    now: Callable[[], float] = time.monotonic
    sockets: str = _SOCKETS

    def __post_init__(self) -> None:
        self._port = 0
        self._looked_at_s = self.now()
        self._connections: dict[int, _Connection] = {}
        """By inode, the oldest first."""
        self._calls: dict[Endpoint, bool] = {}
        """Who has called since the last look, and whether that proves it."""
        self._log_limiter = LogLimiter(self.now)
        self._blindness_limiter = LogLimiter(self.now)

    @property
    def stands(self) -> bool:
        """Whether this system shows a process its sockets."""
        return os.path.isdir(self.sockets)

    def watch(self, port: int) -> None:
        """The port whose connections are meant; nothing is done before."""
        self._port = port

    def called(self, peer: str, proves: bool) -> None:
        """A call of `peer`, as gRPC names it; health, which answers anybody, proves nothing."""
        endpoint = peer_endpoint(peer)
        if endpoint is not None and self._port:
            self._calls[endpoint] = proves or self._calls.get(endpoint, False)

    def hang_up(self, peer: str) -> None:
        """
        Close the connection of a peer that takes nothing of what is written to it, proved or not.

        One that is not found is gone, or will be seen at the next try.
        """
        endpoint = peer_endpoint(peer)
        for connection in self._connections.values():
            if connection.endpoint == endpoint and not connection.is_closed:
                self._close(connection, "unread")
                if self._log_limiter.allows(connection.host):
                    log_request(_log, "connection closed that read nothing", host=connection.host)

    async def keep(self) -> None:
        """Look again and again; ends at once, with one line in the log, where nothing can be seen."""
        if not self.stands:
            self._port = 0
            _log.warning("connections are not bounded by address: this system has no %s.", self.sockets)
            return
        while True:
            try:
                self.look()
            except OSError as error:
                if self._blindness_limiter.allows(self.sockets):
                    _log.warning("connections are not bounded by address just now: %s.", error.strerror)
            await asyncio.sleep(LOOK_INTERVAL_S)

    def look(self) -> None:
        """
        See who is there, and close what may not be.

        With no descriptor left to look with it raises OSError, and nobody's call is forgotten.
        """
        now = self.now()
        # A look that comes late adds no more than two in time.
        passed_s = min(now - self._looked_at_s, 2 * LOOK_INTERVAL_S)
        self._looked_at_s = now
        found = list(self._accepted(passed_s))
        # A call comes from a connection that is there, so the next look after it finds it, or it is gone.
        calls, self._calls = self._calls, {}
        for connection in found:
            if connection.endpoint in calls:
                connection.asks_health = True
                connection.is_proved |= calls[connection.endpoint]
        # Linux numbers sockets in the order in which they come.
        order = sorted(found, key=lambda one: (-one.age_s, one.inode))
        self._connections = {connection.inode: connection for connection in order}
        self._close_some()

    def _close_some(self) -> None:
        strangers: Counter[str] = Counter()
        closed: Counter[str] = Counter()
        for connection in self._connections.values():
            if connection.is_proved or connection.is_closed:
                continue
            before = strangers[connection.host]
            strangers[connection.host] += 1
            reason = self._why_not(connection, before)
            if reason is not None and self._close(connection, reason):
                closed[connection.host] += 1
        for host, count in closed.items():
            if self._log_limiter.allows(host):
                log_request(_log, "connections closed that made no call", host=host, count=count)

    def _close(self, connection: _Connection, reason: str) -> bool:
        """End a connection at both sides and count it, False if it has gone; its descriptor stays gRPC's."""
        ours = _duplicate(connection.descriptor, connection.inode)
        if ours is None:
            return False
        try:
            with closing(ours):
                ours.shutdown(socket.SHUT_RDWR)
        except OSError:
            return False
        connection.is_closed = True
        self.on_closed(reason)
        return True

    def _why_not(self, connection: _Connection, before: int) -> str | None:
        """Why it must go; None if it may stay. `before`: older ones of its address that are not proved."""
        if before >= self.max_unproved:
            in_time = before < CROWD_FACTOR * self.max_unproved and connection.age_s < CROWD_S
            return None if in_time else "crowd"
        may_stay_s = HEALTH_S if connection.asks_health else self.timeout_s
        return None if connection.age_s < may_stay_s else "silence"

    def _accepted(self, passed_s: float) -> Iterator[_Connection]:
        """The connections of our port; one that is known takes a single `fstat`, and is so much older now."""
        for name in os.listdir(self.sockets):
            descriptor = int(name)
            inode = _socket_inode(descriptor)
            if inode is None:
                continue
            connection = self._connections.get(inode)
            if connection is None:
                connection = self._dialled(descriptor, inode)
            else:
                connection.descriptor = descriptor
                connection.age_s += passed_s
            if connection is not None:
                yield connection

    def _dialled(self, descriptor: int, inode: int) -> _Connection | None:
        """What a descriptor is, if somebody dialled our port by it."""
        ours = _duplicate(descriptor, inode)
        if ours is None:
            return None
        with closing(ours), suppress(OSError):  # a listener, or one that has just gone, has no peer
            if ours.family in (socket.AF_INET, socket.AF_INET6) and ours.getsockname()[1] == self._port:
                host, port = ours.getpeername()[:2]
                endpoint = plain_ip(host), port
                return _Connection(descriptor, inode, endpoint, host_of(endpoint))
        return None


def _socket_inode(descriptor: int) -> int | None:
    """The number under which the system knows a socket; None for anything else."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None  # closed meanwhile
    return status.st_ino if stat.S_ISSOCK(status.st_mode) else None


def _duplicate(descriptor: int, inode: int) -> socket.socket | None:
    """A descriptor of our own for a socket; None if the number stands for another one by now."""
    try:
        ours = os.dup(descriptor)
    except OSError as error:
        if error.errno == errno.EBADF:
            return None  # closed meanwhile
        raise
    if _socket_inode(ours) == inode:
        with suppress(OSError):
            return socket.socket(fileno=ours)
    os.close(ours)
    return None
