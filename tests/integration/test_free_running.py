"""The free-running conversation: one text a seed, whatever is guessed and whenever it arrives."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from fakes import random_law
from free_running_pair import PROMPT, FinishReason, FreeRunningPair, coupled_request, own_text
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.session.messages import Hints

SIZE = 6
TARGET = random_law(SIZE, 1)
DRAFTS = {"the target itself": TARGET, "another law": random_law(SIZE, 2)}
TOKENS = 40


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("length", [0, 1, 4, 16])
def test_no_schedule_changes_a_token(draft: str, length: int) -> None:
    """60 schedules each, with cuts and a cloud that forgets: the text is that of the target's races."""
    expected, hints, waits = own_text(TARGET, KeyedDraws(7), TOKENS), 0, 0
    for seed in range(60):
        chance = random.Random(seed)
        pair = FreeRunningPair(
            coupled_request(max_tokens=TOKENS, draft_length=length, min_block_acceptance=0.1),
            TARGET,
            DRAFTS[draft],
            chance,
            cuts=seed % 4,
            copies=seed % 2 == 0,
            evictions=seed % 3,
            weights={"work": chance.choice([0.1, 1, 10]), "drafted": chance.choice([0.1, 1, 10])},
        )
        assert pair.run() == expected
        assert pair.finish is not None
        assert pair.finish.reason is FinishReason.LENGTH
        hints, waits = hints + pair.hints_sent, waits + pair.waits
    assert (hints > 0) is (waits > 0) is (length > 0)


def test_good_guesses_save_passes_and_none_costs_one_pass_a_token() -> None:
    """With the target as its own draft and a slow target, most tokens come as hints."""
    passes = {}
    for name, length in (("none", 0), ("right", 8)):
        request = coupled_request(max_tokens=200, draft_length=length, min_block_acceptance=0.0)
        pair = FreeRunningPair(request, TARGET, TARGET, random.Random(3), weights={"work": 0.05})
        assert pair.run() == own_text(TARGET, KeyedDraws(7), 200)
        passes[name] = pair.passes

    assert passes["none"] == 200
    assert passes["right"] < 70


def test_guesses_that_the_cloud_has_dropped_are_said_again() -> None:
    """As it does above a tenant's rate: the edge notices by passes that lack them."""
    request = coupled_request(max_tokens=200, draft_length=8, min_block_acceptance=0.0)
    dropped = iter([True] * 4 + [False] * 6 + [True])

    def spoil(hints: Hints) -> Hints:
        return replace(hints, draft_length=0, payload=b"") if next(dropped, False) else hints

    pair = FreeRunningPair(request, TARGET, TARGET, random.Random(3), weights={"work": 0.05}, spoil=spoil)
    assert pair.run() == own_text(TARGET, KeyedDraws(7), 200)
    assert next(dropped, None) is None
    assert pair.passes < 60


def test_a_prediction_that_the_cloud_has_dropped_is_said_again() -> None:
    """Of an edge without a draft: all of it is right, and its first messages are lost."""
    request = coupled_request(max_tokens=200, draft_length=0)
    text, dropped = own_text(TARGET, KeyedDraws(7), 200), iter([True] * 2)

    def spoil(hints: Hints) -> Hints:
        return replace(hints, draft_length=0, payload=b"") if next(dropped, False) else hints

    pair = FreeRunningPair(
        request, TARGET, TARGET, random.Random(3), weights={"work": 0.05}, spoil=spoil, prediction=text
    )
    assert pair.run() == text
    assert next(dropped, None) is None
    assert pair.passes < 60


@pytest.mark.parametrize("spoilt", ["garbage", "late base", "far ahead", "dropped", "other ids"])
def test_garbage_for_hints_changes_no_token(spoilt: str) -> None:
    """Undecodable, misplaced or wrong: rows at most."""
    chance = random.Random(1)

    def spoil(hints: Hints) -> Hints:
        match spoilt:
            case "garbage":
                return replace(hints, payload=chance.randbytes(chance.randrange(9)))
            case "late base":
                return replace(hints, ahead=max(0, hints.ahead - 1))
            case "far ahead":
                return replace(hints, ahead=hints.ahead + 3)
            case "dropped":
                return replace(hints, draft_length=0, payload=b"")
            case _:
                return replace(hints, payload=bytes([chance.randrange(SIZE)]), draft_length=1)

    request = coupled_request(max_tokens=TOKENS, draft_length=4, min_block_acceptance=0.1)
    pair = FreeRunningPair(request, TARGET, TARGET, random.Random(5), spoil=spoil)

    assert pair.run() == own_text(TARGET, KeyedDraws(7), TOKENS)


def test_a_useless_draft_fades_within_32_tokens() -> None:
    """A draft whose law has nothing to do with the target's costs few rows and few guesses."""
    request = coupled_request(max_tokens=400, draft_length=4, min_block_acceptance=0.2)
    wrong = lambda prefix: random_law(SIZE, 3)((*prefix, 1, 2, 3))[::-1]  # noqa: E731
    sharp = lambda law: lambda prefix: law(prefix) ** 8 / (law(prefix) ** 8).sum()  # noqa: E731
    target = sharp(TARGET)
    pair = FreeRunningPair(request, target, sharp(wrong), random.Random(2))
    text = pair.run()

    assert text == own_text(target, KeyedDraws(7), 400)
    assert pair.hint_rows < 100


def test_ends_are_known_to_the_cloud() -> None:
    """An end-of-text id, a stop token, a stop string; the cloud writes no further than its window."""
    text = own_text(TARGET, KeyedDraws(7), 60)
    eos = text[20]
    first = text.index(eos)
    request = coupled_request(max_tokens=60, draft_length=4)
    ended = FreeRunningPair(request, TARGET, TARGET, random.Random(1), eos_token_ids=(eos,))
    ignored = FreeRunningPair(
        replace(request, ignore_eos=True), TARGET, TARGET, random.Random(1), eos_token_ids=(eos,)
    )
    stopped = FreeRunningPair(replace(request, stop_token_ids=(eos,)), TARGET, TARGET, random.Random(1))
    letters = "".join(chr(97 + i) for i in text)
    by_text = FreeRunningPair(replace(request, stop=(letters[20:24],)), TARGET, TARGET, random.Random(1))

    assert (ended.run(), ended.finish.reason) == (text[: first + 1], FinishReason.EOS)
    assert ignored.run() == text
    assert (stopped.run(), stopped.finish.reason) == (text[: first + 1], FinishReason.STOP)
    assert by_text.run() == text[: letters.index(letters[20:24]) + 4]
    assert by_text.finish.reason is FinishReason.STOP
    assert len(PROMPT) + first + 1 == ended.cloud.committed_length
