"""
Token ids → text while they arrive: nothing is shown that a later token could change or a stop string cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_REPLACEMENT = "\ufffd"
_WINDOW = 8
"""Tokens of context decoded along, so that decoders which look to their left agree with a full decode."""


class TextStream:
    """
    Incremental detokenisation with stop strings.

    Args:
        decode: pure function from ids to text.
        stop: stop strings; the text ends before the earliest match.
        prompt_token_ids: left context of the first output token.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        *,
        stop: tuple[str, ...] = (),
        prompt_token_ids: Sequence[int] = (),
    ) -> None:
        self._decode = decode
        self._stop = stop
        self._shown = list(prompt_token_ids[-_WINDOW:])
        self._pending: list[int] = []
        self._held = ""
        self._ended = False

    def push(self, token_id: int) -> tuple[str, bool]:
        """
        Take one committed token.

        Returns:
            (text, stopped): the text that is final now; whether a stop string ended it for good.
        """
        self._pending.append(token_id)
        fresh = self._fresh()
        whole = fresh.rstrip(_REPLACEMENT)
        # An incomplete character waits for a token more, unless a stop string before it ends the text.
        waits = whole != fresh and len(self._pending) < 4 * _WINDOW
        if waits and self._first_match(self._held + whole) is None:
            return "", False
        self._settle()
        return self._release(fresh)

    def flush(self) -> str:
        """The text still held back, once no more tokens come; empty after a stop string."""
        if self._ended:
            return ""
        fresh = self._fresh()
        self._settle()
        text, stopped = self._release(fresh)
        held, self._held = self._held, ""
        return text if stopped else text + held

    def _fresh(self) -> str:
        """Text that the pending tokens add to what was shown."""
        if not self._pending:
            return ""
        before = self._decode(self._shown)
        return self._decode(self._shown + self._pending)[len(before) :]

    def _settle(self) -> None:
        self._shown = (self._shown + self._pending)[-_WINDOW:]
        self._pending = []

    def _release(self, fresh: str) -> tuple[str, bool]:
        """Append to what is held, cut at a stop string, keep back what might become one."""
        self._held += fresh
        match = self._first_match(self._held)
        if match is not None:
            text, self._held, self._ended = self._held[:match], "", True
            return text, True
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text, False

    def _first_match(self, text: str) -> int | None:
        """Where the earliest stop string begins, if there is one."""
        return min((at for at in (text.find(stop) for stop in self._stop) if at >= 0), default=None)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of `stop` that `text` ends with."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
