"""
Texts to replay: every message a real edge sent for a text, how long it drafted, and what came back.

Both daemons run as shipped, one text at a time, with a proxy between them that keeps what crosses it; so the
draft times are those of an edge with nothing else to do.
Replayed under the same seed, the same bytes must get the same verdicts.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import msgspec

from bench.capacity.daemons import CLOUD, EDGE, serving
from bench.pair import read_prompts
from thinwire.common import demo_pair, wire
from thinwire.common.config import MAX_DRAFT_LENGTH
from thinwire.common.pb import verifier_pb2
from thinwire.common.schemes import make_scheme, parse_scheme
from thinwire.common.schemes.dense_qs import MAX_DENSE_RESOLUTION, DenseQs
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.messages import DraftBlock, Open, PrefixHasher, block_checksum
from thinwire.edge.client import connect

DRAFT_LENGTH = GenerationRequest("").draft_length
"""γ of what is recorded, the default."""
RANDOM_TEXTS = 8


class RecordedRound(msgspec.Struct, frozen=True):
    """One round."""

    request: bytes
    """The message up, serialised."""
    draft_s: float
    """Seconds that the edge drafted for it."""
    accepted: int
    next_token_id: int


class RecordedHints(msgspec.Struct, frozen=True):
    """One message up to a cloud that writes by itself."""

    request: bytes
    """Serialised."""
    held_length: int
    """Tokens that the edge held, prompt included."""
    after_s: float
    """Seconds since it held them; since the opening, where that is the prompt."""


class RecordedText(msgspec.Struct, frozen=True):
    """One text; its rounds, or beside a cloud that writes by itself its hints and tokens."""

    prompt: str
    open: bytes
    """The message that opens the session, serialised."""
    rounds: tuple[RecordedRound, ...]
    hints: tuple[RecordedHints, ...] = ()
    tokens: tuple[int, ...] = ()


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
        self.kept: dict[str, list[Any]] = defaultdict(list)
        """Messages either way, by kind, and when each crossed."""

    def service(self, details: Any) -> Any:
        """The same handler for every method."""
        return grpc.stream_stream_rpc_method_handler(partial(self._pass_on, details.method))

    async def _pass_on(self, method: str, requests: Any, context: Any) -> AsyncIterator[bytes]:
        sent = self._noted(method, requests, verifier_pb2.VerifyRequest)
        heard = self._channel.stream_stream(method)(sent)
        async for message in self._noted(method, heard, verifier_pb2.VerifyResponse):
            yield message

    async def _noted(self, method: str, messages: Any, kind: Any) -> AsyncIterator[bytes]:
        async for message in messages:
            if method.endswith("/Verify"):
                parsed = kind.FromString(message)
                self.kept[parsed.WhichOneof("message")].append((time.monotonic(), parsed))
            yield message


async def record(
    folder: Path,
    path: Path,
    *,
    count: int,
    tokens: int,
    threads: int,
    scheme: str = "k-sqs",
    paced_ms: float = 0.0,
) -> float:
    """
    Real drafts of the bundled pair, against a cloud that does nothing else.

    Args:
        folder: of the daemons' logs; exists.
        path: written, one text a line.
        count: of texts; end-of-text is ignored, the seeds are 1, 2, ....
        tokens: of each.
        threads: of the target.
        scheme: of the texts.
        paced_ms: least milliseconds of the target's passes; guesses depend on it.

    Returns:
        a block's median draft time in ms.
    """
    round_log = folder / "recording.rounds"
    crossed = []
    cloud = (CLOUD, "--threads", str(threads), "--max-batch-sequences", "1", "--paced", f"{paced_ms:g},0")
    async with (
        serving(folder, {"recorded": cloud}) as daemons,
        grpc.aio.insecure_channel(
            await daemons["recorded"].address(), options=wire.channel_options()
        ) as channel,
    ):
        proxy, server = _Proxy(channel), grpc.aio.server(options=wire.server_options())
        server.add_generic_rpc_handlers((proxy,))
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        edge = (
            *(EDGE, "edge", "--model", str(demo_pair.draft_path()), "--threads", "1"),
            *("--cloud", address, "--round-log", str(round_log)),
        )
        try:
            async with (
                serving(folder, {"recording": edge}) as daemons,
                connect(await daemons["recording"].address()) as client,
            ):
                for seed, prompt in enumerate(read_prompts()[:count], 1):
                    proxy.kept = defaultdict(list)
                    asked = GenerationRequest(
                        prompt, seed, max_tokens=tokens, ignore_eos=True, scheme=parse_scheme(scheme)
                    )
                    async for _ in client.events(asked):
                        pass
                    crossed.append((prompt, proxy.kept))
        finally:
            await server.stop(0)
    lines = (json.loads(line) for line in round_log.read_text(encoding="utf-8").splitlines())
    drafts_s: list[float] = [line["draft_s"] for line in lines if line["kind"] == "round"]
    draft_times_s = iter(drafts_s)
    texts = [_text(prompt, kept, draft_times_s) for prompt, kept in crossed]
    write_texts(path, texts)
    return 1e3 * statistics.median(drafts_s)


def _text(prompt: str, kept: Mapping[str, list[Any]], draft_times_s: Iterator[float]) -> RecordedText:
    """One text of what crossed, and of the edge's draft times in the order of its rounds."""
    ((_, opening),) = kept["open"]
    if kept["written"]:
        return _free_text(prompt, opening, kept)
    verdicts = [one.verdict for _, one in kept["verdict"]]
    rounds = (
        RecordedRound(block.SerializeToString(), next(draft_times_s), verdict.accepted, verdict.next_token_id)
        for (_, block), verdict in zip(kept["draft_block"], verdicts, strict=True)
    )
    return RecordedText(prompt, opening.SerializeToString(), tuple(rounds))


def _free_text(prompt: str, opening: Any, kept: Mapping[str, list[Any]]) -> RecordedText:
    """The same of a text that the cloud wrote by itself."""
    length, tokens = len(opening.open.prompt_token_ids), tuple[int, ...]()
    reached_s = {length: kept["opened"][0][0]}
    for at_s, message in kept["written"]:
        tokens += tuple(message.written.token_ids)
        reached_s[length + len(tokens)] = at_s
    hints = (
        RecordedHints(
            message.SerializeToString(),
            message.hints.held_length,
            max(0.0, at_s - reached_s[message.hints.held_length]),
        )
        for at_s, message in kept["hints"]
    )
    return RecordedText(prompt, opening.SerializeToString(), (), tuple(hints), tokens)


def random_texts(text: RecordedText, number: int) -> list[RecordedText]:
    """
    Texts of one block of random bytes, as dear to decode as blocks can be, which ends its session.

    Args:
        text: its Open names the vocabulary.
        number: of the edge; chooses the bytes.
    """
    recorded = wire.CloudStreamReader().from_proto(request_of(text.open))
    assert isinstance(recorded, Open), recorded
    parameters = DenseQs.Parameters(lattice_resolution=MAX_DENSE_RESOLUTION)
    opening = replace(recorded, scheme=parameters, prompt_token_ids=recorded.prompt_token_ids[:1])
    scheme = make_scheme(parameters, vocabulary_size=recorded.vocabulary.size)
    hasher = PrefixHasher()
    hasher.extend(opening.prompt_token_ids)
    generator, found = random.Random(number), []
    for _ in range(RANDOM_TEXTS):
        # An even first byte: the dearer of the two codings. A top byte that is not 0: no spare bytes.
        spare = generator.randbytes(scheme.max_payload_bytes(MAX_DRAFT_LENGTH) - 2)
        block = DraftBlock(
            round=1,
            base_length=1,
            prefix_hash=hasher.value(),
            draft_length=MAX_DRAFT_LENGTH,
            coding=0,
            payload=b"\0" + spare + b"\1",
            checksum=0,
        )
        block = replace(block, checksum=block_checksum(block, parameters))
        writer = wire.EdgeStreamWriter()
        first, second = (writer.to_proto(message).SerializeToString() for message in (opening, block))
        found.append(RecordedText(text.prompt, first, (RecordedRound(second, 0.0, 0, 0),)))
    return found
