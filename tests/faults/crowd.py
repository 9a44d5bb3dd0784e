"""
Many sessions and texts from a few threads on a busy machine, each held against what it must be.

Run as `python -m tests.faults.crowd` with tests/ on PYTHONPATH; exits with 1 unless every text is right.
At the cloud the first round follows its Open at once, as a peer may send it; every other session is written
by the target itself, beside hints that are garbage. The threads are plain gRPC clients.
"""

from __future__ import annotations

import argparse
import asyncio
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from fakes import TableVocabulary, random_law
from faults.campaign import COMMANDS, SCHEMES
from faults.daemons import DRAFT_SEED, TARGET_SEED, VOCABULARY_SIZE
from faults.storm import Process
from free_running_pair import own_text
from in_memory_pair import InMemoryPair
from loopback import make_request, request_message
from thinwire.common import wire
from thinwire.common.config import SamplingParameters
from thinwire.common.law.distributions import warp
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes.cloud_ar import CloudAr
from thinwire.common.schemes.coupled import Coupled
from thinwire.common.session.messages import (
    Close,
    CloseReason,
    DraftBlock,
    FreeRun,
    Hints,
    Open,
    Opened,
    PrefixHasher,
    Verdict,
    Written,
    block_checksum,
)

PROMPT_TOKENS = 15
ROUNDS = 3
WRITTEN = 40
"""Tokens of a session that the target writes by itself; more than twice what an edge acknowledges at once."""
_TIMEOUT_S = 60.0
_SCHEME = CloudAr.Parameters()
_VOCABULARY = TableVocabulary(VOCABULARY_SIZE)
_TARGET, _DRAFT = random_law(VOCABULARY_SIZE, TARGET_SEED), random_law(VOCABULARY_SIZE, DRAFT_SEED)


@dataclass
class Crowd:
    """
    What became of all of them.

    Args:
        address: of a daemon of `faults.daemons`.
        one: the `number`-th conversation over a channel; returns what was wrong with it, empty if nothing.
    """

    address: str
    one: Callable[[grpc.Channel, int], str]
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def run(self, count: int, *, threads: int = 8) -> None:
        """All of them; returns when the last has ended."""
        numbers = iter(range(count))
        taking = threading.Lock()

        def work() -> None:
            with grpc.insecure_channel(self.address, options=wire.channel_options()) as channel:
                while True:
                    with taking:
                        number = next(numbers, None)
                    if number is None:
                        return
                    self._note(number, channel)

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _note(self, number: int, channel: grpc.Channel) -> None:
        try:
            fault = self.one(channel, number)
        except grpc.RpcError as error:
            self.failed.append(f"{number}: {error.code()} {error.details()}")
            return
        if fault:
            self.wrong.append(f"{number}: {fault}")
        else:
            self.right += 1


def session_at_cloud(channel: grpc.Channel, number: int) -> str:
    """A greedy session without drafts, in rounds or free-running, held against the target's own argmax."""
    prompt = tuple(
        int(n) for n in np.random.default_rng(number).integers(VOCABULARY_SIZE, size=PROMPT_TOKENS)
    )
    rounds, session = (ROUNDS, _session) if number % 2 else (WRITTEN, _written)
    output = session(wire.VerifierStub(channel), prompt)
    whole = prompt
    for _ in range(rounds):
        whole += (int(np.argmax(_TARGET(whole))),)
    expected = whole[len(prompt) :]
    return "" if output == expected else f"{output}, expected {expected}"


def text_through_edge(channel: grpc.Channel, number: int) -> str:
    """A sampled text, held against the one that the sans-IO sessions, or the races, give for its seed."""
    source = random.Random(number)
    request = make_request(
        "abcdefgh"[: source.randint(1, 8)],
        seed=source.getrandbits(32),
        scheme=source.choice(SCHEMES),
        draft_length=source.randint(1, 6),
        max_tokens=source.randint(4, 12),
    )
    proto = request_message(request)
    output: list[int] = []
    for response in wire.GeneratorStub(channel).Generate(proto, timeout=_TIMEOUT_S):
        event = wire.generation_event_from_proto(response)
        if isinstance(event, tuple):
            output += [token.token_id for token in event]
    prompt = _VOCABULARY.encode(request.prompt)
    target = _warped(_TARGET, np.float64)
    if request.scheme.scheme == Coupled.name:
        expected = list(own_text(target, KeyedDraws(request.seed), request.max_tokens, tuple(prompt)))
    else:
        expected = InMemoryPair(request, prompt, _warped(_DRAFT, np.float32), target).run().token_ids
    return "" if output == expected else f"{output}, expected {expected}"


def _warped(law: Any, dtype: Any) -> Any:
    """The law as the shells see it: by way of logits, in the dtype of each end."""
    return lambda prefix: warp(np.log(law(tuple(prefix))), SamplingParameters(), dtype=dtype)


def _session(stub: Any, prompt: tuple[int, ...]) -> tuple[int, ...]:
    """One session's greedy output, the first round sent with its Open."""
    writer = wire.EdgeStreamWriter()
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    committed = prompt
    open_ = Open(_VOCABULARY.identity, _SCHEME, SamplingParameters(temperature=0.0), 1, prompt)
    requests.put(writer.to_proto(open_))
    requests.put(writer.to_proto(_empty_block(1, committed)))
    for response in stub.Verify(iter(requests.get, None), timeout=_TIMEOUT_S):
        message = wire.message_from_cloud(response)
        if isinstance(message, Verdict):
            committed += (message.next_token_id,)
            if message.round == ROUNDS:
                requests.put(writer.to_proto(Close(CloseReason.FINISHED)))
                requests.put(None)
            else:
                requests.put(writer.to_proto(_empty_block(message.round + 1, committed)))
        elif message is not None:
            assert isinstance(message, Opened), message
    return committed[len(prompt) :]


def _written(stub: Any, prompt: tuple[int, ...]) -> tuple[int, ...]:
    """One free-running session's greedy output; garbage goes up with every message that comes down."""
    writer = wire.EdgeStreamWriter()
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    hasher = PrefixHasher()
    hasher.extend(prompt)
    run = FreeRun(len(prompt) + WRITTEN, len(prompt), hasher.value())
    greedy = SamplingParameters(temperature=0.0)
    requests.put(
        writer.to_proto(Open(_VOCABULARY.identity, Coupled.Parameters(), greedy, 1, prompt, free_run=run))
    )
    committed, garbage = prompt, random.Random(sum(prompt))
    for response in stub.Verify(iter(requests.get, None), timeout=_TIMEOUT_S):
        message = wire.message_from_cloud(response)
        if not isinstance(message, Written):
            assert isinstance(message, Opened | None), message
            continue
        assert message.first_position == len(committed), message
        committed += message.token_ids
        if len(committed) >= len(prompt) + WRITTEN:
            requests.put(writer.to_proto(Close(CloseReason.FINISHED)))
            requests.put(None)
        else:
            hints = Hints(len(committed), 0, garbage.randrange(9), garbage.randbytes(garbage.randrange(5)))
            requests.put(writer.to_proto(hints))
    return committed[len(prompt) :]


def _empty_block(round_: int, committed: tuple[int, ...]) -> DraftBlock:
    hasher = PrefixHasher()
    hasher.extend(committed)
    block = DraftBlock(round_, len(committed), hasher.value(), 0, 0, b"", 0)
    return DraftBlock(round_, len(committed), hasher.value(), 0, 0, b"", block_checksum(block, _SCHEME))


@contextmanager
def busy_loops(count: int, *, longest_s: float) -> Iterator[None]:
    """Processes that take what they get of the cores, for at most `longest_s` seconds."""
    program = f"import time; end = time.monotonic() + {longest_s}\nwhile time.monotonic() < end: pass"
    loops = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


async def run_crowd(folder: Path, *, sessions: int, texts: int, longest_s: float) -> list[Crowd]:
    """
    Two daemons, two busy loops, and the crowds.

    Args:
        folder: for the daemons' logs.
        sessions: at the cloud.
        texts: through the edge.
        longest_s: the busy loops end by then.
    """
    cloud_command, edge_command = COMMANDS["table"]
    cloud = Process("cloud", folder, wire.VERIFIER_SERVICE, *cloud_command)
    daemons = [cloud]
    try:
        cloud_address = await cloud.up()
        edge = Process("edge", folder, wire.GENERATOR_SERVICE, *edge_command, cloud_address)
        daemons.insert(0, edge)
        crowds = [Crowd(cloud_address, session_at_cloud), Crowd(await edge.up(), text_through_edge)]
        with busy_loops(2, longest_s=longest_s):
            for crowd, count in zip(crowds, (sessions, texts), strict=True):
                await asyncio.to_thread(crowd.run, count)
    finally:
        for daemon in daemons:
            await daemon.down()
    return crowds


def main() -> int:
    """Run both crowds and report them."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.crowd", allow_abbrev=False)
    parser.add_argument("--sessions", type=int, default=2000, help="greedy ones at the cloud")
    parser.add_argument("--texts", type=int, default=2000, help="sampled ones through the edge")
    arguments = parser.parse_args()
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        crowds = asyncio.run(
            run_crowd(Path(folder), sessions=arguments.sessions, texts=arguments.texts, longest_s=3600.0)
        )
    for crowd, name in zip(crowds, ("sessions", "texts"), strict=True):
        for sentence in [*crowd.wrong[:10], *crowd.failed[:10]]:
            print(sentence)
        print(f"{name}: {crowd.right} right, {len(crowd.wrong)} wrong, {len(crowd.failed)} failed")
    print(f"{time.monotonic() - begun_s:.1f} s")
    return 1 if any(crowd.wrong or crowd.failed for crowd in crowds) else 0


if __name__ == "__main__":
    sys.exit(main())
