"""
`python -m bench.capacity.streamed`: the rival, transformers' batched `generate` of the target, streamed.

One gRPC server-stream a client, with the framing, options and health of `bench.peers`.
A batch begins once as many clients wait as each of them says belong together, and is generated as a whole:
what one pass yields is sent to all clients before the next one.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc

from bench.capacity.messages import SERVICE, BatchRequest

# Before anything that imports torch by itself; see there.
from bench.peers.forward_watch import PassLog, add_watch_arguments, watch_forward
from bench.peers.messages import StreamedToken
from thinwire.common import demo_pair, wire
from thinwire.common.daemon.options import CommandParser
from thinwire.common.daemon.process import run_daemon
from thinwire.common.daemon.settings import add_daemon_options, daemon_options
from thinwire.common.door.security import ServerSecurity
from thinwire.common.errors import TransportError
from thinwire.edge.text_stream import TextStream

if TYPE_CHECKING:
    from thinwire.common.language_model import LanguageModel


class BatchedServer:
    """
    Args:
        executor: the model's one thread.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._target: LanguageModel | None = None
        self._waiting: list[tuple[BatchRequest, asyncio.Queue[int | None]]] = []
        self._batches: set[asyncio.Task[None]] = set()

    async def start(self, listen: str) -> int:
        """Bind and listen; returns the port, TransportError if the address cannot be had."""
        security = ServerSecurity()  # loopback
        self._server = wire.make_server(listen, security)
        handlers = {"Stream": grpc.unary_stream_rpc_method_handler(self._stream)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self._health = wire.HealthReporter(self._server, SERVICE)
        await self._health.not_serving()
        port = wire.bind(self._server, listen, security)
        await self._server.start()
        return port

    async def model_loaded(self, target: LanguageModel) -> None:
        """Serve from now on."""
        self._target = target
        await self._health.serving()

    async def stop(self, grace_s: float | None = None) -> None:
        """Texts in flight are cut."""
        await self._server.stop(grace_s)
        self._executor.shutdown(wait=False)

    async def _stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """One text of a batch."""
        target = self._target
        if target is None:
            await wire.abort_with(context, TransportError("still loading; expected a request later."))
            return
        asked = BatchRequest.from_bytes(request)
        made: asyncio.Queue[int | None] = asyncio.Queue()
        self._waiting.append((asked, made))
        if len(self._waiting) >= asked.together:
            batch, self._waiting = self._waiting, []
            task = asyncio.ensure_future(self._generate(target, batch))
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)
        text = TextStream(target.vocabulary.decode)
        number = 0
        try:
            while (token_id := await made.get()) is not None:
                number += 1
                yield StreamedToken(token_id, number, text.push(token_id)[0]).to_bytes()
        finally:
            self._waiting = [one for one in self._waiting if one[1] is not made]

    async def _generate(
        self, target: LanguageModel, batch: Sequence[tuple[BatchRequest, asyncio.Queue[int | None]]]
    ) -> None:
        loop = asyncio.get_running_loop()

        def emit(token_ids: list[int]) -> None:
            for (_, made), token_id in zip(batch, token_ids, strict=True):
                made.put_nowait(token_id)

        requests = [asked for asked, _ in batch]
        try:
            await loop.run_in_executor(
                self._executor,
                generate_together,
                target,
                requests,
                lambda token_ids: loop.call_soon_threadsafe(emit, token_ids),
            )
        finally:
            for _, made in batch:
                made.put_nowait(None)


def generate_together(
    target: LanguageModel, requests: Sequence[BatchRequest], emit: Callable[[list[int]], Any]
) -> None:
    """
    Generate one text a request in one call of transformers' `generate`, prompts padded on the left.

    Args:
        target: the model.
        requests: of one length.
        emit: called with one token id a text after every pass.
    """
    import torch
    from transformers.generation.streamers import BaseStreamer

    class Streamer(BaseStreamer):
        """Hands on what a pass yields; the prompts come first."""

        def __init__(self) -> None:
            self._prompts = True

        def put(self, value: torch.Tensor) -> None:
            if not self._prompts:
                emit(value.flatten().tolist())
            self._prompts = False

        def end(self) -> None:
            """Nothing is held back."""

    prompts = [target.vocabulary.encode(request.prompt) for request in requests]
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    torch.manual_seed(requests[0].seed)
    with torch.inference_mode():
        target.module.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=requests[0].max_tokens,
            pad_token_id=0,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            streamer=Streamer(),
        )


def main() -> int:
    """Serve until a signal; returns the exit code."""
    parser = CommandParser(prog="python -m bench.capacity.streamed", description=__doc__)
    model, without = str(demo_pair.target_path()), ("tokenizer", "trace")
    add_daemon_options(parser, model=model, listen="127.0.0.1:7074", without=without)
    add_watch_arguments(parser)
    return asyncio.run(_serve(parser.parse_args()))


async def _serve(arguments: argparse.Namespace) -> int:
    options = daemon_options(arguments)
    executor = ThreadPoolExecutor(1, thread_name_prefix="batched")
    server = BatchedServer(executor)

    async def on_loaded(target: LanguageModel) -> None:
        target.module.generation_config.eos_token_id = None  # end-of-text is ignored
        target.module.config.eos_token_id = None
        watch_forward(target.module, role="target", pacing=arguments.paced, log=PassLog(arguments.pass_log))
        await server.model_loaded(target)

    return int(
        await run_daemon(
            server, options, program="bench.capacity.streamed", executor=executor, on_loaded=on_loaded
        )
    )


if __name__ == "__main__":
    sys.exit(main())
