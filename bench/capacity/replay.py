"""
`python -m bench.capacity.replay`: a process full of edges, or of readers of the rival's streams.

It says "warm" once each of its edges has had an answer, waits for a line with the monotonic second at which
the measurement begins, works on until that is over, and prints what it saw as one line of JSON.
An edge replays recorded texts, one after the other: it waits each block's recorded draft time, sends the
block, and waits for the verdict; a refusal for want of room is waited out and tried again.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
import random
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc

from bench.capacity.messages import STREAM, BatchRequest
from bench.capacity.texts import RecordedRound, RecordedText, read_texts
from thinwire.common import wire
from thinwire.common.errors import ResourceExhaustedError
from thinwire.common.pb import verifier_pb2
from thinwire.common.session.messages import Close, CloseReason, Verdict

LOST_STATUS_PAUSE_S = 0.1
"""Before the next attempt after a refusal whose own pause was lost."""


class LostRefusalError(ResourceExhaustedError):
    """A refusal of which gRPC has lost what it was for."""


Heard = Callable[[], None]
"""Called when an edge has had an answer."""
Work = Callable[[grpc.aio.Channel, RecordedText, int, Heard], Awaitable[None]]
"""One text."""


@dataclass(slots=True)
class Seen:
    """What the edges of one process saw between the beginning and the end."""

    begin_s: float = math.inf
    end_s: float = math.inf
    tokens: int = 0
    round_s: list[float] = field(default_factory=list)
    """From a round's sending to its verdict; of a stream, from one token to the next."""
    texts: int = 0
    other_verdicts: int = 0
    """Rounds decided otherwise than when they were recorded; their texts end there."""
    refusals: int = 0
    """For want of room; tried again."""

    def took(self, tokens: int, sent_s: float, now_s: float) -> None:
        """An answer came."""
        if self.begin_s <= now_s < self.end_s:
            self.tokens += tokens
            self.round_s.append(now_s - sent_s)


def main() -> int:
    """Run until the measurement is over."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m bench.capacity.replay", description=__doc__
    )
    add = parser.add_argument
    add("--address", required=True, metavar="HOST:PORT")
    add("--texts", required=True, type=Path)
    add("--edges", required=True, type=int, help="of this process")
    add("--first", type=int, default=0, help="number of the first of them")
    add("--together", type=int, default=0, help="read the rival's streams, so many together; 0 replays edges")
    add("--tokens", type=int, default=0, help="of each text of the rival")
    add("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    print(json.dumps(asdict(asyncio.run(_run(arguments)))))
    return 0


async def _run(arguments: argparse.Namespace) -> Seen:
    texts = read_texts(arguments.texts)
    options = [*wire.channel_options(), ("grpc.use_local_subchannel_pool", 1)]
    numbers = range(arguments.first, arguments.first + arguments.edges)
    channels = [grpc.aio.insecure_channel(arguments.address, options=options) for _ in numbers]
    for channel in channels:
        async with asyncio.timeout(30):
            await channel.channel_ready()
    seen = Seen()
    warm = [asyncio.Event() for _ in numbers]
    work: Work
    if arguments.together:

        async def work(channel: grpc.aio.Channel, text: RecordedText, seed: int, heard: Heard) -> None:
            asked = BatchRequest(text.prompt, arguments.tokens, seed, arguments.together)
            await _read_stream(channel, asked, seen, heard)
    else:

        async def work(channel: grpc.aio.Channel, text: RecordedText, seed: int, heard: Heard) -> None:
            await _replay(channel, text, seen, heard)

    edges = [
        asyncio.ensure_future(_edge(work, channel, texts, number, event.set))
        for number, channel, event in zip(numbers, channels, warm, strict=True)
    ]
    measuring = asyncio.ensure_future(_measured(seen, warm, arguments.seconds))
    await asyncio.wait([measuring, *edges], return_when=asyncio.FIRST_COMPLETED)
    if not measuring.done():
        measuring.cancel()
        await asyncio.gather(*(edge for edge in edges if edge.done()))  # raises what ended it
    for edge in edges:
        edge.cancel()
    await asyncio.gather(*edges, return_exceptions=True)
    return seen


async def _measured(seen: Seen, warm: list[asyncio.Event], seconds: float) -> None:
    """Warm up, learn when the measurement begins, and wait until it is over."""
    loop = asyncio.get_running_loop()
    for event in warm:
        await event.wait()
    print("warm", flush=True)
    seen.begin_s = float(await loop.run_in_executor(None, sys.stdin.readline))
    seen.end_s = seen.begin_s + seconds
    await asyncio.sleep(seen.end_s - loop.time())


async def _edge(
    work: Work, channel: grpc.aio.Channel, texts: list[RecordedText], number: int, heard: Heard
) -> None:
    """Text after text; no two edges are at the same one at the same time while there are enough."""
    turn = 0
    while True:
        await work(channel, texts[(number + turn) % len(texts)], number, heard)
        turn += 1


async def _replay(channel: grpc.aio.Channel, text: RecordedText, seen: Seen, heard: Heard) -> None:
    call = wire.VerifierStub(channel).Verify()
    try:
        await call.write(request_of(text.open))
        await answer(call)
        for recorded in text.rounds:
            if not await _replay_round(call, recorded, seen):
                break
            heard()
        await call.write(wire.EdgeStreamWriter().to_proto(Close(CloseReason.FINISHED)))
        await answer(call)
        seen.texts += 1
    except grpc.aio.AioRpcError as error:
        refused = refusal_of(error)
        seen.refusals += 1
        await asyncio.sleep(refused.retry_after_s * random.uniform(1.0, 1.5))
    finally:
        call.cancel()


async def _replay_round(call: Any, recorded: RecordedRound, seen: Seen) -> bool:
    """Whether the verdict is the recorded one."""
    loop = asyncio.get_running_loop()
    request = request_of(recorded.request)
    await asyncio.sleep(recorded.draft_s)
    sent_s = loop.time()
    await call.write(request)
    verdict = wire.message_from_cloud(await answer(call))
    assert isinstance(verdict, Verdict), verdict
    seen.took(verdict.accepted + 1, sent_s, loop.time())
    same = (verdict.accepted, verdict.next_token_id) == (recorded.accepted, recorded.next_token_id)
    seen.other_verdicts += not same
    return same


async def _read_stream(channel: grpc.aio.Channel, asked: BatchRequest, seen: Seen, heard: Heard) -> None:
    loop = asyncio.get_running_loop()
    call = channel.unary_stream(STREAM)(asked.to_bytes())
    try:
        before_s = loop.time()
        async for _ in call:
            now_s = loop.time()
            seen.took(1, before_s, now_s)
            before_s = now_s
            heard()
        seen.texts += 1
    finally:
        call.cancel()


async def answer(call: Any) -> Any:
    """The next message; raises the stream's error where it has ended."""
    response = await call.read()
    if response is grpc.aio.EOF:
        with suppress(asyncio.CancelledError):
            await call.code()
        raise ConnectionError("the stream ended in good order; expected an answer")
    return response


def refusal_of(error: grpc.aio.AioRpcError) -> ResourceExhaustedError:
    """
    The refusal that ended a stream.

    gRPC forgets a status that a write of ours crosses and gives INTERNAL, without details, in its place: a
    refusal too, since a cloud that means INTERNAL gives a reason.

    Raises:
        ThinwireError: what ended it was no refusal.
    """
    if error.code() is grpc.StatusCode.INTERNAL and wire.reason_of(error) is None:
        return LostRefusalError(error.details() or "INTERNAL", retry_after_s=LOST_STATUS_PAUSE_S)
    ended_by = wire.error_from_rpc(error)
    if not isinstance(ended_by, ResourceExhaustedError):
        raise ended_by from None
    return ended_by


def request_of(coded: str) -> Any:
    return verifier_pb2.VerifyRequest.FromString(base64.b64decode(coded))


if __name__ == "__main__":
    sys.exit(main())
