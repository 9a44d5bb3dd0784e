"""The tokenizer's half of a language model: ids ↔ text, and what both ends must share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from thinwire.common.language_model.tokenizer_parts import part_digests, text_of
from thinwire.common.session.messages import VocabularyIdentity


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
        V and the digests that the two ends compare (`tokenizer_parts`).

        V is the highest id the tokenizer defines plus one, added and special tokens included.
        """
        parts = part_digests(self._tokenizer)
        return VocabularyIdentity(
            max(self._tokenizer.get_vocab().values()) + 1,
            hashlib.sha256(b"".join(parts)).digest(),
            tuple(int.from_bytes(part[:4], "little") for part in parts),
        )

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """The ids that `decode` leaves out, by their names."""
        named = dict(zip(self._tokenizer.all_special_tokens, self._tokenizer.all_special_ids, strict=True))
        added = {str(token): index for index, token in self._tokenizer.added_tokens_decoder.items()}
        return {
            name: index for name, index in {**added, **named}.items() if name and not self.decode([index])
        }

    def encode(self, text: str) -> list[int]:
        """Token ids of all of `text`, with the special tokens the tokenizer itself puts around a text."""
        # Not verbose: a prompt's length is judged elsewhere.
        return list(self._tokenizer(text, verbose=False)["input_ids"])

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of `token_ids`; special tokens are left out, spaces are kept as they are."""
        return text_of(self._tokenizer, token_ids)
