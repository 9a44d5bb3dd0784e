"""A free-running session with sources besides its draft model, and a target that pauses at a stop string."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.edge.test_free_running import OPENED, Driven, asked, sent
from thinwire.common.session.messages import FinishReason, Open, Written
from thinwire.edge import events
from thinwire.edge.hint_sources import HintSources

PREDICTION = (3, 4, 5, 6) * 30


def driven(prediction: tuple[int, ...] = (), **changes: Any) -> Driven:
    """A session that has said Open."""
    made = Driven(**changes)
    made.session._sources = HintSources(prediction, may_copy=True)
    made.step(events.Connected())
    return made


def opened(made: Driven, *, copies: bool = True) -> list[Any]:
    """The answer to Open."""
    return made.step(events.OpenedReceived(replace(OPENED, copies=copies)))


def test_a_prediction_goes_up_as_the_stream_begins_and_nothing_is_drafted() -> None:
    """The target's first pass is hardly over."""
    effects = opened(driven(PREDICTION))
    ((held, ahead, ids),) = sent(effects)

    assert (held, ahead) == (3, 0)
    assert ids == PREDICTION[: len(ids)]
    assert len(ids) >= 16
    assert asked(effects) == []


def test_it_goes_on_as_it_is_used_up() -> None:
    """The next guesses begin behind those that are there."""
    made = driven(PREDICTION)
    ((_, _, first),) = sent(opened(made))
    made.now += 0.01
    ((held, ahead, more),) = sent(made.written(*PREDICTION[:17], at=3, hinted=16))

    assert (held, ahead) == (20, len(first) - 17)
    assert more == PREDICTION[len(first) : len(first) + len(more)]


def test_where_the_prediction_is_wrong_the_draft_model_drafts() -> None:
    """And what was drafted goes up from the text's end."""
    made = driven(PREDICTION)
    opened(made)
    effects = made.written(3, 0, at=3)
    assert asked(effects) == [(5, (0, 1, 2, 3, 0))]

    assert sent(made.drafted(1, 2)) == [(5, 0, (1, 2))]
    counted = made.session.statistics
    assert counted.accepted_prediction_tokens == 1
    assert counted.rejected_prediction_tokens > 10


def test_a_draft_that_ends_when_a_source_speaks_is_not_sent() -> None:
    """What was drafted was wrong; the prediction has found its place meanwhile and speaks."""
    made = driven((5, 6, *PREDICTION))
    opened(made)
    made.written(3, 4, at=3)
    assert made.draft is not None
    assert sent(made.written(5, 6, at=5)) == []

    ((held, ahead, ids),) = sent(made.drafted(1, 2))
    assert (held, ahead) == (7, 0)
    assert ids == PREDICTION[4 : 4 + len(ids)]


def test_a_draft_that_a_source_has_spoken_over_is_said_again_from_the_texts_end() -> None:
    """The cloud has dropped it for what the source said."""
    made = driven((0, 0, 1, 2, 7, 7, 7, 7))
    opened(made)
    made.written(4, at=3)
    assert sent(made.drafted(1, 2, 3, 4)) == [(4, 0, (1, 2, 3, 4))]
    made.session._guesses.calibration.hit_rate.value = 0.2
    assert sent(made.written(1, 2, at=4)) == [(6, 0, (7, 7, 7))]

    made.session._guesses.calibration.hit_rate.value = 0.9
    assert sent(made.written(3, at=6)) == [(7, 0, (4,))]


def test_without_a_draft_the_text_is_copied_where_the_cloud_does_not() -> None:
    """With a cloud that copies nothing goes up but acknowledgements."""
    for copies in (True, False):
        made = driven(draft_length=0)
        opened(made, copies=copies)
        text, sent_ids = (4, 5, 6, 3) * 12, []
        for n, token_id in enumerate(text):
            made.now += 0.01
            sent_ids += [i for _, _, ids in sent(made.written(token_id, at=3 + n)) for i in ids]
        assert made.draft is None
        assert bool(sent_ids) is not copies


def test_a_target_that_pauses_is_told_at_once_that_the_text_goes_on() -> None:
    """With what there is to say besides; the edge alone ends a text."""
    made = driven(draft_length=0)
    opened(made)
    assert sent(made.written(4, at=3)) == []

    effects = made.step(events.WrittenReceived(Written(4, (5,), 0, 0, pauses=True)))
    assert sent(effects) == [(5, 0, ())]


def test_a_text_that_ends_at_its_stop_string_closes() -> None:
    """Stop strings are said in Open."""
    made = Driven(stop=("fg",))
    (message,) = sent(made.step(events.Connected()))
    assert isinstance(message, Open)
    assert message.free_run.stop == ("fg",)
    opened(made)
    made.session._committed._text._stop = ("fg",)
    effects = made.step(events.WrittenReceived(Written(3, (5, 6), 0, 0, pauses=True)))

    (finish,) = [effect for effect in effects if isinstance(effect, events.Finish)]
    assert finish.reason is FinishReason.STOP
