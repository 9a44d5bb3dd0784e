"""Which source of guesses speaks, how far ahead it sends, and what is counted of a prediction."""

from __future__ import annotations

import pytest

from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge.hint_sources import MOST_AHEAD, MOST_IN_FLIGHT, HintSources

EXPECTED = tuple(range(1000, 1400))
ROOM = 10_000


class Told:
    """Sources, and the statistics of their text."""

    def __init__(self, **options: object) -> None:
        self.sources = HintSources(**options)  # type: ignore[arg-type]
        self.statistics = GenerationStatistics()

    def written(self, *token_ids: int) -> None:
        """What came down."""
        self.sources.written(token_ids, self.statistics)

    @property
    def counted(self) -> tuple[int, int]:
        """Of the prediction, accepted and rejected."""
        s = self.statistics
        return s.accepted_prediction_tokens, s.rejected_prediction_tokens


def test_nothing_to_say_leaves_the_draft_alone() -> None:
    """Without a prediction and copies no source speaks, not even where there is no draft."""
    told = Told(may_copy=True)
    told.sources.opened((1, 2, 3, 1, 2), cloud_copies=True)

    assert not told.sources.speak(0.75)
    assert not told.sources.speak(0.0)
    assert told.sources.next_hints(0, ROOM) == (0, ())


def test_a_prediction_speaks_at_once_and_far_ahead_of_what_is_in_flight() -> None:
    """What two passes can use, and what is written meanwhile; never more than the cloud keeps."""
    told = Told(prediction=EXPECTED)
    assert told.sources.speak(0.75)
    ahead, first = told.sources.next_hints(0, ROOM)
    assert ahead == 0
    assert first == EXPECTED[: len(first)]
    assert 16 <= len(first) <= 32
    assert told.sources.next_hints(0, ROOM) == (len(first), ())

    sent = len(first)
    while step := told.sources.next_hints(1000, ROOM)[1]:
        assert step == EXPECTED[sent : sent + len(step)]
        assert len(step) <= 64
        sent += len(step)
    assert sent > MOST_IN_FLIGHT

    told.written(*EXPECTED[:sent])
    told.sources.speak(0.75)
    more = [told.sources.next_hints(1000, ROOM)[1] for _ in range(4)]
    assert sum(map(len, more)) == MOST_AHEAD


def test_what_is_sent_is_bounded_by_the_room_of_the_text() -> None:
    """Nothing goes up that no text can hold."""
    told = Told(prediction=EXPECTED)
    assert told.sources.speak(0.0)

    assert told.sources.next_hints(50, 3, at_once=True) == (0, EXPECTED[:3])
    assert Told(prediction=EXPECTED).sources.next_hints(50, 0) == (0, ())


def test_a_wrong_guess_empties_the_chain_and_is_counted_with_those_behind_it() -> None:
    """Accepted and rejected are of what went up alone."""
    told = Told(prediction=EXPECTED)
    told.sources.speak(0.0)
    sent = len(told.sources.next_hints(0, ROOM)[1])
    told.written(*EXPECTED[:5], 7)

    assert told.counted == (5, sent - 5)
    assert not told.sources.speak(0.75)
    told.written(8, 9)
    assert told.counted == (5, sent - 5)


def test_a_source_that_finds_its_place_again_speaks_again_with_few_guesses_first() -> None:
    """What it is worth just behind an error is judged apart, so that errors there do not silence the rest."""
    told = Told(prediction=EXPECTED)
    told.sources.speak(0.85)
    told.sources.next_hints(0, ROOM)
    told.written(*EXPECTED[:60], 7, *EXPECTED[61:63])
    assert told.sources.speak(0.0)
    ahead, few = told.sources.next_hints(0, ROOM, at_once=True)
    assert (ahead, few) == (0, EXPECTED[63 : 63 + len(few)])
    assert 1 <= len(few) <= 4
    told.written(*EXPECTED[63:75])

    assert told.sources.speak(0.85)
    assert len(told.sources.next_hints(0, ROOM)[1]) > 16


def test_a_useless_prediction_falls_silent_and_comes_back_by_itself() -> None:
    """Judged at every token whether it speaks or not, it costs nothing while it is silent."""
    wrong = tuple(n % 2 for n in range(400))
    told = Told(prediction=(*wrong, *EXPECTED))
    silent_from = None
    for token in range(100):
        speaks = told.sources.speak(0.0)
        silent_from = silent_from if speaks or silent_from is not None else token
        told.sources.next_hints(0, ROOM)
        told.written(0, 0, 1, 5)  # 0, 1 is everywhere, and 0 always follows
    assert silent_from is not None
    assert not told.sources.speak(0.0)

    told.written(*EXPECTED[:20])
    assert told.sources.speak(0.0)
    assert told.sources.speak(0.85)


@pytest.mark.parametrize(("cloud_copies", "may_copy"), [(True, True), (False, False), (False, True)])
def test_the_text_is_copied_here_only_where_the_cloud_does_not(cloud_copies: bool, may_copy: bool) -> None:
    """And where it is not switched off."""
    told = Told(may_copy=may_copy)
    told.sources.opened((1, 2, 3, 4, 5, 1, 2), cloud_copies=cloud_copies)

    assert told.sources.speak(0.0) is (may_copy and not cloud_copies)
    if may_copy and not cloud_copies:
        assert told.sources.next_hints(0, ROOM, at_once=True) == (0, (3, 4))
        assert not told.sources.speak(0.75), "a draft that is better than copies are at first drafts"


def test_a_lost_stream_makes_everything_unsent() -> None:
    """What went up before is said again, from the text's end."""
    told = Told(prediction=EXPECTED)
    told.sources.speak(0.0)
    sent = told.sources.next_hints(0, ROOM)[1]
    told.written(*EXPECTED[:3])
    told.sources.opened((), cloud_copies=True)

    ahead, again = told.sources.next_hints(0, ROOM)
    assert (ahead, again[: len(sent)]) == (0, EXPECTED[3 : 3 + len(sent)])


def test_what_changes_its_mind_is_judged_before_it_says_more() -> None:
    """A copy's source may change within a chain; the guesses that went up stand."""
    told = Told(may_copy=True)
    prompt = (1, 2, 3, 4, 5, 10, 11, 9, 2, 3, 4, 5, 20, 21, 1, 2, 3, 4)
    told.sources.opened(prompt, cloud_copies=False)
    assert told.sources.speak(0.0)
    assert told.sources.next_hints(0, ROOM, at_once=True) == (0, (5, 10))
    told.written(5)  # 2, 3, 4, 5 stood last before 20

    assert told.sources.speak(0.0)
    assert told.sources.next_hints(0, ROOM, at_once=True) == (1, ())
    told.written(20)
    assert told.sources.speak(0.0)
    assert told.sources.next_hints(0, ROOM, at_once=True)[1][:2] == (21, 1)
