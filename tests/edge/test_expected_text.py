"""Where a text stands in the one that was expected: departures, returns, the tokens behind a prompt."""

from __future__ import annotations

import random

import pytest

from fakes import TableVocabulary
from thinwire.edge.expected_text import ExpectedText, expected_ids

EXPECTED = tuple(range(100, 200))


def after(*token_ids: int, expected: tuple[int, ...] = EXPECTED) -> ExpectedText:
    """The expected text once these were written."""
    made = ExpectedText(expected)
    made.extend(token_ids)
    return made


def test_it_begins_at_its_beginning_and_goes_on() -> None:
    """At most as many as are asked for, and as there are."""
    assert after().guess(3) == (100, 101, 102)
    assert after(100, 101).guess(2) == (102, 103)
    assert after(*EXPECTED[:98]).guess(9) == (198, 199)
    assert after(*EXPECTED).guess(9) == ()
    assert after(expected=()).guess(9) == ()


@pytest.mark.parametrize(
    ("written", "then"),
    [
        ((100, 101, 7, 103, 104), 105),
        ((100, 101, 7, 8, 9, 102, 103), 104),
        ((100, 101, 150, 151), 152),
        ((7, 8, 100, 101), 102),
    ],
    ids=["replaced", "put in", "left out", "another beginning"],
)
def test_an_edit_costs_two_tokens_and_the_place_is_found_again(written: tuple[int, ...], then: int) -> None:
    """There is no guess from the departure to the second token that is as expected again."""
    assert after(*written[:-1]).guess(1) == ()
    assert after(*written).guess(1) == (then,)


def test_the_longest_run_decides_and_then_the_nearest_place_ahead() -> None:
    """A pair that stands in many places is met where the text was last; three ids in order beat it."""
    repeated = (1, 2, 3, 9, 1, 2, 4, 9, 1, 2, 5, 9, 8, 1, 2, 6)

    assert after(1, 2, 3, 9, 7, 1, 2, expected=repeated).guess(1) == (4,)
    assert after(1, 2, 3, 9, 7, 8, 1, 2, expected=repeated).guess(1) == (6,)
    assert after(*repeated[:14], 1, 2, expected=repeated).guess(1) == (6,)
    assert after(*repeated, 9, 1, 2, expected=repeated).guess(1) in {(4,), (5,)}


def test_an_edited_text_is_guessed_but_for_its_edits() -> None:
    """60 edits of one to three tokens in 3 000: over 9 of 10 tokens are guessed right."""
    chance = random.Random(1)
    expected = [chance.randrange(500) for _ in range(3000)]
    text = list(expected)
    for _ in range(60):
        place = chance.randrange(len(text))
        text[place : place + chance.randrange(4)] = [
            chance.randrange(500) for _ in range(chance.randrange(4))
        ]
    made, right = ExpectedText(expected), 0
    for token_id in text:
        right += made.guess(1) == (token_id,)
        made.extend([token_id])

    assert right > 0.9 * len(text)


def test_what_follows_a_prompt_is_tokenised_as_it_stands_there() -> None:
    """A piece that begins within the prompt is none of the expected ids; special tokens are none either."""

    class Pairs(TableVocabulary):
        """Two equal letters are one token; a special token begins every text."""

        def encode(self, text: str) -> list[int]:
            ids, place = [0], 0
            while place < len(text):
                twice = text[place : place + 2] == 2 * text[place]
                ids.append(ord(text[place]) + 1000 * twice)
                place += 1 + twice
            return ids

    vocabulary = Pairs(8, special_tokens={"<s>": 0})
    a, b = ord("a"), ord("b")

    assert expected_ids(vocabulary, "b", "aab") == (a + 1000, b)
    assert expected_ids(vocabulary, "ba", "ab") == (a + 1000, b)
    assert expected_ids(vocabulary, "b" * 200, "ba") == (b, a)
    assert expected_ids(vocabulary, "ab", "") == ()
