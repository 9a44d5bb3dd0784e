"""Text while it arrives, over tokenizers as transformers loads them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import chain

import pytest
import transformers

from tests.edge.small_tokenizers import SPECIAL, TOKENIZERS, byte_ids
from thinwire.common.language_model import Vocabulary
from thinwire.edge.text_stream import TextStream


def fast(kind: str) -> transformers.PreTrainedTokenizerFast:
    """Of a kind of decoder, with an end of text, another special token and an added one that is none."""
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=TOKENIZERS[kind], eos_token=SPECIAL)
    tokenizer.add_tokens(["<|other|>"], special_tokens=True)
    tokenizer.add_tokens(["<plain>"])
    return tokenizer


def streamed(vocabulary: Vocabulary, output: Sequence[int]) -> str:
    """The joined pieces."""
    text = TextStream(vocabulary.decode, special_tokens=vocabulary.special_tokens)
    return "".join([text.push(token_id)[0] for token_id in output]) + text.flush()


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_special_tokens_are_those_without_text(kind: str) -> None:
    """By name, the end of text and other added ones; an added token that is not special has text."""
    tokenizer = fast(kind)
    names = {SPECIAL, "<|other|>"}

    assert Vocabulary(tokenizer).special_tokens == {n: tokenizer.convert_tokens_to_ids(n) for n in names}


@pytest.mark.parametrize("text", ["水玉中开!", "क्या ok", "日本語のテキスト。"])
@pytest.mark.parametrize("kind", ["byte-fallback", "byte-fallback that strips"])
def test_a_text_of_byte_tokens_comes_whole(kind: str, text: str) -> None:
    """As Llama 2 and Gemma write characters that they have no tokens for."""
    tokenizer = fast(kind)

    assert streamed(Vocabulary(tokenizer), byte_ids(TOKENIZERS[kind], text)) == text


def test_a_tokenizer_written_in_python_streams_its_own_text() -> None:
    """ByT5's shows nothing for an incomplete character, where others show U+FFFD."""
    vocabulary = Vocabulary(transformers.ByT5Tokenizer())
    draws = random.Random(1)
    for _ in range(100):
        words = draws.choices(["a", " ", "é", "水", "🙂", "the"], k=40)
        output = list(chain.from_iterable(vocabulary.encode(word) for word in words))

        assert streamed(vocabulary, output) == vocabulary.decode(output) == "".join(words)
