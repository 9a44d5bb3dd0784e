"""The tokenizer's half of a language model: ids ↔ text, and what both ends must share."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from common.messages import VocabularyIdentity


class Vocabulary:
    """
    A tokenizer, reduced to what sessions need.

    Args:
        tokenizer: a transformers tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def identity(self) -> VocabularyIdentity:
        """
        V and the digest that the two ends compare.

        V is the highest id the tokenizer defines plus one, added and special tokens included.
        The digest is SHA-256 over every defined id in ascending order: the id as 4 bytes little-endian, the
        length of its token string in UTF-8 bytes as 4 bytes little-endian, and those bytes (a byte-level
        tokenizer's string is in its byte alphabet, as stored in tokenizer.json).
        """
        by_id = sorted((index, token) for token, index in self._tokenizer.get_vocab().items())
        digest = hashlib.sha256()
        for index, token in by_id:
            encoded = token.encode("utf-8", "surrogatepass")
            digest.update(struct.pack("<II", index, len(encoded)) + encoded)
        return VocabularyIdentity(by_id[-1][0] + 1, digest.digest())

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """The ids that `decode` leaves out, by their names."""
        named = dict(zip(self._tokenizer.all_special_tokens, self._tokenizer.all_special_ids, strict=True))
        added = {str(token): index for index, token in self._tokenizer.added_tokens_decoder.items()}
        return {
            name: index for name, index in {**added, **named}.items() if name and not self.decode([index])
        }

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, with the special tokens the tokenizer itself puts before a text."""
        return list(self._tokenizer(text)["input_ids"])

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of `token_ids`; special tokens are left out, spaces are kept as they are."""
        return str(
            self._tokenizer.decode(
                list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )
