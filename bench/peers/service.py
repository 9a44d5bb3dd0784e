"""The peers' gRPC server: a generic handler on bytes, options and health as those of the daemons."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from typing import Any

import grpc

from bench.peers.forward_watch import PassLog
from bench.peers.messages import SERVICE, PeerRequest, StreamedToken
from bench.peers.ways import Ways
from thinwire.common import wire
from thinwire.common.door.security import ServerSecurity
from thinwire.common.errors import ThinwireError, TransportError
from thinwire.common.language_model import Vocabulary
from thinwire.edge.text_stream import TextStream

_log = logging.getLogger(__name__)


class _GoneError(Exception):
    """Nobody reads this stream any more."""


class PeersServer:
    """
    One text at a time; a second waits for the models' thread.

    Args:
        executor: the models' one thread.
        log: where the server's seconds of each text go.
        security: of the listener; loopback's plaintext when None.
    """

    def __init__(self, *, executor: Executor, log: PassLog, security: ServerSecurity | None = None) -> None:
        self._security = security or ServerSecurity()
        self._executor = executor
        self._log = log
        self._ways: Ways | None = None
        self._vocabulary: Vocabulary | None = None

    async def start(self, listen: str) -> int:
        """Bind and listen; returns the port, TransportError if the address cannot be had."""
        self._server = wire.make_server(listen, self._security)
        handlers = {"Stream": grpc.unary_stream_rpc_method_handler(self._stream)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self._health = wire.HealthReporter(self._server, SERVICE)
        await self._health.not_serving()
        port = wire.bind(self._server, listen, self._security)
        await self._server.start()
        return port

    async def models_loaded(self, ways: Ways, vocabulary: Vocabulary) -> None:
        """Serve from now on."""
        self._ways, self._vocabulary = ways, vocabulary
        await self._health.serving()

    async def stop(self, grace_s: float | None = None) -> None:
        """Texts in flight are cut."""
        await self._server.stop(grace_s)
        await asyncio.to_thread(self._executor.shutdown)

    async def _stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """One text."""
        begun_s = time.perf_counter()
        gone = threading.Event()
        try:
            if self._ways is None or self._vocabulary is None:
                raise TransportError("the peers are still loading their models; expected a request later.")
            asked = PeerRequest.from_bytes(request)
            text = TextStream(self._vocabulary.decode)
            async for token_id, target_pass in self._tokens(self._ways, asked, gone):
                yield StreamedToken(token_id, target_pass, text.push(token_id)[0]).to_bytes()
            self._log.write("served", server_s=time.perf_counter() - begun_s)
        except ThinwireError as error:
            await wire.abort_with(context, error)
        except Exception as error:
            _log.exception("a text failed")
            await wire.abort_with(context, ThinwireError(f"the peers failed with {type(error).__name__}."))
        finally:
            gone.set()

    async def _tokens(
        self, ways: Ways, asked: PeerRequest, gone: threading.Event
    ) -> AsyncIterator[tuple[int, int]]:
        """(token id, target pass) as the models' thread makes them."""
        loop = asyncio.get_running_loop()
        made: asyncio.Queue[tuple[int, int] | None] = asyncio.Queue()

        def emit(token_id: int, target_pass: int) -> None:
            if gone.is_set():
                raise _GoneError
            loop.call_soon_threadsafe(made.put_nowait, (token_id, target_pass))

        work = loop.run_in_executor(self._executor, ways.run, asked, emit)
        work.add_done_callback(lambda done: made.put_nowait(None))
        while (token := await made.get()) is not None:
            yield token
        await work  # its error, if it failed
