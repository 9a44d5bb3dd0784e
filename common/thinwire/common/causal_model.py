"""
What the sessions' shells need of a model: a cached sequence that can be extended and rolled back.

`common.language_model` implements this over torch and transformers; tests implement it with printed tables.
Nothing here knows about sampling, schemes or text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from thinwire.common.errors import LocalProtocolError, ThinwireError
from thinwire.common.session.messages import VocabularyIdentity


class CachedSequence(Protocol):
    """One sequence with its KV cache. Not thread-safe: used from the model's one executor thread only."""

    @property
    def length(self) -> int:
        """Tokens in the cache."""

    def extend(
        self, token_ids: Sequence[int], *, logit_rows: int, parents: Sequence[int] = ()
    ) -> npt.NDArray[Any]:
        """
        Append tokens and score.

        Args:
            token_ids: at least one id in [0, V).
            logit_rows: how many of the last positions to return, 1 to len(token_ids).
            parents: where the last `logit_rows` - 1 tokens are a tree: the row that each follows, 0 for the
                token before them all, k for the k-th of them, which stands before it. Empty for a chain.

        Returns:
            (logit_rows, V) float32 (float64 for a float64 model); row i is the next-token logits after the
            i-th of the last `logit_rows` tokens. Ids at and beyond V are already cut off.

        Raises:
            NonFiniteLogitsError: NaN or +inf in a returned row, or a row with no finite logit.
        """

    def truncate(self, length: int) -> None:
        """Roll the cache back to its first `length` tokens, 0 <= length <= self.length."""

    def keep(self, length: int, path: Sequence[int]) -> None:
        """
        Roll the cache back to its first `length` tokens, and move others of it up behind them.

        Args:
            path: indices in the cache, ascending and at least `length`: after a tree, the tokens of one path.
        """

    def close(self) -> None:
        """Free the cache; the sequence may not be used again."""


@dataclass(frozen=True, slots=True)
class ExtendRequest:
    """One sequence's part in a pass over several; the arguments are those of `CachedSequence.extend`."""

    sequence: CachedSequence
    token_ids: Sequence[int]
    logit_rows: int
    parents: Sequence[int] = ()


Extended = npt.NDArray[Any] | ThinwireError
"""Rows as `CachedSequence.extend` returns them, or the error that it would have raised."""


class CausalModel(Protocol):
    """A loaded model that can hold many sequences."""

    @property
    def vocabulary_size(self) -> int:
        """V: ids the tokenizer defines."""

    @property
    def context_length(self) -> int:
        """Tokens one sequence may hold."""

    @property
    def takes_trees(self) -> bool:
        """Whether sequences can be extended by trees; otherwise `parents` is always empty."""

    def open_sequence(self, *, reserve_tokens: int = 0) -> CachedSequence:
        """
        A new, empty sequence; may be called from any thread.

        Cache memory for `reserve_tokens` is set aside at once, or ResourceExhaustedError raised.
        """

    def extend_batch(self, requests: Sequence[ExtendRequest]) -> list[Extended]:
        """
        Extend different sequences, in one pass where the model can; each gets what it would get alone.

        An error among the answers, which are in the requests' order, concerns its own sequence and no other.
        """


class Vocabulary(Protocol):
    """A model's tokenizer."""

    @property
    def identity(self) -> VocabularyIdentity:
        """Size and hash; those of draft and target are compared at Open."""

    @property
    def special_tokens(self) -> dict[str, int]:
        """The ids without text, by their names."""

    def encode(self, text: str) -> list[int]:
        """Prompt text to token ids."""

    def decode(self, token_ids: Any) -> str:
        """Token ids to text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model as a daemon serves it and tells of it."""

    model: CausalModel
    vocabulary: Vocabulary
    name: str = ""
    """For people."""
    dtype: str = ""
    device: str = ""
    rows: int = 0
    """Ids below it can be fed; 0 where that is not known."""
    eos_token_ids: tuple[int, ...] = ()
    """Ids that end a text."""
    fingerprint: bytes = b""
    """Fingerprint of the weights; where it is empty, an edge does not notice another model later."""


def extend_one_by_one(requests: Sequence[ExtendRequest]) -> list[Extended]:
    """`CausalModel.extend_batch` for a model that takes one sequence a pass."""
    answers: list[Extended] = []
    for request in requests:
        try:
            answers.append(
                request.sequence.extend(
                    request.token_ids, logit_rows=request.logit_rows, parents=request.parents
                )
            )
        except ThinwireError as error:
            answers.append(error)
    return answers


class RolledBackSequence:
    """
    One session's sequence of a model: opened at its first pass, and rolled back before any other.

    `truncate` may be called from any thread, everything else from the model's thread only (`reserve` comes
    before any pass).
    """

    def __init__(self, model: CausalModel) -> None:
        self._model = model
        self._sequence: CachedSequence | None = None
        self._roll_backs: list[tuple[int, tuple[int, ...]]] = []
        """Lengths, with what else is kept; done in order before the next pass."""

    def reserve(self, tokens: int) -> None:
        """Open it with cache memory for so many tokens, or raise ResourceExhaustedError."""
        assert self._sequence is None, "reserved too late"
        self._sequence = self._model.open_sequence(reserve_tokens=tokens)

    def truncate(self, length: int, kept: tuple[int, ...] = ()) -> None:
        """Roll back to `length` cached tokens, and those at the indices `kept`, before the next pass."""
        self._roll_backs.append((length, kept))

    def holding(self, length: int | None) -> CachedSequence:
        """The sequence, rolled back, for a pass after its first `length` tokens; None where none is made."""
        if self._sequence is None:
            self._sequence = self._model.open_sequence()
        while self._roll_backs:
            longest, kept = self._roll_backs.pop(0)
            if kept:
                self._sequence.keep(longest, kept)
            else:
                self._sequence.truncate(min(longest, self._sequence.length))
        if length is not None:
            check_cache_length(self._sequence.length, length)
        return self._sequence

    def close(self) -> None:
        if self._sequence is not None:
            self._sequence.close()
            self._sequence = None


def check_cache_length(length: int, expected: int) -> None:
    """
    Hold a sequence against what its session believes, before every pass.

    Raises:
        LocalProtocolError: they differ, and the pass would score another text.
    """
    if length != expected:
        raise LocalProtocolError(f"the cache holds {length} tokens; expected {expected}.")
