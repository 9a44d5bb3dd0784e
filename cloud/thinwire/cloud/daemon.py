"""
The cloud daemon: the Verifier service over one target model.

The server listens before its model is loaded, so that a port in use is known at once and health can be asked;
until then, and again while draining, it is NOT_SERVING and refuses sessions with UNAVAILABLE.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from thinwire.cloud.account import SessionAccount
from thinwire.cloud.admission import Admission
from thinwire.cloud.batch_queue import BatchQueue
from thinwire.cloud.batcher import Batcher
from thinwire.cloud.events import LinkLost, WorkFailed
from thinwire.cloud.live_session import LiveSession
from thinwire.cloud.metrics import CloudMetrics
from thinwire.cloud.opening import check_rows, check_vocabulary, first_message, forget_message
from thinwire.cloud.registry import SessionRegistry
from thinwire.cloud.session import CloudSession
from thinwire.cloud.settings import CloudSettings
from thinwire.cloud.uplink import Uplink
from thinwire.cloud.verifier import Verifier
from thinwire.common import wire
from thinwire.common.causal_model import CausalModel
from thinwire.common.door.peer_bound import PeerBound
from thinwire.common.door.security import ServerSecurity
from thinwire.common.door.tenants import Credential
from thinwire.common.errors import (
    QuotaExceededError,
    ResourceExhaustedError,
    ThinwireError,
    TransportError,
)
from thinwire.common.observe.log import log_request
from thinwire.common.observe.tracing import NO_TRACING, Trace, Tracing
from thinwire.common.release import version
from thinwire.common.schemes import make_scheme
from thinwire.common.session.generation import ServerInfo
from thinwire.common.session.messages import Open, VocabularyIdentity

_log = logging.getLogger(__name__)


class CloudServer(wire.VerifierServicer):
    """
    The Verifier service.

    Args:
        model: the target model; None when `model_loaded` will bring it.
        vocabulary: identity of the target's vocabulary; None together with `model`.
        eos_token_ids: the target's end-of-text ids.
        settings: deadlines and bounds; the defaults when None.
        executor: the model's one thread; made when None.
        model_name, model_rows, dtype, device: shown by GetServerInfo.
        fingerprint: of the target model (`language_model.fingerprint`); empty where unknown, and an edge
            then does not notice a restart with another model.
        security: certificates and tokens of the listener; loopback's plaintext for everybody when None.
        tracing: where spans go.
    """

    def __init__(
        self,
        model: CausalModel | None,
        *,
        vocabulary: VocabularyIdentity | None,
        eos_token_ids: tuple[int, ...] = (),
        settings: CloudSettings | None = None,
        executor: ThreadPoolExecutor | None = None,
        model_name: str = "",
        model_rows: int = 0,
        dtype: str = "",
        device: str = "",
        fingerprint: bytes = b"",
        security: ServerSecurity | None = None,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._tracing = tracing
        self._model = model
        self._vocabulary = vocabulary
        self._eos_token_ids = eos_token_ids
        self._settings = settings or CloudSettings()
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="target-model")
        self._model_name, self._model_rows, self._dtype, self._device = model_name, model_rows, dtype, device
        self._fingerprint = fingerprint
        self._batcher: Batcher | None = None
        """Made for the first session."""
        self._close_decisions = 0
        self._registry = SessionRegistry(self._settings.max_sessions)
        self._security = security or ServerSecurity()
        self._access = self._security.access
        self._admission = Admission(self._access, resume_ttl_s=self._settings.resume_ttl_s, now=self._now)
        self._unopened = PeerBound("streams without Open", self._settings.max_unopened_per_peer)
        self._draining = False
        self._streams: set[asyncio.Task[Any]] = set()
        """The tasks of the streams that hold a session now."""
        self.metrics = CloudMetrics(sessions=lambda: self.sessions, passes=lambda: self.passes)

    @property
    def sessions(self) -> int:
        """Sessions held now, those kept for a resume included."""
        return len(self._registry)

    @property
    def _takes_sessions(self) -> bool:
        """Whether there is a model, and no end in sight."""
        return self._model is not None and not self._draining

    @property
    def passes(self) -> int:
        """Target passes made."""
        return 0 if self._batcher is None else self._batcher.passes

    @property
    def close_decisions(self) -> int:
        """Rounds decided by a margin that rounding in float32 might turn, over all sessions."""
        return self._close_decisions + sum(live.session.close_decisions for live in self._registry)

    async def start(self, listen: str) -> int:
        """
        Bind, listen, and serve as soon as there is a model.

        Returns:
            the bound port.

        Raises:
            TransportError: the address cannot be bound.
            ConfigError: others can reach it, and it lacks certificates or tokens.
        """
        self._listener_security = self._security.described(listen)
        self._server = wire.make_server(
            listen,
            self._security,
            max_round_bytes=self._settings.max_round_bytes,
            on_refused=self.metrics.refused,
            on_closed=self.metrics.connection_closed,
        )
        wire.add_verifier(self, self._server)
        self._health = wire.HealthReporter(self._server, wire.VERIFIER_SERVICE)
        await self._health.not_serving()
        port = wire.bind(self._server, listen, self._security)
        await self._server.start()
        if self._model is not None:
            await self._health.serving()
        return port

    async def model_loaded(
        self,
        model: CausalModel,
        *,
        vocabulary: VocabularyIdentity,
        eos_token_ids: tuple[int, ...],
        model_name: str = "",
        model_rows: int = 0,
        fingerprint: bytes = b"",
    ) -> None:
        """Bring the model of a server that was started without one."""
        self._model, self._vocabulary, self._fingerprint = model, vocabulary, fingerprint
        self._eos_token_ids, self._model_name, self._model_rows = eos_token_ids, model_name, model_rows
        if not self._draining:
            await self._health.serving()

    async def stop(self, grace_s: float | None = None) -> None:
        """Drain: NOT_SERVING, no new sessions; streams may go on for `grace_s`, then all is freed."""
        self._draining = True
        await self._health.not_serving()
        grace_s = self._settings.drain_grace_s if grace_s is None else grace_s
        await wire.drain(self._server, self._streams, grace_s, cut=self._cut)
        for live in self._registry:
            live.expire()
        if self._batcher is not None:
            await self._batcher.stop()
        # Nothing is in line there any more but the closing of caches.
        await asyncio.to_thread(self._executor.shutdown)

    def _cut(self) -> None:
        """End every session, with the reason."""
        for live in self._registry:
            live.handle(WorkFailed(TransportError("this cloud stops; expected a request to another one.")))

    # --- the service ---------------------------------------------------------------------------------------

    async def Verify(self, requests: AsyncIterator[Any], context: Any) -> None:  # noqa: N802 - the contract's name
        """One session's stream; see proto/verifier.proto."""
        try:
            await self._verify(requests, context)
            return
        except ThinwireError as error:
            refusal = error
        except Exception as error:
            _log.exception("a stream failed")
            refusal = ThinwireError(f"the cloud failed with {type(error).__name__}.")
        self.metrics.refused(refusal.reason)
        await forget_message(requests)
        await wire.abort_with(context, refusal)

    async def GetServerInfo(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's name
        """What this cloud serves."""
        model = self._model
        return wire.server_info_to_proto(
            ServerInfo(
                version=version(),
                model=self._model_name,
                vocabulary=self._vocabulary or VocabularyIdentity(0, b""),
                model_rows=self._model_rows,
                context_length=model.context_length if model is not None else 0,
                eos_token_ids=self._eos_token_ids,
                schemes=self._settings.schemes,
                sessions=self.sessions,
                max_sessions=self._settings.max_sessions,
                resume_ttl_s=round(self._settings.resume_ttl_s),
                dtype=self._dtype,
                device=self._device,
                listener_security=self._listener_security,
                target_fingerprint=self._fingerprint,
            )
        )

    async def _verify(self, requests: AsyncIterator[Any], context: Any) -> None:
        credential = wire.credential_of(context, self._access)
        tenant = credential.tenant
        owner = tenant if self._access.is_required else ""
        try:
            with self._unopened.held(context.peer(), owner):
                put_off = self._admission.stream(tenant) if self._takes_sessions else None
                first, size_bytes = await first_message(
                    requests,
                    self._settings.open_timeout_s,
                    context_length=None if self._model is None else self._model.context_length,
                )
            if put_off is not None:
                raise put_off
            trace = self._tracing.join(context.invocation_metadata())
            live = self._live_session(first, credential, trace)
        except ThinwireError as error:
            log_request(_log, "session refused", tenant=tenant, error=error.reason)
            if isinstance(error, QuotaExceededError):
                raise await self._admission.hold_back(tenant, error) from None
            raise
        live.account.received(size_bytes)
        stream = wire.Outbox(context, write_timeout_s=self._settings.write_timeout_s)
        epoch = live.attach(stream)
        task = asyncio.current_task()
        assert task is not None, "a gRPC handler runs in a task"
        self._streams.add(task)
        uplink = Uplink(live, epoch, stream, access=self._access, admission=self._admission)
        reading = asyncio.create_task(uplink.read(requests, credential))
        try:
            await stream.write_all()
        finally:
            reading.cancel()
            self._streams.discard(task)
            # After Close or a refusal the core knows better and ignores it; otherwise the stream was torn.
            live.handle(LinkLost(epoch))
            live.detach(epoch)

    def _live_session(self, open_: Open, credential: Credential, trace: Trace) -> LiveSession:
        """The session an Open asks for: a new one, or one of the same tenant to resume."""
        self._access.check(credential)  # Open may have been long in coming
        tenant = credential.tenant
        if self._draining:
            raise TransportError("this cloud is draining; expected a request to another one.")
        if self._model is None or self._vocabulary is None:
            raise TransportError(
                "this cloud is still loading its model; expected a request once it is SERVING."
            )
        if open_.session_id:
            live = self._registry.find(open_.session_id, tenant=tenant)
            live.account.resumed()
            return live
        check_vocabulary(open_.vocabulary, self._vocabulary)
        check_rows(open_.prompt_token_ids, self._model_rows)
        self._settings.check_scheme(open_.scheme.scheme)
        model, scheme = self._model, make_scheme(open_.scheme, vocabulary_size=self._vocabulary.size)
        batcher = self._batcher = self._batcher or self._make_batcher(model)

        def make(session_id: bytes) -> LiveSession:
            session = CloudSession(
                session_id,
                open_,
                scheme=scheme,
                context_length=model.context_length,
                eos_token_ids=self._eos_token_ids,
                resume_ttl_s=self._settings.resume_ttl_s,
                idle_ttl_s=self._settings.idle_ttl_s,
                target_fingerprint=self._fingerprint,
            )
            verifier = Verifier(model, scheme, open_.sampling, session.draws)
            account = SessionAccount(
                self.metrics, scheme=scheme.name, tenant=tenant, opened_s=self._now(), trace=trace
            )
            return LiveSession(
                session,
                verifier,
                batcher=batcher,
                account=account,
                tenant=tenant,
                on_release=partial(self._released, account),
                on_exhausted=self._registry.evict_one,
            )

        self._admission.check_prompt(tenant, len(open_.prompt_token_ids))
        limit = self._access.quotas(tenant).max_sessions
        live = self._registry.add(make, tenant=tenant, tenant_limit=limit)
        try:
            live.reserve()
        except ResourceExhaustedError:
            self._registry.remove(live.session.session_id)
            self._registry.evict_one()  # so that the next try finds room
            raise
        self._admission.take_prompt(tenant, len(open_.prompt_token_ids))
        live.account.opened(len(open_.prompt_token_ids))
        return live

    def _make_batcher(self, model: CausalModel) -> Batcher:
        settings = self._settings
        queue = BatchQueue(
            max_rounds=settings.max_queued_rounds,
            max_sequences=settings.max_batch_sequences,
            max_tokens=settings.max_batch_tokens,
        )
        return Batcher(model, self._executor, queue)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _released(self, account: SessionAccount, session: CloudSession, reason: str) -> None:
        self._close_decisions += session.close_decisions
        self._registry.remove(session.session_id)
        account.ended(session, reason, self._now())
