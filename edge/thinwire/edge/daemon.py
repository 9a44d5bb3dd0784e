"""
The edge daemon: the Generator service over one draft model and one channel to the cloud.

The server listens before its model is loaded, so that a port in use is known at once and health can be asked;
until then, and again while draining, it is NOT_SERVING and refuses generations with UNAVAILABLE.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from thinwire.common import wire
from thinwire.common.causal_model import CausalModel
from thinwire.common.door.security import ClientSecurity, ServerSecurity
from thinwire.common.door.tenants import Credential
from thinwire.common.errors import ResourceExhaustedError, ThinwireError, TransportError
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.observe.tracing import NO_TRACING, Trace, Tracing
from thinwire.common.release import version
from thinwire.common.schemes import make_scheme, scheme_names
from thinwire.common.session.generation import (
    EdgeStatus,
    GenerationStarted,
    ServerInfo,
)
from thinwire.common.session.messages import VocabularyIdentity
from thinwire.edge.account import GenerationAccount
from thinwire.edge.client_stream import ClientStream
from thinwire.edge.cloud_link import CloudLink
from thinwire.edge.drafter import Drafter
from thinwire.edge.generation import run_generation
from thinwire.edge.meter import GenerationMeter
from thinwire.edge.metrics import EdgeMetrics
from thinwire.edge.pair import PairWatch
from thinwire.edge.prompt_encoder import PromptEncoder
from thinwire.edge.session import EdgeSession
from thinwire.edge.settings import EdgeSettings
from thinwire.edge.telemetry import RoundLog
from thinwire.edge.text_stream import TextStream

DEFAULT_SETTINGS = EdgeSettings()
_log = logging.getLogger(__name__)


class Vocabulary(Protocol):
    """What the edge needs of a tokenizer."""

    @property
    def identity(self) -> VocabularyIdentity:
        """Size and hash, compared with the target's at Open."""

    @property
    def special_tokens(self) -> dict[str, int]:
        """The ids without text, by their names."""

    def encode(self, text: str) -> list[int]:
        """Prompt text to token ids."""

    def decode(self, token_ids: Any) -> str:
        """Token ids to text."""


@dataclass(frozen=True, slots=True)
class ModelShown:
    """What GetStatus says of the model."""

    name: str = ""
    dtype: str = ""
    device: str = ""


class EdgeServer(wire.GeneratorServicer):
    """
    The Generator service.

    Args:
        model: the draft model; None when `model_loaded` will bring it.
        vocabulary: the draft model's tokenizer; None together with `model`.
        cloud_address: HOST:PORT of the cloud.
        settings: deadlines and bounds.
        executor: the model's one thread; made when None.
        shown: the model's name, dtype and device for GetStatus.
        round_log: where rounds are written, None for nowhere.
        security: certificates and tokens of the listener; loopback's plaintext for everybody when None.
        cloud_security: how the cloud is dialled, and the token for it.
        log_text: whether a generation's line in the log shows its prompt and text.
        tracing: where spans go.
    """

    def __init__(
        self,
        model: CausalModel | None,
        *,
        vocabulary: Vocabulary | None,
        cloud_address: str,
        settings: EdgeSettings = DEFAULT_SETTINGS,
        executor: ThreadPoolExecutor | None = None,
        shown: ModelShown | None = None,
        round_log: RoundLog | None = None,
        security: ServerSecurity | None = None,
        cloud_security: ClientSecurity | None = None,
        log_text: bool = False,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._cloud_address = cloud_address
        self._settings = settings
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="draft-model")
        self._prompts = PromptEncoder(settings.max_prompt_bytes)
        self._shown = shown or ModelShown()
        self._round_log = round_log
        self._security = security or ServerSecurity()
        self._cloud_security = cloud_security or ClientSecurity()
        self._draining = False
        self.running: set[asyncio.Task[Any]] = set()
        """The tasks of the generations running now; each is a slot."""
        self._streams: set[asyncio.Task[Any]] = set()
        """The handlers of the Generate streams that are not yet written to their end."""
        self._pair: PairWatch | None = None
        self._watching: asyncio.Task[None] | None = None
        self._finished = 0
        self._output_tokens = 0
        self._log_text = log_text
        self._tracing = tracing
        self.metrics = EdgeMetrics(generations=lambda: len(self.running))

    async def start(self, listen: str) -> int:
        """
        Bind, listen, and serve as soon as there is a model.

        Returns:
            the bound port.

        Raises:
            TransportError: the address cannot be bound.
            ConfigError: others can reach it, and it lacks certificates or tokens.
        """
        self._link = CloudLink(self._cloud_address, self._settings, self._cloud_security)
        self._listener_security = self._security.described(listen)
        self._server = wire.make_server(
            listen,
            self._security,
            max_request_bytes=wire.MAX_GENERATE_BYTES,
            on_refused=self.metrics.refused,
            on_closed=self.metrics.connection_closed,
        )
        wire.add_generator(self, self._server)
        self._health = wire.HealthReporter(self._server, wire.GENERATOR_SERVICE)
        await self._health.not_serving()
        port = wire.bind(self._server, listen, self._security)
        await self._server.start()
        if self._model is not None:
            await self._health.serving()
        return port

    async def model_loaded(self, model: CausalModel, *, vocabulary: Vocabulary, shown: ModelShown) -> None:
        """Bring the model of a server that was started without one, and see what cloud it has."""
        self._model, self._vocabulary, self._shown = model, vocabulary, shown
        self._pair = PairWatch(
            self._link.server_info,
            cloud=self._cloud_address,
            vocabulary=vocabulary.identity,
            on_change=self._show_health,
        )
        await self._pair.look()
        if self._pair.is_right is None:  # a cloud that is not there yet may come
            await self._show_health(True)
        self._watching = asyncio.create_task(self._pair.run())

    async def _show_health(self, texts_can_be_made: bool) -> None:
        if texts_can_be_made and not self._draining:
            await self._health.serving()
        else:
            await self._health.not_serving()

    async def stop(self, grace_s: float | None = None) -> None:
        """Drain: NOT_SERVING, no new generations; those in flight may go on for `grace_s`."""
        self._draining = True
        if self._watching is not None:
            self._watching.cancel()
        await self._health.not_serving()
        grace_s = self._settings.drain_grace_s if grace_s is None else grace_s
        await wire.drain(self._server, self._streams, grace_s, cut=self._cut)
        if self.running:  # cut above; each still says Close to the cloud
            await asyncio.wait(self.running, timeout=2 * self._settings.close_timeout_s)
        await self._link.close()
        await asyncio.to_thread(self._prompts.close)
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)

    # --- the service -------------------------------------------------------------------------------------

    async def Generate(self, request: Any, context: Any) -> None:  # noqa: N802
        """One text; see proto/generator.proto."""
        trace = self._tracing.begin("Generate", context.invocation_metadata())
        account = GenerationAccount(self.metrics, trace=trace, with_text=self._log_text)
        outbox = wire.Outbox(context, write_timeout_s=self._settings.write_timeout_s)
        stream = asyncio.current_task()
        assert stream is not None, "a gRPC handler runs in a task"
        self._streams.add(stream)
        generating = asyncio.create_task(self._run_into(outbox, request, context, account, trace))
        try:
            try:
                await outbox.write_all()
            finally:
                generating.cancel()  # it has ended, or its client is gone or takes nothing
                await asyncio.wait([generating])
        except ThinwireError as error:
            account.failed(error, asyncio.get_running_loop().time())
            await wire.abort_with(context, error)
        finally:
            self._streams.discard(stream)

    def _cut(self) -> None:
        """End what still runs, with the reason."""
        for generating in self.running:
            generating.cancel()

    async def _run_into(
        self, outbox: wire.Outbox, request: Any, context: Any, account: GenerationAccount, trace: Trace
    ) -> None:
        """Run one request to its end, which is its stream's."""
        try:
            await self._generate(outbox, request, context, account, trace)
        except asyncio.CancelledError:
            if not self._draining or outbox.is_ending:
                account.cancelled(asyncio.get_running_loop().time())
                raise
            refusal: ThinwireError = TransportError(
                "this edge stops and cut the text; expected another edge."
            )
        except ThinwireError as error:
            if self._pair is not None:
                self._pair.doubt(error)
            refusal = error
        except Exception as error:
            _log.exception("a generation failed")
            refusal = ThinwireError(f"the edge failed with {type(error).__name__}.")
        else:
            outbox.end()
            return
        account.failed(refusal, asyncio.get_running_loop().time())
        outbox.end(refusal)

    async def GetStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        """What this edge serves and how it stands."""
        identity = self._vocabulary.identity if self._vocabulary else VocabularyIdentity(0, b"")
        answer = await self._link.server_info()
        if self._pair is not None:
            await self._pair.heard(answer)
        return wire.edge_status_to_proto(
            EdgeStatus(
                version=version(),
                model=self._shown.name,
                vocabulary=identity,
                cloud=self._cloud_address,
                cloud_info=answer if isinstance(answer, ServerInfo) else None,
                cloud_failure="" if isinstance(answer, ServerInfo) else f"{answer.status}: {answer.message}",
                cloud_security=self._link.protection.value,
                generations=len(self.running),
                generations_finished=self._finished,
                output_tokens=self._output_tokens,
                schemes=scheme_names(),
                dtype=self._shown.dtype,
                device=self._shown.device,
                listener_security=self._listener_security,
            )
        )

    async def _generate(
        self, outbox: wire.Outbox, request: Any, context: Any, account: GenerationAccount, trace: Trace
    ) -> None:
        """Check the request, then run it under the bound on generations."""
        credential = wire.credential_of(context, self._security.access)
        account.admitted(credential.tenant)
        started_s = asyncio.get_running_loop().time()
        if self._draining:
            raise TransportError("this edge is draining; expected a request to another one.")
        if self._model is None or self._vocabulary is None:
            raise TransportError(
                "this edge is still loading its model; expected a request after it is SERVING."
            )
        bound = self._settings.max_generations
        running = len(self.running)
        if running >= bound:
            raise ResourceExhaustedError(
                f"{running} generations are running; expected fewer than {bound} "
                "(thinwire edge --max-generations N allows more)."
            )
        task = asyncio.current_task()
        assert task is not None, "a gRPC handler runs in a task"
        self.running.add(task)
        try:
            await self._run(
                self._model, self._vocabulary, outbox, request, credential, account, trace, started_s
            )
        finally:
            self.running.discard(task)
            self._finished += 1

    async def _run(
        self,
        model: CausalModel,
        vocabulary: Vocabulary,
        outbox: wire.Outbox,
        request: Any,
        credential: Credential,
        account: GenerationAccount,
        trace: Trace,
        started_s: float,
    ) -> None:
        asked = wire.generate_request_from_proto(request)
        scheme = make_scheme(asked.scheme, vocabulary_size=vocabulary.identity.size)
        prompt_ids, text = await self._prompts.encode(
            asked.prompt, partial(_tokenized, vocabulary, asked.prompt, asked.stop)
        )
        session = EdgeSession(
            asked,
            prompt_ids,
            vocabulary=vocabulary.identity,
            scheme=scheme,
            text=text,
            context_length=model.context_length,
            round_timeout_s=self._settings.round_timeout_s,
            least_round_timeout_s=self._settings.least_round_timeout_s,
            patience_s=self._settings.patience_s,
        )
        meter = GenerationMeter(
            scheme,
            session.statistics,
            started_s=started_s,
            round_log=self._round_log,
            metrics=self.metrics,
            trace=trace,
        )
        account.begun(meter, asked, len(prompt_ids))

        client = ClientStream(outbox, account, check=lambda: self._security.access.check(credential))
        started = GenerationStarted(
            asked.seed,
            len(prompt_ids),
            asked.scheme,
            min(asked.draft_length, scheme.max_draft_length),
        )
        client.put(started)
        try:
            finished = await run_generation(
                session,
                Drafter(model, scheme, asked.sampling, KeyedDraws(asked.seed)),
                self._link.carrying(trace.context) if trace.context else self._link,
                executor=self._executor,
                settings=self._settings,
                client=client,
                meter=meter,
            )
        finally:
            self._output_tokens += client.tokens
        if self._round_log is not None:
            reason = finished.reason.value
            self._round_log.generation_finished(meter.session_id, reason, asked.seed, finished.statistics)


def _tokenized(
    vocabulary: Vocabulary, prompt: str, stop: tuple[str, ...]
) -> tuple[tuple[int, ...], TextStream]:
    """A prompt's ids, and what turns the output behind them into text."""
    prompt_ids = tuple(vocabulary.encode(prompt))
    text = TextStream(
        vocabulary.decode,
        stop=stop,
        prompt_token_ids=prompt_ids,
        special_tokens=vocabulary.special_tokens,
    )
    return prompt_ids, text
