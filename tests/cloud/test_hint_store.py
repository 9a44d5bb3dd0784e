"""Hints: joined, held against what was written, dropped when stale, priced by how often they were right."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from thinwire.cloud.hint_store import MAX_HINTS, Hint, HintStore


def hints(token_ids: Sequence[int], claim: float = 0.75) -> list[Hint]:
    """Guesses of which so much is claimed."""
    return [Hint(token_id, claim) for token_id in token_ids]


def store(*given: tuple[list[int], int, int], written: tuple[int, ...] = ()) -> HintStore:
    """A store of a session with 10 committed tokens; hints are (ids, base, held)."""
    made = HintStore([0] * 10, copies=False)
    made.committed(written)
    for ids, base, held in given:
        made.add(hints(ids), base_length=base, held_length=held)
    return made


def test_hints_join_at_the_end_of_those_before_them() -> None:
    """The second begins where the first ends; a gap is none."""
    assert store(([1, 2], 10, 10), ([3], 12, 10)).rows(8).token_ids == (1, 2, 3)
    assert store(([1, 2], 10, 10), ([3], 13, 10)).rows(8).token_ids == (1, 2)
    assert store(([1, 2], 10, 10), ([7, 8], 11, 10)).rows(8).token_ids == (1, 7, 8)


def test_hints_wait_for_the_target_to_come_by() -> None:
    """What it writes uses them up as long as it agrees, and empties the store when it does not."""
    made = store(([1, 2, 3], 10, 10))
    made.committed([1])
    assert made.rows(8).token_ids == (2, 3)
    made.committed([9])
    assert made.rows(8).token_ids == ()


def test_a_late_hint_counts_as_far_as_it_was_right() -> None:
    """Two of its tokens are written already."""
    assert store(([1, 2, 3, 4], 10, 10), written=(1, 2)).rows(8).token_ids == (3, 4)
    assert store(([1, 9, 3, 4], 10, 10), written=(1, 2)).rows(8).token_ids == ()
    assert store(([1, 2], 10, 10), written=(1, 2)).rows(8).token_ids == ()


def test_what_was_drafted_on_a_wrong_guess_is_dropped() -> None:
    """Until the edge has seen the token that was written instead."""
    made = store(([1, 2], 10, 10))
    made.committed([1, 9])
    made.add(hints([3, 4]), base_length=12, held_length=11)
    assert made.rows(8).token_ids == ()
    made.add(hints([3, 4]), base_length=12, held_length=12)
    assert made.rows(8).token_ids == (3, 4)


def test_saying_again_what_was_written_makes_no_hint_better() -> None:
    """A position counts once, however often and late it is named."""
    made = store(written=(1, 2, 3, 4))
    before = made.hit_rate.value
    for _ in range(40):
        made.add(hints([1, 2, 3, 4]), base_length=10, held_length=10)
    once = store(([1, 2, 3, 4], 10, 10), written=(1, 2, 3, 4)).hit_rate.value
    assert before < made.hit_rate.value == once


def test_useless_hints_fade_and_good_ones_come_back() -> None:
    """Within 32 tokens no row is spent; the rate is learnt without rows, so it rises again."""
    made = store()
    for n in range(32):
        made.add(hints([5, 5]), base_length=10 + n, held_length=10 + n)
        made.committed([6])
    made.add(hints([5, 5]), base_length=42, held_length=42)
    assert made.rows(8).token_ids == ()
    for n in range(16):
        made.add(hints([6]), base_length=42 + n, held_length=42 + n)
        made.committed([6])
    made.add(hints([6, 6, 6]), base_length=58, held_length=58)
    assert len(made.rows(8).token_ids) >= 1


def test_a_branch_waits_where_the_hint_was_wrong() -> None:
    """It is what is fed next; where the hint was right it is gone, and what else was written helps nobody."""

    def branched() -> HintStore:
        made = store(([1, 2, 3], 10, 10))
        made.add_branch(hints([7, 8, 9], 0.4), base_length=11, held_length=10)
        return made

    turned, straight, lost = branched(), branched(), branched()
    turned.committed([1, 7])
    assert turned.rows(8).token_ids == (8, 9)
    straight.committed([1, 2])
    assert straight.rows(8).token_ids == (3,)
    lost.committed([1, 4])
    assert lost.rows(8).token_ids == ()


def test_hints_behind_a_branch_that_was_taken_have_to_know_of_it() -> None:
    """The edge that has not seen the turn goes on with the trunk."""
    made = store(([1, 2, 3], 10, 10))
    made.add_branch(hints([7, 8], 0.4), base_length=10, held_length=10)
    made.committed([7])
    made.add(hints([4]), base_length=13, held_length=10)
    assert made.rows(8).token_ids == (8,)
    made.add(hints([5]), base_length=12, held_length=11)
    assert made.rows(8).token_ids == (8, 5)


def test_a_late_branch_is_held_against_what_was_written() -> None:
    """It counts if the hint for its place was wrong, it is right itself, and nothing newer waits."""

    def missed(*written: int) -> HintStore:
        made = store(([1, 2], 10, 10))
        made.committed(written)
        return made

    right, wrong, late, replaced = missed(7), missed(6), missed(7, 8), missed(7)
    for made in (right, wrong, late):
        made.add_branch(hints([7, 8, 9], 0.4), base_length=10, held_length=10)
    replaced.add(hints([4]), base_length=11, held_length=11)
    replaced.add_branch(hints([7, 8, 9], 0.4), base_length=10, held_length=10)
    assert [m.rows(8).token_ids for m in (right, wrong, late, replaced)] == [(8, 9), (), (9,), (4,)]


def test_branches_share_a_pass_where_a_row_is_cheap_enough() -> None:
    """As a tree behind the last committed token; a model that takes chains is fed the trunk alone."""
    made = HintStore([0] * 10, copies=False, takes_trees=True)
    chain = HintStore([0] * 10, copies=False)
    for one in (made, chain):
        one.add(hints([1, 2, 3]), base_length=10, held_length=10)
        one.add_branch(hints([7, 8], 0.4), base_length=11, held_length=10)
    assert chain.rows(8) == ((1, 2, 3), False, ())
    assert made.rows(8) == ((1, 2, 3, 7), False, (0, 1, 2, 1))
    assert made.rows(3) == ((1, 2, 3), False, ())


def test_a_branch_is_fed_beside_the_hint_for_its_place_and_never_in_its_stead() -> None:
    """However likely it is: else a right hint would count as a wrong one."""
    made = HintStore([0] * 10, copies=False, takes_trees=True)
    trunk = [*hints([1, 2, 3], 0.9), *hints([4], 0.2)]
    made.add(trunk, base_length=10, held_length=10)
    made.add_branch(hints([7], 0.9), base_length=13, held_length=10)
    assert made.rows(4) == ((1, 2, 3), False, ())
    assert made.rows(5) == ((1, 2, 3, 4, 7), False, (0, 1, 2, 3, 3))


def test_the_text_is_copied_where_no_hint_waits() -> None:
    """Hints go first; a copy that is never right fades as hints do."""
    made = HintStore([1, 2, 3, 1, 2])
    assert made.rows(8).token_ids == (3, 1, 2)
    made.add(hints([5]), base_length=5, held_length=5)
    assert made.rows(8).token_ids == (5,)
    for n in range(40):
        made.committed([1, 2, 4 + n])
    made.committed([1, 2])
    assert made.rows(8).token_ids == ()
    assert HintStore([1, 2, 3, 1, 2], copies=False).rows(8).token_ids == ()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.lists(st.integers(0, 3), max_size=70), st.integers(0, 300), st.integers(0, 300)),
            st.lists(st.integers(0, 3), min_size=1, max_size=9),
        ),
        max_size=30,
    )
)
def test_whatever_comes_memory_is_bounded_and_rows_are_what_was_sent(steps: list) -> None:
    """Garbage of any shape: no error, at most MAX_HINTS tokens."""
    made = HintStore(range(10))
    for step in steps:
        if isinstance(step, tuple):
            ids, base, held = step
            made.add(hints(ids), base_length=base, held_length=min(held, base))
        else:
            made.committed(step)
        assert len(made.rows(1000).token_ids) <= MAX_HINTS
        assert 0 <= made.hit_rate.value <= 1
