"""What is committed: prompt and output, the hash that names them, their text, and where the text ends."""

from __future__ import annotations

from collections.abc import Iterable

from thinwire.common.config import check_integer
from thinwire.common.errors import RemoteProtocolError, TargetChangedError
from thinwire.common.session.generation import GenerationRequest, Token
from thinwire.common.session.messages import FinishReason, Opened, PrefixHasher, TokenKind
from thinwire.common.session.prompt import check_prompt
from thinwire.edge.text_stream import TextStream


class CommittedSequence:
    """
    The tokens both ends agree on.

    Args:
        prompt_token_ids: at least one id below V, the vocabulary's size.
        draft_context_length: tokens the draft model can hold.

    Raises:
        ConfigError: empty prompt, or an id of the prompt or a stop token id outside the vocabulary.
    """

    def __init__(
        self,
        prompt_token_ids: tuple[int, ...],
        text: TextStream,
        request: GenerationRequest,
        *,
        vocabulary_size: int,
        draft_context_length: int,
    ) -> None:
        check_prompt(prompt_token_ids, vocabulary_size)
        for token_id in request.stop_token_ids:
            check_integer("a stop token id", token_id, 0, vocabulary_size - 1)
        self._ids = list(prompt_token_ids)
        self._text = text
        self._ignore_eos = request.ignore_eos
        self._vocabulary_size = vocabulary_size
        self._draft_context_length = draft_context_length
        self.max_length = len(prompt_token_ids) + request.max_tokens
        """Tokens of the text at most, prompt included."""
        self._context_length: int | None = None
        """Tokens that the target can hold; None before it has said so."""
        self._fingerprint = b""
        """Of the target; empty while no cloud has told it."""
        self._hasher = PrefixHasher()
        self._hasher.extend(prompt_token_ids)
        self._stop_token_ids = frozenset(request.stop_token_ids)
        """Ids that end the text as a stop string does; they count and have no text."""
        self._eos_token_ids: frozenset[int] = frozenset()
        """End-of-text ids; they count and have no text."""

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(self._ids)

    @property
    def prefix_hash(self) -> int:
        return self._hasher.value()

    @property
    def ending_token_ids(self) -> frozenset[int]:
        """Ids with which the text ends, whatever stands before them."""
        return self._eos_token_ids | self.stop_token_ids

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """Those of them that the request asks for, besides the target's own."""
        return self._stop_token_ids | self._text.stop_token_ids

    @property
    def draft_is_full(self) -> bool:
        """Whether the draft model cannot hold what it would have to see."""
        return len(self._ids) > self._draft_context_length

    @property
    def room(self) -> int:
        """Tokens that max_tokens and the target's context allow beside one of the cloud's own."""
        longest = min(self.max_length, self._context_length or self.max_length)
        return max(0, longest - 1 - len(self._ids))

    @property
    def draft_room(self) -> int:
        """
        Tokens that the next block may hold: there is `room`, and the draft model can hold all but the last,
        which is drafted and not fed.
        """
        return max(0, min(self.room, self._draft_context_length + 1 - len(self._ids)))

    def since(self, length: int) -> tuple[int, ...]:
        return tuple(self._ids[length:])

    def opened(self, opened: Opened) -> None:
        """
        Take what a new session says of its target: the same one, however often the cloud loses the session.

        Raises:
            RemoteProtocolError: it begins elsewhere than the text stands.
            TargetChangedError: another target than the text's; a cloud that knows no fingerprint is believed.
            ConfigError: the tokens leave no room in the target's context.
        """
        if (opened.committed_length, opened.next_round) != (len(self), 1):
            raise RemoteProtocolError(
                f"a new session opened at length {opened.committed_length}, round {opened.next_round}; "
                f"expected {len(self)}, 1."
            )
        received, expected = opened.target_fingerprint, self._fingerprint
        if received and expected and received != expected:
            raise TargetChangedError(
                f"the cloud's target model has the fingerprint {received.hex()}; expected {expected.hex()}, "
                "with which this text began: it cannot go on with another model."
            )
        self._fingerprint = received or expected
        self._context_length = min(self._context_length or opened.context_length, opened.context_length)
        check_prompt(self.token_ids, self._vocabulary_size, self._context_length)
        if not self._ignore_eos:
            self._eos_token_ids = frozenset(opened.eos_token_ids)

    def commit(self, tokens: Iterable[tuple[int, TokenKind]]) -> tuple[list[Token], FinishReason | None]:
        """Commit ids one by one, up to the first that ends the text; returns what to emit, and the end."""
        base, emitted, ending = len(self._ids), [], None
        for token_id, kind in tokens:
            self._ids.append(token_id)
            text, ending = self._take(token_id)
            emitted.append(Token(token_id, kind, text))
            if ending is not None:
                break
        self._hasher.extend(self._ids[base:])
        return emitted, ending

    def flush(self) -> str:
        return self._text.flush()

    def _take(self, token_id: int) -> tuple[str, FinishReason | None]:
        stops, ends = token_id in self._stop_token_ids, token_id in self._eos_token_ids
        text, stopped = self._text.push(token_id, silent=stops or ends)
        if stopped or stops:
            return text, FinishReason.STOP
        if ends:
            return text, FinishReason.EOS
        if len(self._ids) >= self.max_length:
            return text, FinishReason.LENGTH
        if self._context_length is not None and len(self._ids) >= self._context_length:
            return text, FinishReason.CONTEXT
        return text, None
