"""
Whether the draft model and the cloud can make a text together, known before somebody asks for one.

Asked once when the draft model is there, and again only when there is reason to: while the cloud gives no
answer or a wrong one, and after a text that failed as with the wrong cloud. A pair that is right costs the
thin link one question.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from thinwire.common.errors import (
    EdgeTokenError,
    ThinwireError,
    UnauthenticatedError,
    VocabularyMismatchError,
    WrongDaemonError,
)
from thinwire.common.session.generation import ServerInfo
from thinwire.common.session.messages import VocabularyIdentity

Ask = Callable[[], Awaitable[ServerInfo | ThinwireError]]

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_REFUSED = (UnauthenticatedError, WrongDaemonError)
"""Answers that rule out any text, until somebody changes a token or an address."""
_DOUBTED = (VocabularyMismatchError, EdgeTokenError, WrongDaemonError)
"""What a text ends with when that has happened since."""
_log = logging.getLogger(__name__)


class PairWatch:
    """
    Asks the cloud what it is, and tells whether texts can be made.

    Args:
        ask: the cloud's account of itself, or why there is none, within a deadline.
        cloud: HOST:PORT, for the log.
        on_change: told when it becomes known, and whenever it changes, whether texts can be made.
    """

    def __init__(
        self,
        ask: Ask,
        *,
        cloud: str,
        vocabulary: VocabularyIdentity,
        on_change: Callable[[bool], Awaitable[None]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ask = ask
        self._cloud = cloud
        self._vocabulary = vocabulary
        self._on_change = on_change
        self._sleep = sleep
        self.is_right: bool | None = None
        """Whether texts can be made; None while the cloud has not said what it is."""
        self.schemes: tuple[str, ...] | None = None
        """Names of the schemes that the cloud serves; None while it has not said."""
        self._silent = False
        self._doubted = asyncio.Event()

    async def look(self) -> None:
        await self.heard(await self._ask())

    async def heard(self, answer: ServerInfo | ThinwireError) -> None:
        """Take what the cloud answered just now; one that is not there or loads says nothing of the pair."""
        if isinstance(answer, ServerInfo):
            self.schemes = answer.schemes
        if isinstance(answer, ServerInfo) and answer.is_loading:
            self._no_answer("loads its model")
        elif isinstance(answer, ServerInfo) and answer.vocabulary == self._vocabulary:
            await self._known(True, f"serves {answer.model} with the draft model's vocabulary")
        elif isinstance(answer, ServerInfo):
            theirs, ours = vocabulary_text(answer.vocabulary), vocabulary_text(self._vocabulary)
            parts = ", ".join(self._vocabulary.differing_parts(answer.vocabulary))
            await self._known(
                False,
                f"serves {answer.model} with another vocabulary ({theirs}) than this edge's ({ours})"
                f"{parts and f', in its {parts}'}; expected one tokenizer at both ends: the target's "
                "(thinwire edge --tokenizer), or models of one family",
            )
        elif isinstance(answer, _REFUSED):
            await self._known(False, f"refuses this edge: {answer.message}")
        else:
            self._no_answer(f"does not answer yet: {answer.message}")

    def doubt(self, error: ThinwireError) -> None:
        """A text failed; ask again if that can be for the pair."""
        if isinstance(error, _DOUBTED):
            self._doubted.set()

    async def run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            if self.is_right:
                await self._doubted.wait()
                pause_s = _FIRST_PAUSE_S
            else:
                await self._sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            self._doubted.clear()
            await self.look()

    def _no_answer(self, how: str) -> None:
        if not self._silent:
            self._silent = True
            _log.info("the cloud at %s %s", self._cloud, how)

    async def _known(self, is_right: bool, how: str) -> None:
        self._silent = False
        if is_right is self.is_right:
            return
        self.is_right = is_right
        if is_right:
            _log.info("the cloud at %s %s", self._cloud, how)
        else:
            _log.error("NO TEXT CAN BE MADE: the cloud at %s %s", self._cloud, how)
            self._doubted.set()  # whoever heard of it: `run` asks until it is right
        await self._on_change(is_right)


def vocabulary_text(vocabulary: VocabularyIdentity) -> str:
    return f"{vocabulary.size} ids, sha256 {vocabulary.sha256.hex()[:16]}"
