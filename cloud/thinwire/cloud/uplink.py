"""What comes up one stream: read, held against tokens and quotas, and handed to its session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from thinwire.cloud.admission import SAVED_S, Admission, RateBucket, held_back
from thinwire.cloud.events import BlockReceived, CloseReceived, HintsReceived, WorkFailed
from thinwire.cloud.live_session import LiveSession, internal
from thinwire.common import wire
from thinwire.common.door.tenants import Access, Credential
from thinwire.common.errors import (
    QuotaExceededError,
    RemoteProtocolError,
    ThinwireError,
    UnauthenticatedError,
)
from thinwire.common.session.messages import Close, DraftBlock, Hints, Open

_log = logging.getLogger(__name__)
HINTS_PER_S = 1000.0
"""
Hints, or acknowledgements, that one stream is read: an edge that drafts a token in 2 ms sends half of them.

Beyond it a stream stays unread for a moment, and gRPC's window holds up its peer: one that writes as fast as
it can (some 10 000 a second were seen) must not take the event loop from all others.
"""
HINTS_AT_ONCE = SAVED_S * HINTS_PER_S
"""So many are read at once by a stream that was silent before."""


class Uplink:
    """The reading of one stream after its Open; its outbox says when the stream ends."""

    def __init__(
        self, live: LiveSession, epoch: int, outbox: wire.Outbox, *, access: Access, admission: Admission
    ) -> None:
        self._live = live
        self._epoch = epoch
        self._outbox = outbox
        self._access = access
        self._admission = admission
        self._is_paid = True
        """Whether the stream has a round to its credit; the first is paid by the stream itself."""
        self._may_repeat = True
        """Whether a round answered from memory is free: an edge repeats one a stream, after its resume."""
        self._hints = RateBucket(HINTS_PER_S, asyncio.get_running_loop().time())

    async def read(self, requests: AsyncIterator[Any], credential: Credential) -> None:
        """Hand messages to the session until there are none; whatever ends the reading ends the stream."""
        try:
            async for request in requests:
                if self._outbox.is_ending:
                    return
                self._live.account.received(request.ByteSize())
                message = self._understood(request)
                if isinstance(message, Close):
                    self._live.handle(CloseReceived(self._epoch))
                    return
                if isinstance(message, Hints):
                    self._live.handle(HintsReceived(self._epoch, self._affordable(message, credential)))
                    await self._pace()
                    continue
                # One round at a time, and none for a peer that does not take its verdicts.
                await self._live.round_decided()
                await self._outbox.room()
                await self._admit(message, credential)
                self._live.handle(BlockReceived(self._epoch, message))
            self._outbox.end()  # half-closed without Close: torn
        except ThinwireError as error:
            self._outbox.end(error)
        except Exception as error:
            _log.exception("a stream could not be read")
            self._outbox.end(internal(error))

    async def _pace(self) -> None:
        """Wait until a stream that hints faster than `HINTS_PER_S` may be read on."""
        loop = asyncio.get_running_loop()
        self._hints.take(1, loop.time())
        if pause_s := self._hints.wait_s(1, loop.time()):
            await self._outbox.ended(pause_s)

    def _understood(self, request: Any) -> DraftBlock | Hints | Close:
        """The message; one that cannot be understood ends the session, if it is this stream's."""
        try:
            message = self._live.reader.from_proto(request)
            if isinstance(message, Open):
                raise RemoteProtocolError("Open came twice on one stream; expected rounds, hints or Close.")
        except ThinwireError as error:
            self._fail(error)
            raise
        return message

    def _affordable(self, hints: Hints, credential: Credential) -> Hints:
        """The hints, or, above the tenant's rate, what they acknowledge: no hint is ever refused."""
        self._check(credential)
        if not hints.draft_length:
            return hints
        if self._admission.pause_s(credential.tenant, rounds=1):
            return replace(hints, draft_length=0, payload=b"")
        self._admission.take(credential.tenant, rounds=1)
        return hints

    def _check(self, credential: Credential) -> None:
        """UnauthenticatedError if the token was revoked; the session is over."""
        try:
            self._access.check(credential)
        except UnauthenticatedError as error:
            self._fail(error)
            raise

    async def _admit(self, block: DraftBlock, credential: Credential) -> None:
        """
        Hold a round against credentials and quotas before its session sees it.

        Raises:
            UnauthenticatedError: the token was revoked; the session is over.
            QuotaExceededError: the round must come again later; the session is kept.
        """
        self._check(credential)
        is_repeat = block.round <= self._live.session.rounds
        if is_repeat and self._may_repeat:
            self._may_repeat = False
            return
        tokens, is_paid = 0, False  # of one more repeat: the target scores nothing, and reading it is work
        if not is_repeat:
            decoding = self._live.session.scheme.decoding_tokens(block.draft_length, len(block.payload))
            tokens, is_paid = block.draft_length + 1 + decoding, self._is_paid
        try:
            self._admission.charge(credential.tenant, rounds=0 if is_paid else 1, tokens=tokens)
        except QuotaExceededError as error:
            raise await held_back(error, self._outbox.ended) from None
        if not is_repeat:
            self._is_paid = False

    def _fail(self, error: ThinwireError) -> None:
        if self._epoch == self._live.session.epoch:
            self._live.handle(WorkFailed(error))
