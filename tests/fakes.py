"""
Stand-ins that need no network, no clock and no model: tables for laws, a vocabulary of letters, a clock.

A *law* is a function from the prefix (prompt included) to the (V,) row of next-token probabilities.
"""

from __future__ import annotations

import hashlib
import random
import struct
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from thinwire.common.causal_model import Extended, ExtendRequest, extend_one_by_one
from thinwire.common.schemes import SchemeParameters, find_scheme, scheme_parameters
from thinwire.common.session.generation import GenerationEvent
from thinwire.common.session.messages import VocabularyIdentity

Prefix = tuple[int, ...]
Law = Callable[[Prefix], npt.NDArray[Any]]

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ."


class FractionTable:
    """
    A table of exact rows; called like a law it gives the same rows in float64.

    Args:
        fraction_rows: prefix → V fractions that sum to 1.
        vocabulary_size: V.
    """

    def __init__(self, fraction_rows: Callable[[Prefix], Sequence[Fraction]], vocabulary_size: int) -> None:
        self._rows = fraction_rows
        self.vocabulary_size = vocabulary_size

    def fraction_rows(self, prefix: Prefix) -> npt.NDArray[np.object_]:
        """(V,) object array of Fractions, sums to 1 exactly; a fresh array at every call."""
        return np.array(list(self._rows(prefix)), dtype=object)

    def __call__(self, prefix: Prefix) -> npt.NDArray[np.float64]:
        """(V,) float64, the nearest to the exact row."""
        return np.array([float(value) for value in self._rows(prefix)])


def constant_table(weights: Sequence[int]) -> FractionTable:
    """The law in proportion to `weights`, whatever the prefix."""
    row = [Fraction(weight, sum(weights)) for weight in weights]
    return FractionTable(lambda prefix: row, len(weights))


def random_table(
    seed: int, vocabulary_size: int, *, resolution: int = 12, memory: int = 4, zeros: bool = True
) -> FractionTable:
    """
    A random law with small denominators.

    Args:
        seed: two tables with different seeds are independent.
        vocabulary_size: V.
        resolution: every weight is an integer up to this.
        memory: how many of the last tokens the row depends on, beside the length.
        zeros: whether some probabilities may be 0.
    """

    def row(prefix: Prefix) -> list[Fraction]:
        recent = prefix[-memory:]
        key = struct.pack(f"<QI{len(recent)}I", seed, len(prefix), *recent)
        generator = random.Random(hashlib.blake2b(key, digest_size=16).digest())
        weights = [generator.randint(0 if zeros else 1, resolution) for _ in range(vocabulary_size)]
        weights[generator.randrange(vocabulary_size)] += 1  # never all zero
        return [Fraction(weight, sum(weights)) for weight in weights]

    return FractionTable(row, vocabulary_size)


def random_law(vocabulary_size: int, seed: int) -> FractionTable:
    """`random_table` without zeros, so that every token stays possible."""
    return random_table(seed, vocabulary_size, zeros=False)


class TableModel:
    """
    A `CausalModel` whose next-token law is given; logits are log p in float64, -inf where p is 0.

    Args:
        law: prefix → (V,) probabilities.
        vocabulary_size: V; taken from the law where it knows.
        context_length: tokens one sequence may hold.
    """

    def __init__(self, law: Law, *, vocabulary_size: int | None = None, context_length: int = 64) -> None:
        self.law = law
        self.vocabulary_size = vocabulary_size or len(law((0,)))
        self.context_length = context_length
        self.counting = threading.Lock()
        self.open_sequences = 0
        """Sequences opened and not closed yet; opened in one thread and closed in another."""
        self.passes = 0
        """Calls of `extend`, over all sequences."""
        self.batches: list[list[int]] = []
        """How many tokens each sequence of each `extend_batch` was fed."""

    takes_trees = True

    def open_sequence(self, *, reserve_tokens: int = 0) -> TableSequence:
        """A new, empty sequence."""
        with self.counting:
            self.open_sequences += 1
        return TableSequence(self)

    def extend_batch(self, requests: Sequence[ExtendRequest]) -> list[Extended]:
        """Extend several sequences, one after the other."""
        self.batches.append([len(request.token_ids) for request in requests])
        return extend_one_by_one(requests)


class TableSequence:
    """A `CachedSequence` over a table; the cache is the list of tokens."""

    def __init__(self, model: TableModel) -> None:
        self._model = model
        self._closed = False
        self.token_ids: list[int] = []

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return len(self.token_ids)

    def extend(
        self, token_ids: Sequence[int], *, logit_rows: int, parents: Sequence[int] = ()
    ) -> npt.NDArray[np.float64]:
        """(logit_rows, V) float64."""
        assert not self._closed, "extend after close"
        assert 1 <= logit_rows <= len(token_ids), f"{logit_rows} rows of {len(token_ids)} tokens"
        self.token_ids += token_ids
        self._model.passes += 1
        assert self.length <= self._model.context_length, "the context overflows"
        first = self.length - logit_rows + 1
        prefixes = [tuple(self.token_ids[:first])]
        for row, parent in enumerate(parents or range(logit_rows - 1)):
            assert parent <= row, f"row {row + 1} follows row {parent}"
            prefixes.append((*prefixes[parent], self.token_ids[first + row]))
        with np.errstate(divide="ignore"):
            return np.log(np.stack([self._model.law(prefix) for prefix in prefixes]))

    def truncate(self, length: int) -> None:
        """Roll back to the first `length` tokens."""
        assert 0 <= length <= self.length, f"truncate to {length} of {self.length} tokens"
        del self.token_ids[length:]

    def keep(self, length: int, path: Sequence[int]) -> None:
        """Roll back to the first `length` tokens and those at the indices `path`."""
        assert length <= min(path), f"{path} of {self.length} tokens behind {length}"
        assert sorted(path) == list(path), f"{path} is in no order"
        self.token_ids = [*self.token_ids[:length], *(self.token_ids[index] for index in path)]

    def close(self) -> None:
        """Free the cache; a second call is a bug."""
        assert not self._closed, "closed twice"
        self._closed = True
        with self._model.counting:
            self._model.open_sequences -= 1


class TableVocabulary:
    """
    One character a token: a, b, c, ...

    Args:
        size: V.
        salt: vocabularies with different salts have different identities.
        special_tokens: ids without text, by their names.
    """

    def __init__(self, size: int, *, salt: str = "", special_tokens: dict[str, int] | None = None) -> None:
        self.special_tokens = special_tokens or {}
        self._characters = [_LETTERS[i] if i < len(_LETTERS) else chr(0x4E00 + i) for i in range(size)]
        digest = hashlib.sha256(salt.encode())
        for token_id, character in enumerate(self._characters):
            digest.update(struct.pack("<I", token_id) + character.encode())
        self.identity = VocabularyIdentity(size, digest.digest())

    def encode(self, text: str) -> list[int]:
        """Ids of the characters; ValueError for one the vocabulary lacks."""
        return [self._characters.index(character) for character in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        """The characters of the ids."""
        special = self.special_tokens.values()
        return "".join(self._characters[token_id] for token_id in token_ids if token_id not in special)


class ManualClock:
    """Monotonic seconds that move only when told to."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """Now, in seconds."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let `seconds` >= 0 pass."""
        self.now_s += seconds


class Reader:
    """A generation's client that takes every event at once."""

    def __init__(self) -> None:
        self.events: list[GenerationEvent] = []

    def put(self, event: GenerationEvent) -> None:
        """Keep it."""
        self.events.append(event)

    async def room(self) -> None:
        """There is always room."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Of all the output so far."""
        return tuple(token.token_id for event in self.events if isinstance(event, tuple) for token in event)


def scheme_with(name: str, **fields: Any) -> SchemeParameters:
    """A scheme's parameters; of the fields given, those that it has."""
    own = find_scheme(name).Parameters.specs()
    return scheme_parameters(name, **{field: value for field, value in fields.items() if field in own})
