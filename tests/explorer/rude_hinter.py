"""A peer without manners beside a target that writes by itself: whatever it hints, it hears its own text."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import grpc

import thinwire.cloud.free_running
from tests.explorer.free_texts import SIZE, own_ids
from tests.explorer.memory_link import MemoryLink, dawdle
from thinwire.common import wire
from thinwire.common.config import SamplingParameters
from thinwire.common.errors import ThinwireError
from thinwire.common.schemes.coupled import Coupled
from thinwire.common.session.free_run import MAX_HINT_ROWS
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.messages import FreeRun, Hints, Open, Opened, PrefixHasher, Written
from verify_peer import CLOSE, VOCABULARY, VerifyPeer

_PATIENCE_S = 100.0
_SILENCE_S = 3.0
"""Longer than any pass, wait or pause of a rate in a schedule's time."""
_TOKENS = 80


async def be_rude_with_hints(link: MemoryLink, chance: random.Random, complaints: list[str]) -> None:
    """
    Open; hint garbage; acknowledge or not; resume on other streams, the last of which is heard out.

    A stream must tell the text from where its Open said, each token once, and no more than a window ahead of
    what was acknowledged; or it ends with an error.
    """
    peer = _Rude(link, chance, complaints)
    opened = await peer.opened()
    for _ in range(chance.randint(0, 3)):
        await peer.behave()
        if opened is None:
            return
        opened = await peer.opened(session_id=opened.session_id)
    if opened is not None:
        await peer.behave()
        await peer.close()


class _Rude:
    """One session of such a peer, over whatever streams."""

    def __init__(self, link: MemoryLink, chance: random.Random, complaints: list[str]) -> None:
        self._link, self._chance, self._complaints = link, chance, complaints
        number = chance.randrange(50)
        source = random.Random(f"rude {number}")
        self._prompt = tuple(source.randrange(SIZE) for _ in range(source.randint(1, 5)))
        self._request = GenerationRequest(
            "", seed=number, scheme=Coupled.Parameters(), sampling=SamplingParameters(), max_tokens=_TOKENS
        )
        self._text = self._prompt + own_ids(self._prompt, self._request)
        self._held = self._acknowledged = len(self._prompt)
        """Tokens heard on the stream in hand, or said to be held at its Open; and said to be held."""
        self._is_at_end = False
        self._peer = VerifyPeer(link.call())

    async def opened(self, session_id: bytes = b"") -> Opened | None:
        """A new stream; None if it was refused, or cut."""
        self._peer = VerifyPeer(self._link.call())
        if session_id:  # it may say that it holds less than it was sent, and never less than it acknowledged
            self._held = self._chance.randint(self._acknowledged, self._held)
        self._acknowledged = self._held
        hasher = PrefixHasher()
        hasher.extend(self._text[: self._held])
        run = FreeRun(len(self._text), self._held, hasher.value())
        prompt = () if session_id else self._prompt
        open_ = Open(
            VOCABULARY.identity, self._request.scheme, self._request.sampling, self._request.seed, prompt
        )
        await self._peer.say(replace(open_, session_id=session_id, free_run=run))
        self._is_at_end = False
        answer = await self._hear(_PATIENCE_S)
        if isinstance(answer, Written):
            self._complaints.append(f"{answer} came before Opened")
        return answer if isinstance(answer, Opened) else None

    async def behave(self) -> None:
        """Some messages, good and bad, some of the answers heard between them."""
        for _ in range(self._chance.randint(0, 8)):
            await self._peer.say(self._hints())
            for _ in range(self._chance.randint(0, 4)):
                await self._hear(0.05)
            await dawdle(self._chance)

    async def close(self) -> None:
        """
        Hear all that comes, with or without acknowledging; then leave, or cut the stream.

        To stay away behind an open stream would hold a place for the whole idle time, and a text that waits
        for one would be taken for one that hangs.
        """
        silent = self._chance.random() < 0.5
        while not self._is_at_end and self._held < len(self._text):
            answer = await self._hear(_SILENCE_S)
            if answer is None:
                break
            if not silent and self._chance.random() < 0.5:
                await self._peer.say(Hints(self._held, 0, 0, b""))
                self._acknowledged = self._held
        if self._chance.random() < 0.7:
            await self._peer.say(CLOSE)
        else:
            self._peer._call.cancel()

    def _hints(self) -> Hints:
        """Anything, behind a number of tokens that an edge could hold."""
        chance = self._chance
        length = chance.choice((0, 0, 1, 3, 8, 65, 2**31))
        held = chance.choice((self._acknowledged, self._held))
        self._acknowledged = held
        ahead = chance.choice((0, 0, 1, 5, 60, 2**31))
        return Hints(held, ahead, length, chance.randbytes(chance.randrange(5)))

    async def _hear(self, longest_s: float) -> Any:
        """The next answer if one comes in time, held against the text; the stream's end is the end."""
        if self._is_at_end:
            return None
        try:
            async with asyncio.timeout(longest_s):
                response = await self._peer._call.read()
        except TimeoutError:
            if longest_s >= _PATIENCE_S:
                self._complaints.append("an Open was never answered")
            return None
        except grpc.aio.AioRpcError as error:
            self._is_at_end = True
            return wire.error_from_rpc(error)
        if response is grpc.aio.EOF:
            self._is_at_end = True
            return None
        message = wire.message_from_cloud(response)
        if isinstance(message, Written):
            self._held_against_the_text(message)
        elif not isinstance(message, Opened | ThinwireError | None):
            self._complaints.append(f"{message} came on a free-running stream")
        return message

    def _held_against_the_text(self, written: Written) -> None:
        first, last = written.first_position, written.first_position + len(written.token_ids)
        window = thinwire.cloud.free_running.WINDOW_TOKENS
        if first != self._held:
            self._complaints.append(f"{written} came; expected position {self._held}")
        if written.token_ids != self._text[first:last]:
            self._complaints.append(f"{written} came; expected {self._text[first:last]}")
        if last > self._acknowledged + window + MAX_HINT_ROWS:
            self._complaints.append(
                f"position {last} came; expected at most {window} behind {self._acknowledged}"
            )
        self._held = last
