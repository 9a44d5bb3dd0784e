"""What is committed: prompt and output, the hash that names them, their text, and where the text ends."""

from __future__ import annotations

from collections.abc import Iterable

from common.messages import FinishReason, PrefixHasher, TokenKind
from edge.events import EmittedToken
from edge.text_stream import TextStream


class CommittedSequence:
    """
    The tokens both ends agree on.

    Args:
        prompt_token_ids: at least one.
        text: turns committed output ids into text.
        max_tokens: of output.
        context_length: of the draft model; `limit_context` brings the target's.
    """

    def __init__(
        self, prompt_token_ids: tuple[int, ...], text: TextStream, *, max_tokens: int, context_length: int
    ) -> None:
        self._ids = list(prompt_token_ids)
        self._text = text
        self._max_length = len(prompt_token_ids) + max_tokens
        self._hasher = PrefixHasher()
        self._hasher.extend(prompt_token_ids)
        self.context_length = context_length
        """Tokens that both models can hold."""
        self.stop_token_ids: frozenset[int] = frozenset()
        """Ids that end the text; they count and have no text."""

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Prompt and output."""
        return tuple(self._ids)

    @property
    def prefix_hash(self) -> int:
        """As a round carries it; see `PrefixHasher`."""
        return self._hasher.value()

    @property
    def room(self) -> int:
        """Tokens that max_tokens and the context still allow."""
        return min(self._max_length, self.context_length) - len(self._ids)

    def since(self, length: int) -> tuple[int, ...]:
        """The ids behind the first `length`."""
        return tuple(self._ids[length:])

    def limit_context(self, context_length: int) -> None:
        """The target holds no more than this."""
        self.context_length = min(self.context_length, context_length)

    def commit(
        self, tokens: Iterable[tuple[int, TokenKind]]
    ) -> tuple[list[EmittedToken], FinishReason | None]:
        """Commit ids one by one, up to the first that ends the text; returns what to emit, and the end."""
        base, emitted, ending = len(self._ids), [], None
        for token_id, kind in tokens:
            self._ids.append(token_id)
            text, ending = self._take(token_id)
            emitted.append(EmittedToken(token_id, kind, text))
            if ending is not None:
                break
        self._hasher.extend(self._ids[base:])
        return emitted, ending

    def flush(self) -> str:
        """Text still held back; nothing follows."""
        return self._text.flush()

    def _take(self, token_id: int) -> tuple[str, FinishReason | None]:
        """Text of one committed token, and how the text ends with it, if it does."""
        if token_id in self.stop_token_ids:
            return "", FinishReason.EOS
        text, stopped = self._text.push(token_id)
        if stopped:
            return text, FinishReason.STOP
        if len(self._ids) >= self._max_length:
            return text, FinishReason.LENGTH
        if len(self._ids) >= self.context_length:
            return text, FinishReason.CONTEXT
        return text, None
