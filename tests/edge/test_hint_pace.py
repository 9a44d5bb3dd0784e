"""When guesses go up: in time for the next pass, once for each, at once where the cloud may be waiting."""

from __future__ import annotations

from thinwire.common.session.messages import Written
from thinwire.edge.guess_tree import Guess, GuessTree
from thinwire.edge.hint_pace import HintPace

PASS_S = 0.06


def guesses(sent: int, count: int = 4, chance: float = 0.95) -> GuessTree:
    """A trunk, of which so many went up."""
    made = GuessTree()
    made.trunk = [Guess(n, chance) for n in range(count)]
    made.sent = sent
    return made


def learnt(round_trip_s: float, draft_s: float = 0.01) -> HintPace:
    """Passes of 60 ms, the last of which came down at 10.0."""
    pace = HintPace()
    pace.opened(9.0 - round_trip_s, 9.0)
    for n in range(6, -1, -1):
        pace.heard(Written(n, (1,), 0, 0), 10.0 - n * PASS_S)
    pace.draft_begins(9.5)
    pace.draft_ends(9.5 + draft_s)
    return pace


def first_time(pace: HintPace, tree: GuessTree) -> float:
    """Milliseconds behind the last pass from which on it is time, while drafting goes on."""
    return next(ms for ms in range(200) if pace.is_time(tree, 10.0 + ms / 1000, is_drafting=True))


def test_before_times_are_known_guesses_go_up_at_once() -> None:
    pace = HintPace()
    pace.opened(1.0, 1.04)
    assert pace.is_time(guesses(0), 1.05, is_drafting=True)


def test_a_cloud_that_may_be_waiting_gets_a_guess_at_once() -> None:
    """It waits for half a pass at most, so not where a message and its answer take longer."""
    assert first_time(learnt(0.005), guesses(0)) == 0
    assert first_time(learnt(0.04), guesses(0)) > 0


def test_guesses_go_up_when_the_next_draft_would_be_too_late() -> None:
    """At 40 ms a pass that begins 60 ms behind the last one is reached until 20 ms behind it came down."""
    assert 20 - 10 - 4 - 2 <= first_time(learnt(0.04), guesses(0)) <= 20 - 10 - 4 + 1
    assert learnt(0.04).is_time(guesses(2), 10.001, is_drafting=False)


def test_a_pass_is_served_once() -> None:
    """What is drafted behind that waits for the next, unless nothing right is at the cloud any more."""
    pace, tree = learnt(0.04), guesses(2)
    pace.goes_up(tree, 10.01)
    tree.sent = 3
    assert not pace.is_time(tree, 10.015, is_drafting=False)
    assert pace.is_time(tree, 10.03, is_drafting=False)
    assert pace.is_time(guesses(0), 10.015, is_drafting=False)


def test_nothing_follows_what_is_unlikely_to_be_right() -> None:
    assert not learnt(0.04).is_time(guesses(4, count=6, chance=0.4), 10.01, is_drafting=False)
    assert learnt(0.04).is_time(guesses(4, count=6, chance=0.9), 10.01, is_drafting=False)


def test_the_way_is_learnt_from_what_the_cloud_says_it_had() -> None:
    """Not the time that the cloud let pass between a message and its answer."""
    pace = learnt(0.5)
    for n in range(40):
        sent_s = 11.0 + n
        pace.goes_up(guesses(0), sent_s)
        pace.heard(Written(10 + n, (1,), 0, 0, hints_heard=n + 1, heard_us=30_000), sent_s + 0.07)
    assert abs(pace.round_trip_s - 0.04) < 1e-6
    assert pace.has_answers
