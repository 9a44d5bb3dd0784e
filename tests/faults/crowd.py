"""
Many greedy sessions from a few threads at one cloud on a busy machine, each held against the target's law.

Run as `python -m tests.faults.crowd` with tests/ on PYTHONPATH; exits with 1 unless every text is right.
The first round follows its Open at once, as a peer may send it; the threads are plain gRPC clients.
"""

from __future__ import annotations

import argparse
import asyncio
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from fakes import TableVocabulary, random_law
from faults.campaign import COMMANDS
from faults.daemons import TARGET_SEED, VOCABULARY_SIZE
from faults.storm import Process

from common import wire
from common.config import SamplingParameters, SchemeParameters
from common.messages import (
    Close,
    CloseReason,
    DraftBlock,
    Open,
    Opened,
    PrefixHasher,
    Verdict,
    block_checksum,
)

PROMPT_TOKENS = 15
ROUNDS = 3
_TIMEOUT_S = 60.0
_SCHEME = SchemeParameters("cloud-ar")
_IDENTITY = TableVocabulary(VOCABULARY_SIZE).identity
_LAW = random_law(VOCABULARY_SIZE, TARGET_SEED)


@dataclass
class Crowd:
    """
    What became of all sessions.

    Args:
        address: of a cloud of `faults.daemons`.
    """

    address: str
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def run(self, sessions: int, *, threads: int = 8) -> None:
        """All of them; returns when the last has ended."""
        numbers = iter(range(sessions))
        taking = threading.Lock()

        def work() -> None:
            with grpc.insecure_channel(self.address, options=wire.channel_options()) as channel:
                stub = wire.VerifierStub(channel)
                while True:
                    with taking:
                        number = next(numbers, None)
                    if number is None:
                        return
                    self._one(stub, number)

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _one(self, stub: Any, number: int) -> None:
        prompt = tuple(
            int(n) for n in np.random.default_rng(number).integers(VOCABULARY_SIZE, size=PROMPT_TOKENS)
        )
        try:
            output = _session(stub, prompt)
        except grpc.RpcError as error:
            self.failed.append(f"{number}: {error.code()} {error.details()}")
            return
        expected = prompt
        for _ in range(ROUNDS):
            expected += (int(np.argmax(_LAW(expected))),)
        if output == expected[len(prompt) :]:
            self.right += 1
        else:
            self.wrong.append(f"{number}: {output}, expected {expected[len(prompt) :]}")


def _session(stub: Any, prompt: tuple[int, ...]) -> tuple[int, ...]:
    """One session's greedy output, the first round sent with its Open."""
    writer = wire.EdgeStreamWriter()
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    committed = prompt
    open_ = Open(_IDENTITY, _SCHEME, SamplingParameters(temperature=0.0), 1, prompt)
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


async def run_crowd(folder: Path, sessions: int, *, longest_s: float) -> Crowd:
    """
    A cloud, two busy loops, and the crowd.

    Args:
        folder: for the cloud's log.
        sessions: how many.
        longest_s: the busy loops end by then.
    """
    cloud = Process(COMMANDS["table"][0], wire.VERIFIER_SERVICE, folder / "cloud.log")
    await cloud.start()
    try:
        crowd = Crowd(cloud.address)
        with busy_loops(2, longest_s=longest_s):
            await asyncio.to_thread(crowd.run, sessions)
    finally:
        await cloud.stop()
    return crowd


def main() -> int:
    """Run a crowd and report it."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.crowd", allow_abbrev=False)
    parser.add_argument("--sessions", type=int, default=2000)
    arguments = parser.parse_args()
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        crowd = asyncio.run(run_crowd(Path(folder), arguments.sessions, longest_s=3600.0))
    print(*crowd.wrong[:10], *crowd.failed[:10], sep="\n", end="")
    print(
        f"{crowd.right} of {arguments.sessions} texts right, {len(crowd.wrong)} wrong, "
        f"{len(crowd.failed)} failed, {time.monotonic() - begun_s:.1f} s"
    )
    return 0 if crowd.right == arguments.sessions else 1


if __name__ == "__main__":
    sys.exit(main())
