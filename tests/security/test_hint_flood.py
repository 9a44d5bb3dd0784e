"""A peer that acknowledges, or hints, as fast as it can: it is read at a pace, and nobody has to wait."""

from __future__ import annotations

import asyncio

import pytest

from loopback import WatchedModel
from thinwire.cloud.uplink import HINTS_AT_ONCE, HINTS_PER_S
from thinwire.common.schemes.coupled import Coupled
from thinwire.common.session.messages import FreeRun, Hints, Open, PrefixHasher
from verify_peer import CLOSE, TARGET, EdgeText, running_cloud

SENT = 1000
PROMPT = (1, 2)


@pytest.mark.parametrize("hints", [Hints(2, 0, 0, b""), Hints(2, 0, 1, b"\x05")], ids=["nothing", "garbage"])
async def test_a_flood_of_hints_is_read_at_a_pace(hints: Hints) -> None:
    """However fast they come; what is not read stays with the peer, whose writes wait, and Close with it."""
    plain, hasher = EdgeText(PROMPT).open, PrefixHasher()
    hasher.extend(PROMPT)
    run = FreeRun(40, len(PROMPT), hasher.value())
    open_ = Open(plain.vocabulary, Coupled.Parameters(), plain.sampling, 1, PROMPT, free_run=run)
    async with running_cloud(WatchedModel(TARGET)) as cloud:
        peer = cloud.stream()
        await peer.say(open_)
        await peer.hear()
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        for _ in range(SENT):
            await peer.say(hints)
        await peer.say(CLOSE)
        while await peer.hear() is not None:
            pass
        took_s = loop.time() - begun_s

    assert took_s >= 0.9 * (SENT - HINTS_AT_ONCE) / HINTS_PER_S
