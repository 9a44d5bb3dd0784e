"""Guesses by copying: the longest run of ids that was met before decides, and the latest place of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thinwire.common.session.copying import MAX_TOKENS, CopiedText


def test_what_followed_the_last_time_is_guessed() -> None:
    """The text ends in 1 2 for the second time."""
    assert CopiedText([1, 2, 3, 4, 9, 1, 2]).guess(3) == (3, 4, 9)
    assert CopiedText([1, 2, 3, 1, 2, 5, 1, 2]).guess(2) == (5, 1)


def test_a_longer_run_decides_over_a_later_place() -> None:
    """1 2 stood last before 5, 7 1 2 before 3."""
    assert CopiedText([7, 1, 2, 3, 8, 1, 2, 5, 7, 1, 2]).guess(1) == (3,)


def test_nothing_is_guessed_where_the_end_is_new() -> None:
    """One id alone is no run, and a text's own end is no place to copy from."""
    assert CopiedText([]).guess(4) == ()
    assert CopiedText([1]).guess(4) == ()
    assert CopiedText([1, 2, 3, 2]).guess(4) == ()


def test_a_repeated_text_copies_itself() -> None:
    """The guess is cut where the text ends."""
    text = CopiedText([5, 6])
    text.extend([5, 6])
    assert text.guess(8) == (5, 6)


@given(st.lists(st.integers(0, 2), max_size=40), st.integers(0, 5))
def test_a_guess_is_a_piece_of_the_text_that_followed_the_same_run(ids: list[int], most: int) -> None:
    """By its definition, looked up the slow way."""
    expected: tuple[int, ...] = ()
    for length in (4, 3, 2):
        places = [i for i in range(length, len(ids)) if ids[i - length : i] == ids[-length:]]
        if len(ids) > length and places:
            expected = tuple(ids[places[-1] :][:most])
            break

    assert CopiedText(ids).guess(most) == expected


def test_memory_is_bounded_and_the_latest_text_is_still_copied() -> None:
    """Whatever the length of the text."""
    text = CopiedText([])
    for n in range(5 * MAX_TOKENS):
        text.extend([n])
        assert len(text._ids) <= MAX_TOKENS
        assert len(text._behind) <= 3 * MAX_TOKENS
    text.extend([5 * MAX_TOKENS - 10, 5 * MAX_TOKENS - 9])

    assert text.guess(2) == (5 * MAX_TOKENS - 8, 5 * MAX_TOKENS - 7)
