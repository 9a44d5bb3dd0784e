"""
The edge daemon: the Generator service over one draft model and one channel to the cloud.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from thinwire.common import wire
from thinwire.common.causal_model import ServedModel, Vocabulary
from thinwire.common.daemon.server import DaemonServer, held_in
from thinwire.common.door.security import ClientSecurity, ServerSecurity
from thinwire.common.errors import ResourceExhaustedError, ThinwireError, TransportError
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.observe.tracing import NO_TRACING, Tracing
from thinwire.common.release import version
from thinwire.common.schemes import is_auto, runs_free, scheme_names
from thinwire.common.session.generation import (
    EdgeStatus,
    GenerationRequest,
    GenerationStarted,
    ServerInfo,
)
from thinwire.common.session.messages import VocabularyIdentity
from thinwire.edge.account import GenerateCall
from thinwire.edge.cloud_link import CloudLink
from thinwire.edge.conversation import Conversation
from thinwire.edge.drafter import Drafter
from thinwire.edge.expected_text import expected_ids
from thinwire.edge.free_running import FreeRunningSession
from thinwire.edge.generation import GenerationRun
from thinwire.edge.hint_sources import HintSources
from thinwire.edge.meter import EdgeMetrics, GenerationMeter
from thinwire.edge.no_draft import asked_scheme, has_draft, servable_schemes
from thinwire.edge.pair import PairWatch
from thinwire.edge.prompt_encoder import PromptEncoder
from thinwire.edge.scheme_choice import Experience, choose
from thinwire.edge.session import EdgeSession
from thinwire.edge.settings import EdgeSettings
from thinwire.edge.telemetry import RoundLog
from thinwire.edge.text_stream import TextStream

DEFAULT_SETTINGS = EdgeSettings()


class EdgeServer(DaemonServer, wire.GeneratorServicer):
    """
    The Generator service; what is not said here is of `DaemonServer`.

    Args:
        cloud_address: HOST:PORT of the cloud.
        round_log: where rounds are written, None for nowhere.
        cloud_security: how the cloud is dialled, and the token for it.
        log_text: whether a generation's line in the log shows its prompt and text.
    """

    side = "edge"
    service = wire.GENERATOR_SERVICE
    add_to = staticmethod(wire.add_generator)

    def __init__(
        self,
        served: ServedModel | None,
        *,
        cloud_address: str,
        settings: EdgeSettings = DEFAULT_SETTINGS,
        executor: ThreadPoolExecutor | None = None,
        round_log: RoundLog | None = None,
        security: ServerSecurity | None = None,
        cloud_security: ClientSecurity | None = None,
        log_text: bool = False,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self.metrics = EdgeMetrics(generations=lambda: len(self.running))
        super().__init__(
            served,
            executor=executor,
            security=security,
            metrics=self.metrics,
            drain_grace_s=settings.drain_grace_s,
            max_request_bytes=wire.MAX_GENERATE_BYTES,
        )
        self._cloud_address = cloud_address
        self._settings = settings
        self._prompts = PromptEncoder(settings.max_prompt_bytes)
        self._round_log = round_log
        self._cloud_security = cloud_security
        self.running: set[asyncio.Task[Any]] = set()
        """The tasks of the generations running now; each is a slot."""
        self._pair: PairWatch | None = None
        self._watching: asyncio.Task[None] | None = None
        self._finished = 0
        self._output_tokens = 0
        self._experience = Experience()
        self._log_text = log_text
        self._tracing = tracing

    async def start(self, listen: str) -> int:
        self._link = CloudLink(self._cloud_address, self._settings, self._cloud_security)
        return await super().start(listen)

    async def model_loaded(self, served: ServedModel) -> None:
        """Bring the model of a server that was started without one, and see what cloud it has."""
        self.served = served
        self._pair = PairWatch(
            self._link.server_info,
            cloud=self._cloud_address,
            vocabulary=served.vocabulary.identity,
            on_change=self._show_health,
        )
        await self._pair.look()
        if self._pair.is_right is None:  # a cloud that is not there yet may come
            await self._show_health(True)
        self._watching = asyncio.create_task(self._pair.run())

    def _cut(self) -> None:
        for generating in self.running:
            generating.cancel()

    async def _free(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        if self.running:  # cut; each still says Close to the cloud
            await asyncio.wait(self.running, timeout=2 * self._settings.close_timeout_s)
        await self._link.close()
        await asyncio.to_thread(self._prompts.close)
        await asyncio.to_thread(self.executor.shutdown, cancel_futures=True)

    # --- the service -------------------------------------------------------------------------------------

    async def Generate(self, request: Any, context: Any) -> None:  # noqa: N802
        call = GenerateCall(
            context,
            self.metrics,
            trace=self._tracing.begin("Generate", context.invocation_metadata()),
            write_timeout_s=self._settings.write_timeout_s,
            with_text=self._log_text,
        )
        with held_in(self._streams):
            generating = asyncio.create_task(self._run_into(call, request))
            try:
                try:
                    await call.outbox.write_all()
                finally:
                    generating.cancel()  # it has ended, or its client is gone or takes nothing
                    await asyncio.wait([generating])
            except ThinwireError as error:
                call.broken_off(error)
                await wire.abort_with(context, error)

    async def _run_into(self, call: GenerateCall, request: Any) -> None:
        try:
            await self._generate(call, request)
        except asyncio.CancelledError:
            if not self._draining or call.outbox.is_ending:
                call.broken_off()
                raise
            refusal: ThinwireError = TransportError(
                "this edge stops and cut the text; expected another edge."
            )
        except ThinwireError as error:
            if self._pair is not None:
                self._pair.doubt(error)
            refusal = error
        except Exception as error:
            refusal = self._failed(error, "a generation failed")
        else:
            call.outbox.end()
            return
        call.broken_off(refusal)
        call.outbox.end(refusal)

    async def GetStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        served = self.served
        answer = await self._link.server_info()
        if self._pair is not None:
            await self._pair.heard(answer)
        return wire.edge_status_to_proto(
            EdgeStatus(
                version=version(),
                model=served.name if served else "",
                vocabulary=served.vocabulary.identity if served else VocabularyIdentity(0, b""),
                cloud=self._cloud_address,
                cloud_info=answer if isinstance(answer, ServerInfo) else None,
                cloud_failure="" if isinstance(answer, ServerInfo) else f"{answer.status}: {answer.message}",
                cloud_security=self._link.protection.value,
                generations=len(self.running),
                generations_finished=self._finished,
                output_tokens=self._output_tokens,
                schemes=servable_schemes(served) if served else scheme_names(),
                dtype=served.dtype if served else "",
                device=served.device if served else "",
                listener_security=self._listener_security,
            )
        )

    async def _generate(self, call: GenerateCall, request: Any) -> None:
        credential = wire.credential_of(call.context, self._access)
        call.admitted(credential.tenant, partial(self._access.check, credential))
        served = self._ready()
        running, bound = len(self.running), self._settings.max_generations
        if running >= bound:
            raise ResourceExhaustedError(
                f"{running} generations are running; expected fewer than {bound} "
                "(thinwire edge --max-generations N allows more)."
            )
        with held_in(self.running):
            try:
                await self._run(call, wire.generate_request_from_proto(request), served)
            finally:
                self._finished += 1
                self._output_tokens += call.output_tokens

    async def _run(self, call: GenerateCall, asked: GenerationRequest, served: ServedModel) -> None:
        vocabulary, trace = served.vocabulary, call.trace
        asked, choice = self._with_a_scheme(asked, served)
        scheme = asked_scheme(asked, served)
        if not has_draft(served):
            asked = replace(asked, draft_length=0)
        (prompt_ids, text), expected = await self._prompts.encode(
            asked.prompt, partial(_tokenized, vocabulary, asked), beside=asked.prediction
        )
        kind: Callable[..., Conversation] = EdgeSession
        if scheme.runs_free:
            sources = HintSources(expected, may_copy=not self._settings.no_copied_hints)
            kind = partial(FreeRunningSession, sources=sources)
        session = kind(
            asked,
            prompt_ids,
            vocabulary=vocabulary.identity,
            scheme=scheme,
            text=text,
            context_length=served.model.context_length,
            round_timeout_s=self._settings.round_timeout_s,
            least_round_timeout_s=self._settings.least_round_timeout_s,
            patience_s=self._settings.patience_s,
        )
        meter = GenerationMeter(
            scheme,
            session.statistics,
            started_s=call.arrived_s,
            round_log=self._round_log,
            metrics=self.metrics,
            trace=trace,
        )
        call.begun(meter, asked, len(prompt_ids))
        draft_length = min(asked.draft_length, scheme.max_draft_length)
        call.put(
            GenerationStarted(
                asked.seed, len(prompt_ids), asked.scheme, draft_length, asked.objective, choice
            )
        )
        finished = await GenerationRun(
            session,
            Drafter(served.model, scheme, asked.sampling, KeyedDraws(asked.seed)),
            self._link.carrying(trace.context) if trace.context else self._link,
            executor=self.executor,
            settings=self._settings,
            client=call,
            meter=meter,
        ).run()
        self._experience.note(asked, finished.statistics)
        if self._round_log is not None:
            self._round_log.generation_finished(
                meter.session_id,
                finished.reason.value,
                asked.seed,
                finished.statistics,
                scheme=str(asked.scheme),
                choice=choice,
            )

    def _with_a_scheme(self, asked: GenerationRequest, served: ServedModel) -> tuple[GenerationRequest, str]:
        """The request with the scheme that its text has to the end, and why where that was left open."""
        if not is_auto(asked.scheme):
            return asked, ""
        schemes = None if self._pair is None else self._pair.schemes
        scheme, choice = choose(asked, self._experience, schemes, has_draft=has_draft(served))
        objective = asked.objective if runs_free(scheme) else "latency"
        return replace(asked, scheme=scheme, objective=objective), choice


def _tokenized(
    vocabulary: Vocabulary, asked: GenerationRequest
) -> tuple[tuple[tuple[int, ...], TextStream], tuple[int, ...]]:
    """The prompt with the text to come, and what is expected of it."""
    prompt_ids = tuple(vocabulary.encode(asked.prompt))
    text = TextStream(
        vocabulary.decode,
        stop=asked.stop,
        prompt_token_ids=prompt_ids,
        special_tokens=vocabulary.special_tokens,
    )
    return (prompt_ids, text), expected_ids(vocabulary, asked.prompt, asked.prediction)
