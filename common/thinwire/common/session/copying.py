"""Guesses by copying: what followed the last time when the text ended as it does now; no model, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST = 4
_SHORTEST = 2
"""Ids that must have been met before in this order."""
LATEST_PROMPT_TOKENS = 1024
"""So many of a prompt's last ids are looked through."""
MAX_TOKENS = 4096
"""Ids kept; of a text that grows beyond, the later half goes on."""


class CopiedText:
    """
    A text as it grows, and where each short run of its ids stood last.

    Args:
        token_ids: the prompt.
    """

    def __init__(self, token_ids: Sequence[int]) -> None:
        self._begin(token_ids[-LATEST_PROMPT_TOKENS:])

    def _begin(self, token_ids: Sequence[int]) -> None:
        self._ids: list[int] = []
        self._behind: dict[tuple[int, ...], int] = {}
        """A run of ids → the place behind where it stood last, the text's end excepted."""
        self._source = 0
        """Where copying goes on; 0 for nowhere."""
        self.extend(token_ids)

    def extend(self, token_ids: Sequence[int]) -> None:
        """Append ids."""
        if len(self._ids) >= MAX_TOKENS:
            self._begin(self._ids[-MAX_TOKENS // 2 :])
        for token_id in token_ids:
            self._ids.append(token_id)
            end = len(self._ids)
            self._source = 0
            for length in range(_LONGEST, _SHORTEST - 1, -1):
                if length <= end:
                    run = tuple(self._ids[-length:])
                    self._source = self._source or self._behind.get(run, 0)
                    self._behind[run] = end

    def guess(self, most: int) -> tuple[int, ...]:
        """What may follow: at most so many ids, none where the text's end was not met before."""
        return tuple(self._ids[self._source : self._source + most]) if self._source else ()
