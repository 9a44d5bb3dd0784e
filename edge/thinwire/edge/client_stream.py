"""What a generation hands its client: checked, counted, and put after what waits for it."""

from __future__ import annotations

from collections.abc import Callable

from thinwire.common import wire
from thinwire.common.session.generation import GenerationEvent, GenerationFinished
from thinwire.edge.account import GenerationAccount


class ClientStream:
    """
    The client of one generation, as `edge.generation.Client`.

    Args:
        outbox: of the Generate stream.
        account: told of the tokens and the end.
        check: raises when the client may read no more (its token was revoked), which ends the text.
    """

    def __init__(self, outbox: wire.Outbox, account: GenerationAccount, *, check: Callable[[], None]) -> None:
        self._outbox = outbox
        self._account = account
        self._check = check
        self.tokens = 0
        """Put so far."""

    def put(self, event: GenerationEvent) -> None:
        """Hand over an event, after those before it."""
        self._check()
        if isinstance(event, tuple):
            self.tokens += len(event)
            self._account.emitted(event)
        elif isinstance(event, GenerationFinished):
            self._account.finished(event)
        self._outbox.put(wire.generation_event_to_proto(event))

    async def room(self) -> None:
        """Wait for a client that is slow to read."""
        await self._outbox.room()
