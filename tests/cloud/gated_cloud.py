"""Targets that wait at a gate or tell when they are free, and what a cloud says of itself."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc
import numpy.typing as npt

from fakes import Prefix, TableModel
from loopback import WatchedModel
from thinwire.common import wire
from verify_peer import SIZE, TARGET, EdgeText, running_cloud, whole_text

GATE_S = 10.0
"""A gate that a test forgot opens by then."""


class Gate:
    """A law that waits, in the model's thread, for every prefix that begins with `token`."""

    def __init__(self, token: int = 0) -> None:
        self._token = token
        self._entered = threading.Event()
        self._open = threading.Event()

    def __call__(self, prefix: Prefix) -> npt.NDArray[Any]:
        """The row, once the gate is open."""
        if prefix[0] == self._token:
            self._entered.set()
            assert self._open.wait(GATE_S), "nobody opened the gate"
        return TARGET(prefix)

    async def entered(self) -> None:
        """Wait until the model's thread stands at the gate."""
        assert await asyncio.to_thread(self._entered.wait, GATE_S), "nobody came to the gate"

    def open(self) -> None:
        """Let it go on, now and later."""
        self._open.set()


def watched(law: Any = TARGET, *, context_length: int = 512) -> WatchedModel:
    """A target that tells when its last sequence is closed."""
    return WatchedModel(law, vocabulary_size=SIZE, context_length=context_length)


async def undisturbed(text: EdgeText, rounds: int, **options: Any) -> tuple[int, ...]:
    """The text as a cloud of its own gives it."""
    async with running_cloud(TableModel(TARGET, context_length=2048)) as cloud:
        return await whole_text(cloud, text, rounds, **options)


async def server_info(channel: grpc.aio.Channel) -> Any:
    """GetServerInfo, read."""
    answer = await wire.VerifierStub(channel).GetServerInfo(wire.server_info_request(), timeout=5)
    return wire.server_info_from_proto(answer)
