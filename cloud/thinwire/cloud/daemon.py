"""The cloud daemon: the Verifier service over one target model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from thinwire.cloud.account import CloudMetrics
from thinwire.cloud.admission import MAX_PAUSE_S, Admission
from thinwire.cloud.batch_queue import BatchQueue
from thinwire.cloud.batcher import Batcher
from thinwire.cloud.events import LinkLost, WorkFailed
from thinwire.cloud.opening import SessionFactory, SessionRegistry, first_message, forget_message
from thinwire.cloud.settings import CloudSettings
from thinwire.cloud.uplink import Uplink
from thinwire.common import wire
from thinwire.common.causal_model import ServedModel
from thinwire.common.daemon.server import DaemonServer, held_in
from thinwire.common.door.peers import PeerBound
from thinwire.common.door.security import ServerSecurity
from thinwire.common.errors import QuotaExceededError, ThinwireError, TransportError
from thinwire.common.observe.log import log_request
from thinwire.common.observe.tracing import NO_TRACING, Tracing
from thinwire.common.release import version
from thinwire.common.session.generation import ServerInfo
from thinwire.common.session.messages import VocabularyIdentity

_log = logging.getLogger(__name__)


class CloudServer(DaemonServer, wire.VerifierServicer):
    """The Verifier service; what is not said here is of `DaemonServer`."""

    side = "cloud"
    service = wire.VERIFIER_SERVICE
    add_to = staticmethod(wire.add_verifier)

    def __init__(
        self,
        served: ServedModel | None,
        *,
        settings: CloudSettings | None = None,
        executor: ThreadPoolExecutor | None = None,
        security: ServerSecurity | None = None,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._settings = settings or CloudSettings()
        self.metrics = CloudMetrics(sessions=lambda: self.sessions, passes=lambda: self.passes)
        super().__init__(
            served,
            executor=executor,
            security=security,
            metrics=self.metrics,
            drain_grace_s=self._settings.drain_grace_s,
            max_round_bytes=self._settings.max_round_bytes,
        )
        self._tracing = tracing
        self._registry = SessionRegistry(self._settings.max_sessions)
        longest_pause_s = min(MAX_PAUSE_S, self._settings.resume_ttl_s / 3)
        self._admission = Admission(self._access.quotas, longest_pause_s=longest_pause_s, now=self._now)
        self._unopened = PeerBound("streams without Open", self._settings.max_unopened_per_peer)
        self._factory: SessionFactory | None = None
        """Made for the first session."""

    @property
    def sessions(self) -> int:
        return len(self._registry)

    @property
    def passes(self) -> int:
        return 0 if self._factory is None else self._factory.batcher.passes

    def _cut(self) -> None:
        for live in self._registry:
            live.handle(WorkFailed(TransportError("this cloud stops; expected a request to another one.")))

    async def _free(self) -> None:
        for live in self._registry:
            live.expire()
        if self._factory is not None:
            await self._factory.batcher.stop()
        # Nothing is in line there any more but the closing of caches.
        await asyncio.to_thread(self.executor.shutdown)

    # --- the service ---------------------------------------------------------------------------------------

    async def Verify(self, requests: AsyncIterator[Any], context: Any) -> None:  # noqa: N802 - the contract's name
        try:
            await self._verify(requests, context)
            return
        except ThinwireError as error:
            refusal = error
        except Exception as error:
            refusal = self._failed(error, "a stream failed")
        self.metrics.refused(refusal.reason)
        await forget_message(requests)
        await wire.abort_with(context, refusal)

    async def GetServerInfo(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's name
        served = self.served
        return wire.server_info_to_proto(
            ServerInfo(
                version=version(),
                model=served.name if served else "",
                vocabulary=served.vocabulary.identity if served else VocabularyIdentity(0, b""),
                model_rows=served.rows if served else 0,
                context_length=served.model.context_length if served else 0,
                eos_token_ids=served.eos_token_ids if served else (),
                schemes=self._settings.schemes,
                sessions=self.sessions,
                max_sessions=self._settings.max_sessions,
                resume_ttl_s=round(self._settings.resume_ttl_s),
                dtype=served.dtype if served else "",
                device=served.device if served else "",
                listener_security=self._listener_security,
                target_fingerprint=served.fingerprint if served else b"",
            )
        )

    async def _verify(self, requests: AsyncIterator[Any], context: Any) -> None:
        credential = wire.credential_of(context, self._access)
        tenant = credential.tenant
        owner = tenant if self._access.is_required else ""
        try:
            with self._unopened.held(context.peer(), owner):
                takes_sessions = self.served is not None and not self._draining
                put_off = self._admission.stream(tenant) if takes_sessions else None
                first, size_bytes = await first_message(
                    requests,
                    self._settings.open_timeout_s,
                    context_length=None if self.served is None else self.served.model.context_length,
                )
            if put_off is not None:
                raise put_off
            trace = self._tracing.join(context.invocation_metadata())
            self._access.check(credential)  # Open may have been long in coming
            live = self._sessions(self._ready()).open(first, tenant=tenant, trace=trace)
        except ThinwireError as error:
            log_request(_log, "session refused", tenant=tenant, error=error.reason)
            if isinstance(error, QuotaExceededError):
                raise await self._admission.hold_back(tenant, error) from None
            raise
        live.account.received(size_bytes)
        stream = wire.Outbox(context, write_timeout_s=self._settings.write_timeout_s)
        epoch = live.attach(stream, first.free_run)
        uplink = Uplink(live, epoch, stream, access=self._access, admission=self._admission)
        reading = asyncio.create_task(uplink.read(requests, credential))
        try:
            with held_in(self._streams):
                await stream.write_all()
        finally:
            reading.cancel()
            # After Close or a refusal the core knows better and ignores it; otherwise the stream was torn.
            live.handle(LinkLost(epoch))
            live.detach(epoch)

    def _sessions(self, served: ServedModel) -> SessionFactory:
        if self._factory is None:
            settings = self._settings
            queue = BatchQueue(
                max_rounds=settings.max_queued_rounds,
                max_sequences=settings.max_batch_sequences,
                max_tokens=settings.max_batch_tokens,
            )
            self._factory = SessionFactory(
                served,
                settings,
                batcher=Batcher(served.model, self.executor, queue),
                registry=self._registry,
                admission=self._admission,
                metrics=self.metrics,
                now=self._now,
            )
        return self._factory

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
