"""Text while it arrives: nothing is shown that a later token could change or a stop string cut off."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.edge.text_stream import TextStream


def decode_letters(token_ids: Sequence[int]) -> str:
    """Code points as tokens."""
    return "".join(map(chr, token_ids))


def decode_bytes(token_ids: Sequence[int]) -> str:
    """Bytes as tokens, like a byte-level vocabulary."""
    return bytes(token_ids).decode("utf-8", "replace")


def feed(stream: TextStream, token_ids: Sequence[int]) -> tuple[list[str], bool]:
    """Texts of all tokens up to a stop string, and whether one came."""
    texts = []
    for token_id in token_ids:
        text, stopped = stream.push(token_id)
        texts.append(text)
        if stopped:
            return texts, True
    return texts, False


def test_a_character_of_several_tokens_is_held_back_until_it_is_whole() -> None:
    """é is two bytes; the first shows nothing."""
    texts, _ = feed(TextStream(decode_bytes), "aé".encode())

    assert texts == ["a", "", "é"]


def test_an_incomplete_character_at_the_end_is_flushed_as_it_is() -> None:
    """What never becomes a character is shown as the decoder shows it."""
    stream = TextStream(decode_bytes)
    stream.push(0xC3)

    assert stream.flush() == "\ufffd"
    assert stream.flush() == ""


@settings(derandomize=True, max_examples=200)
@given(text=st.text(max_size=40), prompt=st.text(max_size=10))
def test_the_pieces_join_to_the_whole_text(text: str, prompt: str) -> None:
    """Byte by byte, behind any prompt, what comes out is what went in."""
    stream = TextStream(decode_bytes, prompt_token_ids=list(prompt.encode()))
    texts, _ = feed(stream, text.encode())

    assert "".join(texts) + stream.flush() == text


@settings(derandomize=True, max_examples=50)
@given(data=st.binary(max_size=100))
def test_bytes_that_are_no_text_do_not_stop_the_stream(data: bytes) -> None:
    """Any bytes go through; valid text behind 40 broken bytes comes out whole."""
    stream = TextStream(decode_bytes)
    texts, _ = feed(stream, data + b"\xff" * 40 + b" ok, then")

    assert ("".join(texts) + stream.flush()).endswith(" ok, then")


@pytest.mark.parametrize(
    "tokens", [["ab", "STOP", "cd"], ["abST", "OPcd"], ["a", "b", "S", "T", "O", "P", "c"]]
)
def test_a_stop_string_is_found_across_token_borders(tokens: list[str]) -> None:
    """However the stop string is cut into tokens, the text ends before it."""
    stream = TextStream(lambda ids: "".join(tokens[i] for i in ids), stop=("STOP",))
    texts, stopped = feed(stream, range(len(tokens)))

    assert stopped
    assert "".join(texts) == "ab"
    assert stream.flush() == ""


def test_a_partial_stop_match_is_held_back_and_released_when_it_fails() -> None:
    """`ST` may become `STOP`; once it cannot, it is shown."""
    stream = TextStream(decode_letters, stop=("STOP",))
    texts, stopped = feed(stream, [ord(c) for c in "aSTSTx"])

    assert texts == ["a", "", "", "ST", "", "STx"]
    assert not stopped


def test_a_held_partial_match_is_flushed_at_the_end() -> None:
    """A text that ends on half a stop string keeps that half."""
    stream = TextStream(decode_letters, stop=("STOP",))
    feed(stream, [ord(c) for c in "aSTO"])

    assert stream.flush() == "STO"


def test_the_earliest_of_two_stop_strings_wins() -> None:
    """Both within one token: the text ends before the first."""
    stream = TextStream(lambda ids: "xx end yy STOP" * len(ids), stop=("STOP", "end"))

    assert stream.push(0) == ("xx ", True)


def test_a_stop_string_before_an_incomplete_character_is_found_at_once() -> None:
    """The tail that waits for its next byte does not hide a match."""
    tokens = [b"ab", b"STOP\xc3", b"\xa9"]
    stream = TextStream(
        lambda ids: b"".join(tokens[i] for i in ids).decode("utf-8", "replace"), stop=("STOP",)
    )

    assert feed(stream, range(3)) == (["ab", ""], True)


SPECIAL = {"<end>": 0, "<end>>": 1, "<pad>": 2}


def decode_but_special(token_ids: Sequence[int]) -> str:
    """Code points as tokens, but for three special ones."""
    return "".join(chr(i) for i in token_ids if i > 2)


@pytest.mark.parametrize(
    ("stop", "tokens", "shown"),
    [
        ("<end>", ["a", 2, "b", 0, "c"], "ab"),
        ("<end>", [*"ab<end>", "c"], "ab"),
        ("\n<end>", [*"a\nb\n", 0, "c"], "a\nb"),
        ("\n<end>", [*"a\nb", 0, "c"], None),
        ("\n<end>", [*"a\n", 2, 0], "a"),
        ("<end><pad>", ["a", 0, "b", 0, 2, "c"], "ab"),
        ("<end>b", ["a", 0, "c", 0, "b"], "ac"),
        ("<end>>", ["a", 0, "b", 1], "ab"),
        ("end", ["a", 0, "b"], None),
    ],
)
def test_a_stop_string_may_name_special_tokens(stop: str, tokens: list[str | int], shown: str | None) -> None:
    """They have no text, but stand where they stand; a part of a name does not stop at the token."""
    stream = TextStream(decode_but_special, stop=(stop,), special_tokens=SPECIAL)
    texts, stopped = feed(stream, [t if isinstance(t, int) else ord(t) for t in tokens])
    whole = "".join(t for t in tokens if isinstance(t, str))

    assert stopped == (shown is not None)
    assert "".join(texts) + stream.flush() == (whole if shown is None else shown)


def test_a_special_token_does_not_hide_a_stop_string_around_it() -> None:
    """One that no stop string names is nothing."""
    stream = TextStream(decode_but_special, stop=("ab", "<end>"), special_tokens=SPECIAL)

    assert feed(stream, [ord("a"), 2, ord("b")]) == (["", "", ""], True)


@settings(derandomize=True, max_examples=200)
@given(text=st.text("abc", max_size=30), stop=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_a_stream_ends_where_the_first_completed_stop_string_begins(text: str, stop: list[str]) -> None:
    """Against the plain rule: the shortest prefix of the text that holds a stop string decides."""
    stream = TextStream(decode_letters, stop=tuple(stop))
    texts, stopped = feed(stream, [ord(c) for c in text])
    shown = "".join(texts) + stream.flush()
    first = next((text[:n] for n in range(len(text) + 1) if any(s in text[:n] for s in stop)), None)

    assert stopped == (first is not None)
    assert shown == (text if first is None else first[: min(first.find(s) for s in stop if s in first)])
