"""One stream's outbox: order, one end, one operation at a time, and a peer that takes nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from thinwire.common.errors import DeadlineError, ThinwireError, TransportError
from thinwire.common.wire.outbox import MAX_WAITING, Outbox

LONG_S = 60.0


class Peer:
    """A context whose writes return when the test lets them; two operations at once are a bug."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.taking = asyncio.Event()
        self.gone = False
        self._busy = False

    async def send_initial_metadata(self, metadata: Any) -> None:
        """As a write."""
        await self._take("metadata")

    async def write(self, message: Any) -> None:
        """Once the peer takes."""
        await self._take(message)

    async def _take(self, message: Any) -> None:
        assert not self._busy, "two operations at once"
        self._busy = True
        await self.taking.wait()
        self._busy = False
        if self.gone:
            raise grpc.aio.UsageError("the RPC is over")
        self.written.append(message)


async def test_messages_keep_their_order_and_the_end_its_place() -> None:
    """What is put while a write is under way follows it, and the refusal follows all of them."""
    peer = Peer()
    outbox = Outbox(peer, write_timeout_s=LONG_S)
    writing = asyncio.create_task(outbox.write_all())
    for message in (1, 2, 3):
        outbox.put(message)
        await asyncio.sleep(0)
    outbox.end(TransportError("first"))
    outbox.end(None)
    outbox.put(4)
    peer.taking.set()

    with pytest.raises(TransportError, match="first"):
        await writing
    assert peer.written == ["metadata", 1, 2, 3]


async def test_a_good_end_needs_no_message() -> None:
    """Nothing but the headers."""
    peer = Peer()
    peer.taking.set()
    outbox = Outbox(peer, write_timeout_s=LONG_S)
    outbox.end()
    await outbox.write_all()

    assert peer.written == ["metadata"]
    assert outbox.is_ending


async def test_whoever_makes_messages_waits_for_room() -> None:
    """`room` comes with the peer's taking, or with the end."""
    peer = Peer()
    outbox = Outbox(peer, write_timeout_s=LONG_S)
    for message in range(MAX_WAITING):
        await outbox.room()
        outbox.put(message)
    waiting = asyncio.create_task(outbox.room())
    writing = asyncio.create_task(outbox.write_all())
    await asyncio.sleep(0)
    assert not waiting.done()
    peer.taking.set()
    await waiting
    outbox.end()
    await writing

    assert peer.written == ["metadata", *range(MAX_WAITING)]


async def test_a_peer_that_takes_nothing_loses_its_stream_and_holds_nobody() -> None:
    """The writer ends with the deadline, and so does whoever waits for room."""
    outbox = Outbox(Peer(), write_timeout_s=0.01)
    for message in range(2 * MAX_WAITING):
        outbox.put(message)
    waiting = asyncio.create_task(outbox.room())

    with pytest.raises(DeadlineError, match=r"took nothing for 0\.01 s"):
        await outbox.write_all()
    await waiting
    assert outbox.is_ending


async def test_a_stream_that_is_gone_ends_without_a_word() -> None:
    """There is nobody to be told."""
    peer = Peer()
    peer.gone = True
    peer.taking.set()
    outbox = Outbox(peer, write_timeout_s=LONG_S)
    outbox.put(1)
    outbox.end(ThinwireError("never heard"))
    await outbox.write_all()

    assert peer.written == []
