"""The peers' gRPC server: a generic handler on bytes, options and health as those of the daemons."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import grpc

from bench.peers.forward_watch import PassLog
from bench.peers.messages import BATCHED, SERVICE, PeerRequest, StreamedToken
from bench.peers.ways import ignore_end_of_text, make_texts
from thinwire.common import wire
from thinwire.common.door.security import ServerSecurity
from thinwire.common.errors import ThinwireError, TransportError
from thinwire.common.language_model import LanguageModel
from thinwire.edge.text_stream import TextStream

_log = logging.getLogger(__name__)


class _GoneError(Exception):
    """Nobody reads these texts any more."""


@dataclass(eq=False, slots=True)
class _Text:
    """One stream that waits for its tokens."""

    asked: PeerRequest
    made: asyncio.Queue[tuple[int, int] | BaseException | None] = field(default_factory=asyncio.Queue)
    """(token id, target pass) as the models' thread makes them; at the end what it failed with, or None."""
    is_read: bool = True


class PeersServer:
    """
    One text at a time, or one batch; another waits for the models' thread.

    Args:
        executor: the models' one thread.
        log: where the server's seconds of each text go.
        security: of the listener; loopback's plaintext when None.
    """

    def __init__(self, *, executor: Executor, log: PassLog, security: ServerSecurity | None = None) -> None:
        self._security = security or ServerSecurity()
        self._executor = executor
        self._log = log
        self._models: tuple[LanguageModel, LanguageModel] | None = None
        self._batch: list[_Text] = []

    async def start(self, listen: str) -> int:
        """Bind and listen; returns the port, TransportError if the address cannot be had."""
        self._server = wire.GuardedServer(listen, self._security)
        handlers = {"Stream": grpc.unary_stream_rpc_method_handler(self._stream)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self._health = wire.HealthReporter(self._server, SERVICE)
        port = self._server.bind()
        await self._server.start()
        return port

    def models_loaded(self, target: LanguageModel, draft: LanguageModel) -> None:
        """Serve from now on; the models have one vocabulary."""
        for model in (target, draft):
            ignore_end_of_text(model.module)
        self._models = target, draft
        self._health.show(True)

    async def stop(self, grace_s: float | None = None) -> None:
        """Texts in flight are cut."""
        await self._server.stop(grace_s)
        await asyncio.to_thread(self._executor.shutdown)

    async def _stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """One text."""
        begun_s = time.perf_counter()
        own: _Text | None = None
        try:
            if self._models is None:
                raise TransportError("the peers are still loading their models; expected a request later.")
            own = _Text(PeerRequest.from_bytes(request))
            self._begin(self._models, own)
            text = TextStream(self._models[0].vocabulary.decode)
            while isinstance(token := await own.made.get(), tuple):
                yield StreamedToken(*token, text.push(token[0])[0]).to_bytes()
            if token is not None:
                raise token
            self._log.write("served", server_s=time.perf_counter() - begun_s)
        except ThinwireError as error:
            await wire.abort_with(context, error)
        except Exception as error:
            _log.exception("a text failed")
            await wire.abort_with(context, ThinwireError(f"the peers failed with {type(error).__name__}."))
        finally:
            if own is not None:
                own.is_read = False
                if own in self._batch:
                    self._batch.remove(own)

    def _begin(self, models: tuple[LanguageModel, LanguageModel], own: _Text) -> None:
        """Hand the text to the models' thread, or the batch that it completes."""
        texts = [own]
        if own.asked.way == BATCHED:
            self._batch.append(own)
            if len(self._batch) < own.asked.together:
                return
            texts, self._batch = self._batch, []
        loop = asyncio.get_running_loop()

        def emit(target_pass: int, token_ids: list[int]) -> None:
            if not any(text.is_read for text in texts):
                raise _GoneError
            loop.call_soon_threadsafe(hand_out, target_pass, token_ids)

        def hand_out(target_pass: int, token_ids: list[int]) -> None:
            each = texts if own.asked.way == BATCHED else texts * len(token_ids)
            for text, token_id in zip(each, token_ids, strict=True):
                text.made.put_nowait((token_id, target_pass))

        def end(done: asyncio.Future[None]) -> None:
            for text in texts:
                text.made.put_nowait(done.exception())

        asked = [text.asked for text in texts]
        loop.run_in_executor(self._executor, make_texts, *models, asked, emit).add_done_callback(end)
