"""
A daemon's gRPC server, whichever service it has: it listens, loads, serves, and drains.

It listens before its model is loaded, so that a port in use is known at once and health can be asked; until
then, and again while it drains, it is NOT_SERVING and refuses requests with UNAVAILABLE.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar

from thinwire.common import wire
from thinwire.common.causal_model import ServedModel
from thinwire.common.door.security import ServerSecurity
from thinwire.common.errors import ThinwireError, TransportError
from thinwire.common.observe.metrics import Metrics


class DaemonServer:
    """
    What both daemons' servers do; a subclass is the service's servicer too.

    Args:
        served: the model; None when `model_loaded` will bring it.
        executor: the model's one thread; made when None.
        security: of the listener; loopback's plaintext for everybody when None.
        drain_grace_s: how long calls may go on once the daemon is to stop.
        limits: of `wire.server_options`.
    """

    side: ClassVar[str]
    """"edge" or "cloud"."""
    service: ClassVar[str]
    """Full name of the gRPC service."""
    add_to: ClassVar[staticmethod[[Any, Any], None]]
    """Adds the servicer to a server."""

    def __init__(
        self,
        served: ServedModel | None,
        *,
        executor: ThreadPoolExecutor | None,
        security: ServerSecurity | None,
        metrics: Metrics,
        drain_grace_s: float,
        **limits: int,
    ) -> None:
        self.served = served
        self.executor = executor or ThreadPoolExecutor(1, thread_name_prefix=f"{self.side}-model")
        self._security = security or ServerSecurity()
        self._access = self._security.access
        self._drain_grace_s = drain_grace_s
        self._limits = limits
        self._draining = False
        self._streams: set[asyncio.Task[Any]] = set()
        """The tasks of the streams that a drain waits for."""
        self._metrics = metrics

    async def start(self, listen: str) -> int:
        """Bind, listen, and serve as soon as there is a model; port and errors of `GuardedServer.bind`."""
        self._listener_security = self._security.described(listen)
        self._server = wire.GuardedServer(
            listen,
            self._security,
            **self._limits,
            on_refused=self._metrics.refused,
            on_closed=self._metrics.connection_closed,
        )
        self.add_to(self, self._server)
        self._health = wire.HealthReporter(self._server, self.service)
        port = self._server.bind()
        await self._server.start()
        self._health.show(self.served is not None)
        return port

    async def model_loaded(self, served: ServedModel) -> None:
        """Bring the model of a server that was started without one."""
        self.served = served
        await self._show_health(True)

    async def stop(self, grace_s: float | None = None) -> None:
        """Drain: NOT_SERVING and no new requests; streams may go on for `grace_s`, then all is freed."""
        self._draining = True
        await self._show_health(False)
        grace_s = self._drain_grace_s if grace_s is None else grace_s
        await self._server.drain(self._streams, grace_s, cut=self._cut)
        await self._free()

    def _cut(self) -> None:
        """End what still runs, with the reason."""
        raise NotImplementedError

    async def _free(self) -> None:
        """Free what is held, the executor too."""
        raise NotImplementedError

    async def _show_health(self, serves: bool) -> None:
        self._health.show(serves and not self._draining)

    def _ready(self) -> ServedModel:
        """The model, for a new request; TransportError if the daemon drains, or has no model yet."""
        if self._draining:
            raise TransportError(f"this {self.side} is draining; expected a request to another one.")
        if self.served is None:
            raise TransportError(
                f"this {self.side} is still loading its model; expected a request once it is SERVING."
            )
        return self.served

    def _failed(self, error: Exception, what: str) -> ThinwireError:
        """What a peer may know of a bug of ours; the log of the servicer's module has the rest."""
        logging.getLogger(type(self).__module__).error(what, exc_info=error)
        return ThinwireError(f"the {self.side} failed with {type(error).__name__}.")


@contextmanager
def held_in(tasks: set[asyncio.Task[Any]]) -> Iterator[None]:
    """The current task is in `tasks` while the context lasts."""
    task = asyncio.current_task()
    assert task is not None, "a gRPC handler runs in a task"
    tasks.add(task)
    try:
        yield
    finally:
        tasks.discard(task)
