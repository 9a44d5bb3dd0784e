"""Token ids to text, one at a time: the pieces join to what the tokenizer makes of all ids at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.edge.small_tokenizers import SPECIAL, TOKENIZERS, byte_ids, decode
from thinwire.edge.text_stream import Detokenizer

FALLBACK = TOKENIZERS["byte-fallback that strips"]
KINDS = pytest.mark.parametrize("kind", TOKENIZERS)


def streamed(tokenizer: Tokenizer, prompt: Sequence[int], output: Sequence[int], *, told: bool = True) -> str:
    """The joined pieces of `output` behind `prompt`; no decode may be long."""
    special = tokenizer.token_to_id(SPECIAL)

    def bounded(token_ids: Sequence[int]) -> str:
        assert len(token_ids) <= 48, f"{len(token_ids)} tokens were decoded at once"
        return decode(tokenizer, token_ids)

    text = Detokenizer(bounded, prompt, (special,) if told else ())
    return "".join([text.push(token_id) for token_id in output]) + text.flush()


def token_ids(kind: str, *, max_size: int) -> st.SearchStrategy[list[int]]:
    """Any ids; of a byte-fallback tokenizer only runs of bytes that are UTF-8: broken ones cannot join."""
    tokenizer = TOKENIZERS[kind]
    pieces = st.integers(0, tokenizer.get_vocab_size() - 1).map(lambda token_id: [token_id])
    if "fallback" in kind:
        words = st.integers(256, tokenizer.get_vocab_size() - 1).map(lambda token_id: [token_id])
        pieces = words | st.text("a é水玉中开🙂", min_size=1, max_size=12).map(
            lambda t: byte_ids(tokenizer, t)
        )
    few = st.lists(pieces, min_size=1, max_size=4).flatmap(
        lambda some: st.lists(st.sampled_from(some), max_size=max_size)
    )
    return (st.lists(pieces, max_size=max_size) | few).map(lambda parts: list(chain.from_iterable(parts)))


@KINDS
@settings(derandomize=True, max_examples=60, deadline=None)
@given(data=st.data())
def test_the_pieces_join_to_the_tokenizers_own_text(kind: str, data: st.DataObject) -> None:
    """decode(prompt + output) less decode(prompt), wherever the latter is a prefix of the former."""
    tokenizer = TOKENIZERS[kind]
    prompt = data.draw(token_ids(kind, max_size=20))
    output = data.draw(token_ids(kind, max_size=40))
    before, whole = decode(tokenizer, prompt), decode(tokenizer, prompt + output)

    if whole.startswith(before):
        assert streamed(tokenizer, prompt, output) == whole[len(before) :]


@pytest.mark.parametrize("text", ["水玉中开!", "क्या ok", "日本語のテキスト。", "🙂🙂 a", "ជំរាបសួរ"])
@pytest.mark.parametrize("kind", ["byte-fallback", "byte-fallback that strips"])
def test_characters_of_byte_tokens_are_whole_as_soon_as_their_last_byte(kind: str, text: str) -> None:
    """However many of them stand in a row, each byte of a character shows nothing but the last."""
    tokenizer = TOKENIZERS[kind]
    stream = Detokenizer(lambda ids: decode(tokenizer, ids), [tokenizer.token_to_id("a")])
    pieces = [stream.push(token_id) for token_id in byte_ids(tokenizer, text)]

    assert pieces == list(chain.from_iterable([""] * (len(c.encode()) - 1) + [c] for c in text))
    assert stream.flush() == ""


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    whole=st.text("é水🙂", max_size=12), broken=st.sampled_from([0x80, 0xC0, 0xFF]), rest=st.text(max_size=12)
)
def test_characters_shown_before_a_run_of_bytes_breaks_stay(whole: str, broken: int, rest: str) -> None:
    """The decoder would make U+FFFD of them too, after the fact; what follows is as it has it."""
    run = [*byte_ids(FALLBACK, whole), broken, *byte_ids(FALLBACK, rest)]
    first, last = FALLBACK.token_to_id("a"), FALLBACK.token_to_id("▁the")
    text = streamed(FALLBACK, [first], [*run, last])

    assert text == whole + "\ufffd" * (1 + len(rest.encode())) + " the"
    assert decode(FALLBACK, [first, *run, last]) == "a" + "\ufffd" * len(run) + " the"


def test_a_text_that_ends_within_a_run_of_bytes_keeps_its_whole_characters() -> None:
    """Two of the last character's three bytes came."""
    text = streamed(FALLBACK, [], byte_ids(FALLBACK, "水玉中")[:-1])

    assert text == "水玉\ufffd\ufffd"


def test_a_character_that_the_prompt_begins_is_output_when_it_is_whole() -> None:
    """What the prompt's own text shows of it is not said again where it stays broken."""
    level = TOKENIZERS["byte-level"]
    half, other, letter = (level.token_to_id(piece) for piece in ("æ°", "´", "a"))

    assert decode(level, [half]) == "\ufffd"
    assert streamed(level, [half], [other, letter]) == "水a"
    assert streamed(level, [half], [letter]) == "a"


@KINDS
def test_special_tokens_do_not_hide_what_stands_before_them(kind: str) -> None:
    """Neither many of them in the prompt nor in the output make the next token the first of the text."""
    tokenizer = TOKENIZERS[kind]
    special = tokenizer.token_to_id(SPECIAL)
    words = [i for i in range(special) if decode(tokenizer, [special - 1, i])[-1:].isascii()][:40]
    shown = next(i for i in words if decode(tokenizer, [i]))
    prompt, output = [shown, *[special] * 60], [words[0], *[special] * 60, *words]
    expected = decode(tokenizer, prompt + output)[len(decode(tokenizer, prompt)) :]

    assert streamed(tokenizer, prompt, output) == expected
    assert streamed(tokenizer, prompt, output, told=False) == expected
