"""A peer without manners: says all at once, twice, on two streams; it must be answered all the same."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import grpc

from tests.explorer.memory_link import MemoryLink, dawdle
from thinwire.common import wire
from thinwire.common.errors import PayloadCorruptedError, ThinwireError
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.k_sqs import KSqs
from thinwire.common.session.messages import DraftBlock, Opened, Verdict
from verify_peer import CLOSE, TARGET, EdgeText, VerifyPeer

_PATIENCE_S = 100.0


async def be_rude(link: MemoryLink, chance: random.Random, complaints: list[str]) -> None:
    """Misbehave on a session of its own in one of a few ways."""
    text = EdgeText(
        tuple(chance.randrange(6) for _ in range(chance.randint(1, 5))),
        scheme=KSqs.Parameters(support_size=3, lattice_resolution=20),
        seed=chance.randrange(50),
    )
    block = text.block(2)
    if chance.random() < 0.3:
        await _corrupt(link, chance, text, block, complaints)
        return
    expected = _verdict_of(text, block)
    first = _Ear(link, chance)
    await first.say(text.open, *[block] * chance.randint(1, 4))
    opened = await first.hear()
    if not isinstance(opened, Opened):
        if not isinstance(opened, ThinwireError):
            complaints.append(f"{opened} came before Opened")
        return  # no room, or the link was cut
    heard = [first]
    for _ in range(chance.randint(0, 3)):
        await dawdle(chance)
        ear = _Ear(link, chance)
        ear.follow(first)
        heard.append(ear)
        await ear.say(text.resuming(opened), *[block] * chance.randint(0, 2))
    await dawdle(chance)
    if chance.random() < 0.5:
        heard[-1].tear()
    for ear in heard:
        for answer in await ear.all():
            if (
                isinstance(answer, Verdict)
                and (answer.round, answer.accepted, answer.next_token_id) != expected
            ):
                complaints.append(f"a wrong verdict: {answer}, expected {expected}")
        complaints += ear.complaints


async def be_deaf(link: MemoryLink, chance: random.Random) -> None:
    """Take the first messages of a conversation and no more; the explorer sees that nothing is left of it."""
    text = EdgeText((1, 2), scheme=KSqs.Parameters(support_size=3, lattice_resolution=20), seed=1)
    ear = VerifyPeer(link.call(heard=chance.randrange(3)))
    for message in (text.open, text.block(2), text.block(2), CLOSE)[: chance.randint(1, 4)]:
        await ear.say(message)
        await dawdle(chance)


async def _corrupt(
    link: MemoryLink, chance: random.Random, text: EdgeText, block: DraftBlock, complaints: list[str]
) -> None:
    """Open and a block with a wrong checksum at once: the refusal must come."""
    ear = _Ear(link, chance)
    await ear.say(text.open, text.sealed(block, base_length=block.base_length), _spoilt(block))
    answers = await ear.all()
    complaints += ear.complaints
    is_refused = any(isinstance(answer, ThinwireError) for answer in answers)
    if not is_refused:
        complaints.append(
            f"a spoilt block got {answers}; expected {PayloadCorruptedError.__name__}, or a cut"
        )


def _spoilt(block: DraftBlock) -> DraftBlock:
    return DraftBlock(
        block.round,
        block.base_length,
        block.prefix_hash,
        block.draft_length,
        block.coding,
        block.payload,
        block.checksum ^ 1,
    )


def _verdict_of(text: EdgeText, block: DraftBlock) -> tuple[int, int, int]:
    """Round, accepted and next token of round 1, by the rule alone."""
    scheme = make_scheme(text.open.scheme, vocabulary_size=6)
    tokens = scheme.decode(block.payload, draft_length=block.draft_length, coding=block.coding)
    ids = tuple(token.token_id for token in tokens)
    rows = [TARGET((*text.committed, *ids[:n])) for n in range(len(ids) + 1)]
    outcome = scheme.verify(rows, tokens, KeyedDraws(text.open.seed), first_position=len(text.committed))
    return 1, outcome.accepted, outcome.next_token_id


class _Ear(VerifyPeer):
    """A stream that writes on and is heard to its end."""

    def __init__(self, link: MemoryLink, chance: random.Random) -> None:
        super().__init__(link.call())
        self._chance = chance
        self.complaints: list[str] = []

    async def say(self, *messages: Any) -> None:  # type: ignore[override]
        """One after the other, without listening."""
        for message in messages:
            await super().say(message)

    async def hear(self) -> Any:
        """The next answer: a message, the error that ended the stream, or None for a good end."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                answer = await self._call.read()
        except TimeoutError:
            self.complaints.append("a stream never ended")
            self._call.cancel()
            return None
        except grpc.aio.AioRpcError as error:
            return wire.error_from_rpc(error)
        return None if answer is grpc.aio.EOF else wire.message_from_cloud(answer)

    async def all(self) -> list[Any]:
        """Every answer that is still to come, the error at the end included."""
        answers: list[Any] = []
        while (answer := await self.hear()) is not None:
            answers.append(answer)
            if isinstance(answer, ThinwireError):
                break
            if isinstance(answer, Opened) and any(isinstance(before, Verdict) for before in answers):
                self.complaints.append("a Verdict came before Opened")
        return answers
