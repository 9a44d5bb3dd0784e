"""
What is fuzzed of a free-running conversation: a peer's messages against a whole cloud, with a bystander.

The cloud is the real one behind streams in memory (`tests/explorer`), with two sessions of one text each.
Whatever the peer says, its own stream tells its own text or ends with a documented error, the bystander hears
its text to the end, passes have the rows that there may be, and what is kept of hints has a bound.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from fakes import TableModel
from fuzz.bytes_of_input import Bytes
from tests.explorer.free_texts import SIZE, TARGET, own_ids
from tests.explorer.memory_link import MemoryLink
from tests.explorer.scheduled_loop import OneThread, ScheduledLoop
from thinwire.cloud.daemon import CloudServer
from thinwire.cloud.free_running import WINDOW_TOKENS, FreeRunningSession
from thinwire.cloud.hint_store import HintStore
from thinwire.cloud.settings import CloudSettings
from thinwire.common import wire
from thinwire.common.causal_model import ServedModel
from thinwire.common.config import SamplingParameters
from thinwire.common.errors import ThinwireError
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.pb import verifier_pb2
from thinwire.common.schemes import make_scheme
from thinwire.common.schemes.coupled import Coupled, one_point
from thinwire.common.session.copying import CopiedText
from thinwire.common.session.free_run import MAX_HINT_ROWS
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.messages import FreeRun, Hints, Open, Opened, PrefixHasher, Written
from verify_peer import CLOSE, VOCABULARY, VerifyPeer

PROMPT = (0, 1, 2)
TOKENS = 40
MAX_STEPS = 40
MAX_KEPT = 4096
"""Numbers and other things that one session's store may hold, beside the text that it copies from."""
_HEARD_S = 5.0
_REQUEST = GenerationRequest(
    "", seed=3, scheme=Coupled.Parameters(), sampling=SamplingParameters(), max_tokens=TOKENS
)
_SCHEME = make_scheme(_REQUEST.scheme, vocabulary_size=SIZE)


def hints(data: bytes) -> None:
    """
    A peer's messages against a target that writes by itself.

    Layout: a byte for whether the text is copied; then steps, each a kind, a length and its bytes.
    """
    source = Bytes(data)
    loop, chance, errors = ScheduledLoop(random.Random(0), in_order=True), random.Random(0), _Errors()
    logger = logging.getLogger("thinwire.cloud")
    former, logger.propagate = logger.propagate, False
    logger.addHandler(errors)
    try:
        loop.run_until_complete(_conversation(source, loop, chance))
    finally:
        logger.removeHandler(errors)
        logger.propagate = former
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.1))
        loop.close()
    assert not errors.sentences, f"logged: {errors.sentences}"
    assert not loop.failures, f"nobody asked for: {loop.failures}"


async def _conversation(source: Bytes, loop: ScheduledLoop, chance: random.Random) -> None:
    model = TableModel(TARGET, vocabulary_size=SIZE, context_length=len(PROMPT) + TOKENS + 64)
    server = CloudServer(
        ServedModel(model=model, vocabulary=VOCABULARY),
        settings=CloudSettings(no_copied_hints=source.integer(2) == 1),
        executor=OneThread(loop, chance, longest_s=0.1),  # type: ignore[arg-type]
    )
    link = MemoryLink(lambda: server.Verify, chance)
    bystander, peer = _Peer(link), _Peer(link)
    for one in (bystander, peer):
        await one.open()
    for _ in range(MAX_STEPS):
        if source.empty or peer.is_over:
            break
        await peer.take(source.integer(8), Bytes(source.chunk(source.integer(256))))
        check_store(server)
    await peer.leave()
    await bystander.hear_all()
    assert bystander.error is None, f"another session noticed: {bystander.error}"
    assert bystander.held == len(bystander.text), "another session's text has not come to its end"
    await bystander.leave()
    check_store(server)
    longest = max(max(batch) for batch in model.batches)
    assert longest <= len(PROMPT) + 1 + MAX_HINT_ROWS, f"a pass of {longest} tokens"


def check_store(server: CloudServer) -> None:
    """Hold what every session keeps of hints, and of its text, against its bound."""
    for live in server._registry:
        session = live.session
        assert isinstance(session, FreeRunningSession)
        kept = sum(1 for _ in _things(session.hints))
        assert kept <= MAX_KEPT, f"{kept} things are kept of hints"
        unheld = len(session._unheld)
        assert unheld <= WINDOW_TOKENS + MAX_HINT_ROWS, f"{unheld} tokens are kept for the edge"


def _things(what: Any) -> Iterator[Any]:
    """Everything in a store, whatever it is made of; not the text that it copies from."""
    yield what
    if isinstance(what, HintStore):
        for inner in vars(what).values():
            yield from _things(inner)
    elif isinstance(what, dict):
        for pair in what.items():
            yield from _things(pair)
    elif isinstance(what, (tuple, list, set, frozenset)) or hasattr(what, "popleft"):
        for inner in what:
            yield from _things(inner)
    elif hasattr(what, "__dict__") and not isinstance(what, CopiedText | type):
        for inner in vars(what).values():
            yield from _things(inner)


class _Peer:
    """One session, over one stream after the other."""

    def __init__(self, link: MemoryLink) -> None:
        self._link = link
        self.text = PROMPT + own_ids(PROMPT, _REQUEST)
        self.held = len(PROMPT)
        self.error: ThinwireError | None = None
        self.is_over = False
        self._session_id = b""
        self._writer = wire.EdgeStreamWriter()
        self._stream = VerifyPeer(link.call())

    async def open(self) -> None:
        """A stream: the first, or one that takes the session up."""
        hasher = PrefixHasher()
        hasher.extend(self.text[: self.held])
        run = FreeRun(len(self.text), self.held, hasher.value())
        prompt = () if self._session_id else PROMPT
        await self._stream.say(
            Open(VOCABULARY.identity, _REQUEST.scheme, _REQUEST.sampling, _REQUEST.seed, prompt,
                 session_id=self._session_id, free_run=run)
        )  # fmt: skip
        await self.hear()

    async def take(self, kind: int, content: Bytes) -> None:
        """One step: a message that is garbage to some degree, or something that happens."""
        match kind:
            case 0:
                await self._say_raw(content.rest())
            case 1:
                with suppress(DecodeError):
                    message = verifier_pb2.Hints.FromString(content.rest())
                    await self._stream.say_proto(verifier_pb2.VerifyRequest(hints=message))
            case 2:
                await self._say(self.garbage(content))
            case 3 | 4:
                await self._say(dataclasses.replace(self.garbage(content), held_length=self.held))
            case 5:
                await self._say(self.good(content))
            case 6:
                for _ in range(1 + content.integer(8)):
                    await self.hear()
            case 7:
                await self._resume()

    def garbage(self, content: Bytes) -> Hints:
        """Hints whose every field is of the input, whichever fields there are."""
        return Hints(**{field.name: _value(field, content) for field in dataclasses.fields(Hints)})

    def good(self, content: Bytes) -> Hints:
        """True guesses, some ahead of what is held; fields that are not about them are of the input."""
        ahead, count = content.integer(4), 1 + content.integer(8)
        place = self.held + ahead
        ids = self.text[place : place + count]
        tokens = [DraftToken(one_point(token_id), 0) for token_id in ids]
        payload = _SCHEME.encode(tokens, coding=0)
        known = {"held_length": self.held, "ahead": ahead, "draft_length": len(ids), "payload": payload}
        return dataclasses.replace(self.garbage(content), **known)

    async def hear(self) -> None:
        """The next answer, if one comes; what was written is held against the text."""
        try:
            async with asyncio.timeout(_HEARD_S):
                response = await self._stream._call.read()
        except TimeoutError:
            return
        except grpc.aio.AioRpcError as error:
            self.error, self.is_over = wire.error_from_rpc(error), True
            return
        if response is grpc.aio.EOF:
            self.is_over = True
            return
        message = wire.message_from_cloud(response)
        if isinstance(message, Opened):
            self._session_id = message.session_id
        elif isinstance(message, Written):
            end = message.first_position + len(message.token_ids)
            assert message.first_position == self.held, f"{message} came; expected position {self.held}"
            assert message.token_ids == self.text[self.held : end], f"{message} is not of the text"
            self.held = end

    async def hear_all(self) -> None:
        """To the end of the text; what came is acknowledged."""
        while self.held < len(self.text) and not self.is_over:
            before = self.held
            await self.hear()
            if self.held == before:
                return
            await self._say(Hints(self.held, 0, 0, b""))

    async def leave(self) -> None:
        """Close; an orphan of a stream that was refused is the cloud's to free."""
        await self._stream.say(CLOSE)

    async def _resume(self) -> None:
        self._stream._call.cut(cloud_notices_s=0.0)
        self._stream = VerifyPeer(self._link.call())
        await self.open()

    async def _say(self, message: Hints) -> None:
        await self._stream.say_proto(self._writer.to_proto(message))

    async def _say_raw(self, content: bytes) -> None:
        with suppress(DecodeError):
            await self._stream.say_proto(verifier_pb2.VerifyRequest.FromString(content))


def _value(field: Any, content: Bytes) -> Any:
    """A field's value off the input, by its type's name."""
    match field.type:
        case "int":
            return _number(content)
        case "bytes":
            return content.chunk(content.integer(80))
        case "tuple[int, ...]":
            return tuple(_number(content) for _ in range(content.integer(12)))
        case "bool":
            return content.integer(2) == 1
    raise AssertionError(f"{field.name} is of type {field.type}; expected one that this target can make")


def _number(content: Bytes) -> int:
    """Mostly small."""
    first = content.integer(256)
    return first if first < 200 else content.integer(2**32)


class _Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.sentences: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.sentences.append(record.getMessage())
