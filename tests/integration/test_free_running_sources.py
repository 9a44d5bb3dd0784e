"""Sources of hints and stop strings under schedules of chance: one text, whatever is expected or found."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from fakes import random_law
from free_running_pair import PROMPT, FinishReason, FreeRunningPair, coupled_request, letters, own_text
from thinwire.common.law.random_streams import KeyedDraws

SIZE = 6
TARGET = random_law(SIZE, 1)
TOKENS = 60
TEXT = own_text(TARGET, KeyedDraws(7), TOKENS)
PREDICTIONS = {
    "none": (),
    "the text": TEXT,
    "an edit": (*TEXT[:20], 5, 4, *TEXT[24:40], *TEXT[44:]),
    "another text": own_text(TARGET, KeyedDraws(8), TOKENS),
    "far too long": TEXT * 5,
}


@pytest.mark.parametrize("expected", PREDICTIONS)
@pytest.mark.parametrize("draft_length", [0, 4])
def test_no_source_changes_a_token(expected: str, draft_length: int) -> None:
    """40 schedules each, with cuts, a cloud that forgets, and copies at either end."""
    for seed in range(40):
        chance = random.Random(seed)
        pair = FreeRunningPair(
            coupled_request(max_tokens=TOKENS, draft_length=draft_length, min_block_acceptance=0.1),
            TARGET,
            random_law(SIZE, 2),
            chance,
            cuts=seed % 4,
            evictions=seed % 3,
            copies=seed % 2 == 0,
            edge_copies=seed % 5 < 3,
            prediction=PREDICTIONS[expected],
            weights={"work": chance.choice([0.1, 1, 10])},
        )
        assert pair.run() == TEXT
        assert pair.finish is not None
        assert pair.finish.reason is FinishReason.LENGTH


def test_a_right_prediction_saves_most_passes_and_an_edited_one_nearly_as_many() -> None:
    """And what was counted of it is at most what went up."""
    text = own_text(TARGET, KeyedDraws(7), 300)
    edited = (*text[:100], 5, 4, *text[104:200], *text[206:])
    passes = {}
    for name, prediction in (("none", ()), ("right", text), ("edited", edited)):
        request = coupled_request(max_tokens=300, draft_length=0)
        pair = FreeRunningPair(
            request, TARGET, TARGET, random.Random(3), prediction=prediction, weights={"work": 0.05}
        )
        assert pair.run() == text
        passes[name] = pair.passes
        counted = pair.edge.statistics
        accepted, rejected = counted.accepted_prediction_tokens, counted.rejected_prediction_tokens
        assert accepted + rejected <= pair.hints_sent
        assert (accepted > 150) is (name != "none")

    assert passes["none"] == 300
    assert passes["right"] < 40
    assert passes["edited"] < 80


@pytest.mark.parametrize("cloud", ["as the edge", "finds stops everywhere", "finds none", "another text"])
def test_a_stop_string_ends_the_text_where_the_edge_ends_it(cloud: str) -> None:
    """
    60 schedules each: stop strings out of the text and others, with a cloud that decodes as the edge does or
    otherwise. No token is missing and none too many; one that decodes alike makes no pass behind the stop.
    """
    decodes = {
        "as the edge": letters,
        "finds stops everywhere": lambda ids: letters(ids) + "." * len(ids),
        "finds none": lambda ids: "",
        "another text": lambda ids: letters(ids)[::-1],
    }
    text, stopped = letters(TEXT), 0
    for seed in range(60):
        chance = random.Random(seed)
        begin = chance.randrange(TOKENS - 6)
        stop = text[begin : begin + chance.randrange(2, 6)] if seed % 3 else "zzz"
        stops = (stop, ".") if cloud == "finds stops everywhere" else (stop,)
        pair = FreeRunningPair(
            coupled_request(max_tokens=TOKENS, draft_length=4, min_block_acceptance=0.1, stop=stops),
            TARGET,
            random_law(SIZE, 2),
            chance,
            cuts=seed % 3,
            evictions=seed % 2,
            finds_stops=True,
            cloud_decode=decodes[cloud],
            prediction=TEXT if seed % 2 else (),
        )
        end = text.index(stop) + len(stop) if stop in text else TOKENS
        assert pair.run() == TEXT[:end]
        assert pair.finish is not None
        assert pair.finish.reason is (FinishReason.STOP if stop in text else FinishReason.LENGTH)
        stopped += stop in text
    assert stopped == 40


def test_no_pass_is_made_behind_a_stop_string() -> None:
    """A hundred texts without hints: one pass a token, up to the one that ends the stop string."""
    text = letters(TEXT)
    for seed in range(100):
        chance = random.Random(seed)
        begin = chance.randrange(TOKENS - 6)
        stop = text[begin : begin + chance.randrange(2, 6)]
        request = coupled_request(max_tokens=TOKENS, draft_length=0, stop=(stop,))
        end = text.index(stop) + len(stop)
        found, missed = (
            FreeRunningPair(request, TARGET, TARGET, random.Random(seed), finds_stops=finds)
            for finds in (True, False)
        )
        assert found.run() == missed.run() == TEXT[:end]
        assert found.passes == end
        assert found.cloud is not None
        assert found.cloud.committed_length == len(PROMPT) + end


def test_a_session_opened_again_looks_for_stop_strings_behind_its_new_prompt() -> None:
    """A stop string that begins in what is then the prompt is the edge's to find."""
    request = coupled_request(max_tokens=TOKENS, draft_length=0, stop=(letters(TEXT[30:34]),))
    for seed in range(30):
        pair = FreeRunningPair(
            replace(request, seed=7),
            TARGET,
            TARGET,
            random.Random(seed),
            evictions=4,
            cuts=2,
            finds_stops=True,
        )
        assert pair.run() == TEXT[: letters(TEXT).index(letters(TEXT[30:34])) + 4]
