"""
Recorded texts: every message a real edge sent for a text, how long it drafted, and what came back.

Both daemons run as shipped, one text at a time, with a proxy between them that keeps what crosses it; so the
draft times are those of an edge with nothing else to do.
Replayed under the same seed, the same bytes must get the same verdicts.
"""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import msgspec

from bench.pair import read_prompts
from thinwire.common import demo_pair, wire
from thinwire.common.daemon.launcher import Daemon
from thinwire.common.pb import verifier_pb2
from thinwire.common.session.generation import GenerationRequest
from thinwire.edge.client import connect

DRAFT_LENGTH = GenerationRequest("").draft_length
"""γ of what is recorded, the default."""


class RecordedRound(msgspec.Struct, frozen=True):
    """One round."""

    request: bytes
    """The message up, serialised."""
    draft_s: float
    """Seconds that the edge drafted for it."""
    accepted: int
    next_token_id: int


class RecordedText(msgspec.Struct, frozen=True):
    """One text."""

    prompt: str
    open: bytes
    """The message that opens the session, serialised."""
    rounds: tuple[RecordedRound, ...]


def write_texts(path: Path, texts: list[RecordedText]) -> None:
    """One text a line."""
    path.write_bytes(msgspec.json.Encoder().encode_lines(texts))


def read_texts(path: Path) -> list[RecordedText]:
    """Inverse of `write_texts`."""
    return msgspec.json.Decoder(RecordedText).decode_lines(path.read_bytes())


def request_of(serialised: bytes) -> Any:
    """A recorded message up."""
    return verifier_pb2.VerifyRequest.FromString(serialised)


class _Proxy(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Passes every call on to the cloud, and keeps what crosses on streams of Verify."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self.sent: list[Any] = []
        self.heard: list[Any] = []

    def service(self, details: Any) -> Any:
        """The same handler for every method."""
        return grpc.stream_stream_rpc_method_handler(partial(self._pass_on, details.method))

    async def _pass_on(self, method: str, requests: Any, context: Any) -> AsyncIterator[bytes]:
        kept = method.endswith("/Verify")

        async def noted() -> AsyncIterator[bytes]:
            async for message in requests:
                if kept:
                    self.sent.append(request_of(message))
                yield message

        async for message in self._channel.stream_stream(method)(noted()):
            if kept:
                self.heard.append(verifier_pb2.VerifyResponse.FromString(message))
            yield message


async def record(folder: Path, path: Path, *, count: int, tokens: int, threads: int) -> float:
    """
    Real drafts of the bundled pair, against a cloud that does nothing else.

    Args:
        folder: of the daemons' logs; exists.
        path: written, one text a line.
        count: of texts; end-of-text is ignored, the seeds are 1, 2, ....
        tokens: of each.
        threads: of the target.

    Returns:
        a block's median draft time in ms.
    """
    cloud, edge = Daemon("recorded", folder), Daemon("recording", folder)
    server = grpc.aio.server(options=wire.server_options())
    round_log = folder / "recording.rounds"
    try:
        cloud.start("bench.grid.cloud", "--threads", str(threads), "--max-batch-sequences", "1")
        async with grpc.aio.insecure_channel(
            await cloud.address(), options=wire.channel_options()
        ) as channel:
            proxy = _Proxy(channel)
            server.add_generic_rpc_handlers((proxy,))
            address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            await server.start()
            edge.start(
                *("thinwire.edge", "edge", "--model", str(demo_pair.draft_path()), "--threads", "1"),
                *("--cloud", address, "--round-log", str(round_log)),
            )
            await cloud.serving(wire.VERIFIER_SERVICE)
            await edge.serving(wire.GENERATOR_SERVICE)
            crossed = []
            async with connect(await edge.address()) as client:
                for seed, prompt in enumerate(read_prompts()[:count], 1):
                    proxy.sent, proxy.heard = [], []
                    asked = GenerationRequest(prompt, seed, max_tokens=tokens, ignore_eos=True)
                    async for _ in client.events(asked):
                        pass
                    crossed.append((prompt, proxy.sent, proxy.heard))
    finally:
        for daemon in (edge, cloud):
            daemon.terminate()
        await asyncio.gather(edge.stopped(), cloud.stopped(), server.stop(0))
    lines = (json.loads(line) for line in round_log.read_text(encoding="utf-8").splitlines())
    draft_times_s = (line["draft_s"] for line in lines if line["kind"] == "round")
    texts = [_text(prompt, sent, heard, draft_times_s) for prompt, sent, heard in crossed]
    write_texts(path, texts)
    return 1e3 * statistics.median(one.draft_s for text in texts for one in text.rounds)


def _text(prompt: str, sent: list[Any], heard: list[Any], draft_times_s: Any) -> RecordedText:
    """One text of what crossed, and of the edge's draft times in the order of its rounds."""
    opening, *blocks = (one for one in sent if one.WhichOneof("message") != "close")
    verdicts = [one.verdict for one in heard if one.WhichOneof("message") == "verdict"]
    rounds = (
        RecordedRound(block.SerializeToString(), next(draft_times_s), verdict.accepted, verdict.next_token_id)
        for block, verdict in zip(blocks, verdicts, strict=True)
    )
    return RecordedText(prompt, opening.SerializeToString(), tuple(rounds))
