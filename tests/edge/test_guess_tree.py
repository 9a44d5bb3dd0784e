"""The edge's guesses: a trunk, branches where it may be wrong, and what a draft in progress is worth."""

from __future__ import annotations

from thinwire.edge.guess_tree import LEAST_BRANCH, MAX_BRANCHES, Guess, GuessTree

NONE: frozenset[int] = frozenset()


def tree(*guesses: tuple[int, float, int | None], sent: int = 0) -> GuessTree:
    """A tree with this trunk."""
    made = GuessTree()
    made.trunk = [Guess(*guess) for guess in guesses]
    made.sent = sent
    return made


def drafted(made: GuessTree, path: list[Guess], *token_ids: int, overtaken: tuple[int, ...] = ()) -> None:
    """A draft behind the path, begun and done."""
    made.begin(path)
    made.join([Guess(token_id, 0.9, None) for token_id in token_ids], overtaken)


def ids(guesses: list[Guess]) -> list[int]:
    return [guess.token_id for guess in guesses]


def test_what_is_written_shortens_the_trunk_or_ends_it() -> None:
    made = tree((1, 0.9, 5), (2, 0.9, 6), sent=2)
    made.written(1)
    assert (ids(made.trunk), made.sent) == ([2], 1)
    made.written(9)
    assert (ids(made.trunk), made.sent) == ([], 0)


def test_the_likeliest_branch_is_behind_the_least_certain_guess() -> None:
    """Its chance is that all before it are right, this one is wrong, and its runner-up is right."""
    made = tree((1, 0.9, 5), (2, 0.5, 6), (3, 0.9, 7))
    path, chance = made.next_branch(NONE)
    assert ids(path) == [1, 6]
    assert abs(chance - 0.9 * 0.5 * made.runner_up_rate.value) < 1e-12
    assert ids(made.next_branch(frozenset([6]))[0]) == [5]
    assert made.next_branch(frozenset([5, 6, 7])) == ([], 0.0)
    assert tree((1, 0.9, None)).next_branch(NONE) == ([], 0.0)


def test_a_branch_is_the_trunk_where_its_runner_up_is_written() -> None:
    """And what was sent of it is at the cloud."""
    for is_sent in (False, True):
        made = tree((1, 0.9, 5), (2, 0.5, 6), (3, 0.9, 7), sent=3)
        drafted(made, made.next_branch(NONE)[0], 8, 9)
        if is_sent:
            unsent, branches = made.take_unsent(64)
            assert (unsent, {place: ids(branch) for place, branch in branches.items()}) == (
                [],
                {1: [6, 8, 9]},
            )
        made.written(1)
        assert made.written(6) is is_sent
        assert ids(made.trunk) == [8, 9]
        assert made.sent == (2 if is_sent else 0)


def test_branches_go_with_the_guess_that_was_right() -> None:
    """Places move with the trunk; a branch whose place was written otherwise is gone."""
    made = tree((1, 0.5, 5), (2, 0.5, 6), (3, 0.9, 7))
    for _ in range(2):
        drafted(made, made.next_branch(NONE)[0], 8)
    made.written(1)
    ((place, branch),) = made.take_unsent(64)[1].items()
    assert (place, ids(branch)) == (0, [6, 8])
    assert ids(made.next_branch(NONE)[0]) == [2, 7]


def test_a_draft_that_was_overtaken_counts_as_far_as_it_was_right() -> None:
    """Of a trunk and of a branch."""
    made = tree((1, 0.9, 5))
    made.begin(made.trunk)
    for token_id in (1, 2):
        made.written(token_id)
    made.join([Guess(2, 0.9), Guess(3, 0.9)], (2,))
    assert ids(made.trunk) == [3]

    turned = tree((1, 0.9, 5))
    turned.begin(turned.next_branch(NONE)[0])
    for token_id in (5, 8):
        turned.written(token_id)
    assert not turned.is_stale
    turned.join([Guess(8, 0.9), Guess(9, 0.9)], (8,))
    assert ids(turned.trunk) == [9]


def test_a_draft_behind_a_wrong_guess_is_stale() -> None:
    """It is known before the draft is done, and nothing of it is kept."""
    made = tree((1, 0.9, 5))
    made.begin(made.trunk)
    assert not made.is_stale
    made.written(4)
    assert made.is_stale
    made.join([Guess(2, 0.9)], ())
    assert made.trunk == []


def test_branches_are_bounded() -> None:
    made = tree(*[(n, 0.9, 100 + n) for n in range(20)])
    for _ in range(MAX_BRANCHES):
        path, chance = made.next_branch(NONE)
        assert chance > LEAST_BRANCH / 10
        drafted(made, path, 50)
    assert made.next_branch(NONE) == ([], 0.0)


def test_a_lost_cloud_is_told_all_again() -> None:
    made = tree((1, 0.9, 5), (2, 0.9, 6), sent=2)
    drafted(made, made.next_branch(NONE)[0], 8)
    made.take_unsent(64)
    assert not made.has_unsent
    made.forget_sent()
    unsent, branches = made.take_unsent(64)
    assert (ids(unsent), len(branches)) == ([1, 2], 1)


def test_a_message_holds_so_many_guesses_and_the_rest_goes_with_the_next() -> None:
    """The trunk first; a branch goes whole, and once the guess for its place has gone."""
    made = tree(*[(n, 0.5, 100 + n) for n in range(6)])
    for _ in range(2):
        drafted(made, made.next_branch(NONE)[0], 8)
    taken = []
    while made.has_unsent:
        unsent, branches = made.take_unsent(4)
        taken.append((ids(unsent), sorted(branches)))
    assert taken == [([0, 1, 2, 3], []), ([4, 5], [0]), ([], [1])]


def test_what_follows_unlikely_guesses_is_worth_little() -> None:
    """The chance of what went up is the product of its guesses'."""
    made = tree((1, 0.5, None), (2, 0.5, None), (3, 0.1, None), sent=2)
    assert abs(made.sent_chance - 0.25) < 1e-12
    assert tree((1, 0.5, None)).sent_chance == 1.0
