"""`grpc.health.v1` and reflection of a daemon, and the question whether one serves."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from thinwire.common.errors import DeadlineError, ResourceExhaustedError, ThinwireError
from thinwire.common.wire.guarded_server import GuardedServer
from thinwire.common.wire.parsing import ParsingChannel, check_parsed
from thinwire.common.wire.status import abort_with, error_from_rpc

MAX_WATCHES = 256
"""At once, of all peers; `guarded_server` bounds those of one address."""
MAX_WATCH_S = 600.0
"""One ends then, and may be asked for again."""
WATCH_WRITE_TIMEOUT_S = 10.0
"""The connection of a watcher that has not taken a status by then is closed."""

_Status = health_pb2.HealthCheckResponse


class HealthReporter(health_pb2_grpc.HealthServicer):  # type: ignore[misc] # grpc has no types
    """
    `grpc.health.v1` and reflection of one server, not yet started; NOT_SERVING until `show(True)`.

    Anybody may call it, so nothing here waits for a caller, and nobody stays for good.
    (gRPC's own holds a lock while it writes to a watcher, so that one who reads nothing keeps every change
    from being made; and it has no List.)

    The server closes the connection of a watcher that takes nothing: a write that is not taken can be neither
    taken back nor followed by a status, so no less ends it.
    """

    def __init__(self, server: GuardedServer, service: str) -> None:
        self._hang_up = server.hang_up
        self._services = ("", service)
        self._changed = asyncio.Event()
        """Replaced at every change; the old one wakes whoever waits for it."""
        self._watches = 0
        self.show(False)
        health_pb2_grpc.add_HealthServicer_to_server(self, server)
        reflection.enable_server_reflection((service, health.SERVICE_NAME, reflection.SERVICE_NAME), server)

    def show(self, serves: bool) -> None:
        """The word on each service, from now on; watchers learn of it in their own time."""
        status = _Status.SERVING if serves else _Status.NOT_SERVING
        self._statuses = dict.fromkeys(self._services, status)
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's name
        """The word on one service; NOT_FOUND for one that is not ours."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "expected a service of this daemon, or none.")
        return _Status(status=status)

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's name
        """The word on every service."""
        answers = {service: _Status(status=status) for service, status in self._statuses.items()}
        return health_pb2.HealthListResponse(statuses=answers)

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 - the contract's name
        """The word on one service, and each change of it."""
        if self._watches >= MAX_WATCHES:
            refusal = ResourceExhaustedError(
                f"{self._watches} health streams are open; expected fewer than {MAX_WATCHES}."
            )
            await abort_with(context, refusal)
        self._watches += 1
        try:
            await self._watch(request.service, context)
        finally:
            self._watches -= 1
        ended = DeadlineError(f"this health stream has lasted {MAX_WATCH_S:g} s; expected a new one.")
        await abort_with(context, ended)

    async def _watch(self, service: str, context: Any) -> None:
        """Write until the watch is cancelled, or old."""
        loop = asyncio.get_running_loop()
        ends_at_s = loop.time() + MAX_WATCH_S
        told = None
        while True:
            changed = self._changed
            status = self._statuses.get(service, _Status.SERVICE_UNKNOWN)
            if status != told:
                patience = loop.call_later(WATCH_WRITE_TIMEOUT_S, self._hang_up, context.peer())
                try:
                    await context.write(_Status(status=status))
                finally:
                    patience.cancel()
                told = status
            try:
                async with asyncio.timeout_at(ends_at_s):
                    await changed.wait()
            except TimeoutError:
                return


async def serving_status(
    channel: grpc.aio.Channel, service: str, *, timeout_s: float, wait_for_ready: bool = False
) -> str:
    """
    Ask `grpc.health.v1` once: "SERVING", "NOT_SERVING", or "SERVICE_UNKNOWN" for another daemon's service.

    Raises:
        TransportError: no answer within the deadline; a DeadlineError is one.
        ThinwireError: the peer refused, or answered what does not parse.
    """
    stub = health_pb2_grpc.HealthStub(ParsingChannel(channel))
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        answer = await stub.Check(request, timeout=timeout_s, wait_for_ready=wait_for_ready)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return "SERVICE_UNKNOWN"
        raise error_from_rpc(error) from None
    check_parsed(answer)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def is_serving(channel: grpc.aio.Channel, service: str, *, timeout_s: float) -> bool:
    """Whether the answer is SERVING; not so where none comes in time."""
    try:
        status = await serving_status(channel, service, timeout_s=timeout_s, wait_for_ready=True)
    except ThinwireError:
        return False
    return status == "SERVING"
