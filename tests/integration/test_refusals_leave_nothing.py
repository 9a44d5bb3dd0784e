"""What the cloud refuses it forgets at once: no object of the request stays, and no memory."""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType, TracebackType

import pytest

from fakes import TableModel
from security.credentials import Tokens
from tests.integration.refused_requests import OF_OPENS, OF_ROUNDS
from thinwire.cloud.live_session import LiveSession
from thinwire.cloud.session import CloudSession
from thinwire.cloud.settings import CloudSettings
from thinwire.cloud.verifier import Verifier
from thinwire.common.door.security import ServerSecurity
from thinwire.common.errors import ThinwireError
from thinwire.common.session.messages import DraftBlock, Open
from verify_peer import TARGET, RunningCloud, running_cloud

KEPT = (Open, DraftBlock, CloudSession, LiveSession, Verifier, ThinwireError, TracebackType, FrameType)
"""Kinds of objects by which a request, or all that it reached, would be held."""
REPEATS = 5
PROMPT_TOKENS = 1_000_000
KINDS = {**OF_OPENS, **OF_ROUNDS}


@asynccontextmanager
async def cloud_with_tokens(path: Path, context_length: int = 64) -> AsyncIterator[tuple[RunningCloud, str]]:
    """A cloud of two slots, and a token for it."""
    tokens = Tokens(path / "tokens.json")
    token = tokens.add("acme")
    settings = CloudSettings(max_sessions=2, allow_dense_f16=True)
    model = TableModel(TARGET, context_length=context_length)
    async with running_cloud(model, settings, ServerSecurity(access=tokens.access())) as cloud:
        yield cloud, token


@contextmanager
def no_collections() -> Iterator[None]:
    """What then goes, goes with its last reference."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive() -> Counter[str]:
    """Objects of the kinds that must not stay."""
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, KEPT))


async def settled(cloud: RunningCloud) -> None:
    """Wait until no session is held and the tasks of ended streams are over."""
    for _ in range(200):
        await asyncio.sleep(0.005)
        if not cloud.server.sessions:
            break
    await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", KINDS)
async def test_no_object_of_a_refused_request_waits_for_the_collector(tmp_path: Path, kind: str) -> None:
    """The daemons' collector comes seldom: a cycle of few objects may hold a request of any size for long."""
    reason, refused = KINDS[kind]
    async with cloud_with_tokens(tmp_path) as (cloud, token):
        assert await refused(cloud, token, 9) == reason
        await settled(cloud)
        with no_collections():
            before = alive()
            for _ in range(REPEATS):
                await refused(cloud, token, 9)
            await settled(cloud)
            more = alive() - before

    # The frames of gRPC's own that are under way come and go by one or two.
    assert all(count < REPEATS for count in more.values()), more


async def test_refused_large_opens_leave_no_memory(tmp_path: Path) -> None:
    """
    Of every kind of refusal, with a prompt of a million ids: some 30 MB as gRPC and Python hold it.

    Edge and cloud are both in this process, which is as large afterwards as after the first of them.
    """
    async with cloud_with_tokens(tmp_path, context_length=PROMPT_TOKENS + 1) as (cloud, token):
        for _, refused in OF_OPENS.values():
            await refused(cloud, token, PROMPT_TOKENS)
        await settled(cloud)
        before = resident_bytes()
        for _ in range(REPEATS):
            for _, refused in OF_OPENS.values():
                await refused(cloud, token, PROMPT_TOKENS)
        await settled(cloud)
        after = resident_bytes()

    assert after <= 1.05 * before, f"{before / 2**20:.0f} to {after / 2**20:.0f} MiB"


def resident_bytes() -> int:
    """Of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
